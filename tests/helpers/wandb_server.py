"""As much of the Weights & Biases protocol as its client needs to send a run: over loopback, kept in memory.

GraphQL opens runs, artifacts and uploads; history and system figures come over the file stream; files by PUT.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Variables = dict[str, Any]


@dataclass
class Artifact:
    """What a client made of one artifact."""

    name: str
    kind: str
    aliases: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False
    used: bool = False


@dataclass
class WandbServer:
    """What came in, and whether it still answers."""

    url: str = ""
    runs: dict[str, Variables] = field(default_factory=dict)
    """Run id -> the variables with which it was opened, each time."""
    stream: dict[str, list[str]] = field(default_factory=dict)
    """Lines by file of the stream: wandb-history.jsonl, wandb-events.jsonl."""
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    down: bool = False

    def history(self) -> list[dict[str, Any]]:
        """Lines of the history, in the order in which they came."""
        return [json.loads(line) for line in self.stream.get("wandb-history.jsonl", [])]

    def answer(self, operation: str, variables: Variables) -> dict[str, Any]:
        """What GraphQL returns under ``data``."""
        found: Callable[[Variables], dict[str, Any]] | None = getattr(self, f"_{operation}", None)
        if found is None:
            self.unknown.append(operation)
            return {}
        return found(variables)

    def _Viewer(self, _: Variables) -> dict[str, Any]:
        return {"viewer": {"id": "u", "entity": "team", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: Variables) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _: Variables) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _ArtifactType(self, _: Variables) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _RunResumeStatus(self, variables: Variables) -> dict[str, Any]:
        known = variables["name"] in self.runs
        count = len(self.stream.get("wandb-history.jsonl", []))
        tail = json.dumps([json.dumps(line) for line in self.history()[-1:]])
        events = json.dumps(self.stream.get("wandb-events.jsonl", [])[-1:])
        bucket = {
            "name": variables["name"],
            "historyLineCount": count,
            "eventsLineCount": len(self.stream.get("wandb-events.jsonl", [])),
            "logLineCount": 0,
            "historyTail": tail,
            "eventsTail": events,
            "config": "{}",
            "summaryMetrics": "{}",
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }
        return {"model": {**_project(variables), "bucket": bucket if known else None}}

    def _UpsertBucket(self, variables: Variables) -> dict[str, Any]:
        name = variables["name"]
        self.opened.append(name)
        self.runs.setdefault(name, {}).update({key: value for key, value in variables.items() if value is not None})
        bucket = {
            "id": f"bucket-{name}",
            "name": name,
            "displayName": variables.get("displayName") or name,
            "description": "",
            "config": "{}",
            "sweepName": None,
            "historyLineCount": len(self.stream.get("wandb-history.jsonl", [])),
            "project": _project(variables),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, variables: Variables) -> dict[str, Any]:
        places = [{"name": name, "uploadUrl": f"{self.url}/upload/file/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": places}}

    def _CreateArtifact(self, variables: Variables) -> dict[str, Any]:
        asked = variables["input"]
        name = asked["artifactCollectionName"]
        aliases = [one["alias"] for one in asked["aliases"]]
        self.artifacts[f"id-{name}"] = Artifact(name, asked["artifactTypeName"], aliases)
        made = {"id": f"id-{name}", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": made}}

    def _CreateArtifactManifest(self, variables: Variables) -> dict[str, Any]:
        return {"createArtifactManifest": {"artifactManifest": self._manifest(variables["artifactID"])}}

    def _UpdateArtifactManifest(self, variables: Variables) -> dict[str, Any]:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(variables["artifactManifestID"])}}

    def _manifest(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "file": {"id": name, "uploadUrl": f"{self.url}/upload/manifest/{name}", "uploadHeaders": []},
        }

    def _CreateArtifactFiles(self, variables: Variables) -> dict[str, Any]:
        edges = []
        for place, one in enumerate(variables["input"]["artifactFiles"]):
            url = f"{self.url}/upload/artifact/{one['artifactID']}/{one['name']}"
            names = {"id": str(place), "name": one["name"], "displayName": one["name"], "storagePath": one["name"]}
            more: dict[str, Any] = {
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": one["artifactID"]},
            }
            edges.append({"node": {**names, **more, "uploadUrl": url}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: Variables) -> dict[str, Any]:
        self.artifacts[variables["artifactID"]].committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "0"}}}

    def _UseArtifact(self, variables: Variables) -> dict[str, Any]:
        name = variables["input"]["artifactID"]
        self.artifacts[name].used = True
        return {"useArtifact": {"artifact": self._described(name)}}

    def _ArtifactByID(self, variables: Variables) -> dict[str, Any]:
        return {"artifact": self._described(variables["id"])}

    def _described(self, name: str) -> dict[str, Any]:
        one = self.artifacts[name]
        project = {"id": "p", "internalId": "p", "name": "shop", "entity": {"name": "team"}}
        collection = {"__typename": "ArtifactSequence", "name": one.name, "project": project}
        aliases = [
            {
                "artifactCollection": collection,
                "__typename": "ArtifactAlias",
                "id": alias,
                "alias": alias,
            }
            for alias in one.aliases
        ]
        figures = {"size": 0, "fileCount": len(one.files), "versionIndex": 0, "historyStep": None}
        texts = {"description": None, "metadata": "{}", "state": "COMMITTED", "digest": "0", "commitHash": "0"}
        dates: dict[str, Any] = {
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
        }
        known = {"__typename": "Artifact", "id": name, "artifactSequence": collection, "aliases": aliases, "tags": []}
        return {**known, "artifactType": {"name": one.kind}, **figures, **texts, **dates}

    def put(self, path: str, body: bytes) -> None:
        """Keep an uploaded file."""
        _, _, kind, name = path.split("/", 3)
        if kind == "artifact":
            artifact, _, inner = name.partition("/")
            self.artifacts[artifact].files[inner] = body
        elif kind == "file":
            self.files[name] = body

    def take(self, body: bytes) -> None:
        """Keep lines of the file stream."""
        for name, part in json.loads(body).get("files", {}).items():
            self.stream.setdefault(name, [])[part["offset"] :] = part["content"]


def _project(variables: Variables) -> dict[str, Any]:
    entity = {"id": "e", "name": variables.get("entity") or "team"}
    project = {"id": "p", "name": variables.get("project") or "uncategorized", "entity": entity}
    return {**project, "project": project}


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A server on a free port of loopback."""
    state = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _reply(self, value: Any) -> None:
            text = json.dumps(value).encode()
            self.send_response(503 if state.down else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._reply({})

        def do_PUT(self) -> None:
            body = self._body()
            if not state.down:
                state.put(self.path, body)
            self._reply({})

        def do_POST(self) -> None:
            body = self._body()
            if state.down:
                self._reply({"error": "down"})
            elif self.path == "/graphql":
                asked = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                name = operation[1] if operation else ""
                self._reply({"data": state.answer(name, asked.get("variables") or {})})
            else:
                if self.path.endswith("/file_stream"):
                    state.take(body)
                self._reply({"exitcode": None, "limits": {}})

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that ends closes its connections."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
