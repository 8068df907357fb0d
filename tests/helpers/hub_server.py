"""A small hub on loopback: the part of the hub's protocol that reading and pushing data sets and models needs.

Repositories live in memory as path -> bytes. Point HF_ENDPOINT at ``url`` before huggingface_hub is imported.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def git_sha(data: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Hub:
    """Repositories by name."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ""

    def commit_of(self, name: str) -> str:
        """A commit name that changes with the content."""
        files = self.repos[name]
        commit = hashlib.sha1(
            "".join(f"{path}{git_sha(files[path])}" for path in sorted(files)).encode(), usedforsecurity=False
        ).hexdigest()
        self.commits[commit] = dict(files)
        return commit

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """Commit and files of a branch, or of a commit that ``commit_of`` has named before."""
        commit = self.commit_of(name)
        return (revision, self.commits[revision]) if revision in self.commits else (commit, self.repos[name])

    def entry(self, name: str, path: str) -> dict[str, Any]:
        """What the tree says of a file."""
        data = self.repos[name][path]
        return {"type": "file", "oid": git_sha(data), "size": len(data), "path": path}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.route("HEAD")

    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def do_PUT(self) -> None:
        self.route("PUT")

    def route(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        for pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                getattr(self, name)(*match.groups(), body)
                return
        self.send(404, {"error": f"no route for {method} {path}"})

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for header, text in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(header, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def known(self, name: str) -> bool:
        if name in self.hub.repos:
            return True
        self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return False

    def info(self, name: str, _: bytes, revision: str = "main") -> None:
        if self.known(name):
            commit, held = self.hub.at(name, revision)
            files = [{"rfilename": path} for path in sorted(held)]
            self.send(
                200,
                {
                    "id": name, "sha": commit, "private": False, "disabled": False, "gated": False, "downloads": 0,
                    "likes": 0, "tags": [], "siblings": files, "author": name.split("/")[0],
                    "lastModified": "2024-01-01T00:00:00.000Z", "createdAt": "2024-01-01T00:00:00.000Z", "_id": "1",
                },
            )  # fmt: skip

    def revision(self, name: str, revision: str, body: bytes) -> None:
        self.info(name, body, revision)

    def tree(self, name: str, _revision: str, folder: str | None, _: bytes) -> None:
        if not self.known(name):
            return
        prefix = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
        deep = "recursive=true" in urlsplit(self.path).query.lower()
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.hub.repos[name]):
            if not path.startswith(prefix):
                continue
            rest = path[len(prefix) :]
            if "/" in rest:
                top = prefix + rest.split("/")[0]
                found.setdefault(top, {"type": "directory", "oid": git_sha(top.encode()), "size": 0, "path": top})
            if "/" not in rest or deep:
                found[path] = self.hub.entry(name, path)
        if prefix and not found:
            self.send(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        else:
            self.send(200, list(found.values()))

    def paths_info(self, name: str, _revision: str, body: bytes) -> None:
        if self.known(name):
            asked = self.asked_paths(body)
            self.send(200, [self.hub.entry(name, path) for path in asked if path in self.hub.repos[name]])

    def asked_paths(self, body: bytes) -> list[str]:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            return list(json.loads(body)["paths"])
        return [
            unquote(part.split("=", 1)[1].replace("+", " ")) for part in body.decode().split("&") if "paths=" in part
        ]

    def resolve(self, name: str, revision: str, path: str, _: bytes) -> None:
        if not self.known(name):
            return
        commit, held = self.hub.at(name, revision)
        if path not in held:
            self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = held[path]
        headers = {
            "ETag": f'"{git_sha(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(0, usegmt=True),
        }  # fmt: skip
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
            self.send(206, data[first : last + 1], headers)
        else:
            self.send(200, data, headers)

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        status = 409 if name in self.hub.repos else 200
        self.hub.repos.setdefault(name, {})
        self.send(status, {"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": name})

    def who(self, _: bytes) -> None:
        self.send(200, {"type": "user", "name": "tester", "orgs": [], "auth": {"type": "access_token"}})

    def validate(self, _: bytes) -> None:
        self.send(200, {"errors": [], "warnings": []})

    def preupload(self, _name: str, _revision: str, body: bytes) -> None:
        files = json.loads(body)["files"]
        large = {".parquet", ".jpg", ".png", ".webp", ".tar", ".safetensors"}
        modes = ["lfs" if any(f["path"].endswith(suffix) for suffix in large) else "regular" for f in files]
        answer = [
            {"path": f["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
            for f, mode in zip(files, modes, strict=True)
        ]
        self.send(200, {"files": answer})

    def lfs_batch(self, _name: str, body: bytes) -> None:
        objects = json.loads(body)["objects"]
        answer = [
            {
                **o,
                "authenticated": True,
                "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}", "header": {}}},
            }
            for o in objects
        ]
        self.send(200, {"transfer": "basic", "objects": answer})

    def lfs_put(self, oid: str, body: bytes) -> None:
        self.hub.large[oid] = body
        self.send(200, {} if hashlib.sha256(body).hexdigest() == oid else {"error": "wrong content"})

    def commit(self, name: str, _revision: str, body: bytes) -> None:
        files = self.hub.repos[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = self.hub.commit_of(name)
        self.send(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/datasets/{name}/commit/{oid}"})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"/api/repos/create", "create"),
    (r"/api/whoami-v2", "who"),
    (r"/api/validate-yaml", "validate"),
    (rf"/api/(?:datasets|models)/{_NAME}", "info"),
    (rf"/api/(?:datasets|models)/{_NAME}/revision/([^/]+)", "revision"),
    (rf"/api/(?:datasets|models)/{_NAME}/tree/([^/]+)(/.*)?", "tree"),
    (rf"/api/(?:datasets|models)/{_NAME}/paths-info/([^/]+)", "paths_info"),
    (rf"/api/(?:datasets|models)/{_NAME}/preupload/([^/]+)", "preupload"),
    (rf"/api/(?:datasets|models)/{_NAME}/commit/([^/]+)", "commit"),
    (rf"(?:/datasets)?/{_NAME}/resolve/([^/]+)/(.+)", "resolve"),
    (rf"(?:/datasets)?/{_NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"/lfs/([0-9a-f]+)", "lfs_put"),
]


@contextlib.contextmanager
def running_hub(hub: Hub) -> Iterator[Hub]:
    """The hub in a thread of its own, until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def phisight_on(hub: Hub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, with the hub on loopback in place of the real one."""
    return python_on(hub, home, "-m", "phisight", *arguments)


def python_on(hub: Hub, home: Path, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, with the hub on loopback in place of the real one and its cache in ``home``."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret", "COLUMNS": "200",
        "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
