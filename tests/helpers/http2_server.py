"""A small HTTP/2 server over TLS on loopback: answers every path with one body, counts connections and streams."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import h2.config
import h2.connection
import h2.events


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, made with the openssl command."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


class Http2Server:
    """Counts what arrives; ``body`` is the answer to everything."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.connections = 0
        self.streams = 0

    async def start(self, cert: Path, key: Path) -> asyncio.Server:
        """Listen on a free port of 127.0.0.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.set_alpn_protocols(["h2"])
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        waiting: dict[int, bytes] = {}
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived) and event.stream_id:
                    self.streams += 1
                    length = str(len(self.body))
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", length)])
                    waiting[event.stream_id] = self.body
            for stream in list(waiting):
                self._send(connection, stream, waiting)
            writer.write(connection.data_to_send())
        writer.close()

    def _send(self, connection: h2.connection.H2Connection, stream: int, waiting: dict[int, bytes]) -> None:
        """As much of a body as the flow control window lets through."""
        while waiting[stream]:
            room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            if room <= 0:
                return
            part, waiting[stream] = waiting[stream][:room], waiting[stream][room:]
            connection.send_data(stream, part, end_stream=not waiting[stream])
        del waiting[stream]
