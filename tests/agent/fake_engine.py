"""A container engine without containers: it runs what it is asked to start as a process of this machine."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

IMAGE = "sha256:" + "a" * 64


class FakeEngine:
    """Answers like Docker. ``refusals`` maps a word of a call's path to the status and message it gets instead."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.address = f"unix://{path}"
        self.info: dict[str, Any] = {"SecurityOptions": ["name=seccomp"], "MemoryLimit": True, "CpuCfsQuota": True}
        self.components = ["Engine"]
        self.refusals: dict[str, tuple[int, str]] = {}
        self.calls: list[str] = []
        self.created: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and content for a call."""
        self.calls.append(f"{method} {path}")
        for word, (status, message) in self.refusals.items():
            if word in path:
                return status, {"message": message}
        if path == "/_ping":
            return 200, "OK"
        if path == "/info":
            return 200, self.info
        if path == "/version":
            return 200, {"Components": [{"Name": name} for name in self.components]}
        if path.startswith("/images/"):
            return 200, {"Config": {"Env": ["PATH=/image/bin:/usr/bin:/bin", "IMAGE_SAYS=a=b"]}}
        if found := re.search(r"create\?name=(.*)", path):
            return self._create(found[1], body)
        name = path.split("/")[2].partition("?")[0]
        if path.startswith("/containers/json"):
            return 200, [{"Id": name, "Labels": body["Labels"]} for name, body in self.created.items()]
        if name not in self.created:
            return 404, {"message": f"No such container: {name}"}
        if path.endswith("/start"):
            self._start(name)
            return 204, None
        if path.endswith("/wait"):
            return 200, {"StatusCode": self.processes[name].wait()}
        if method == "DELETE":
            self._end(name)
            return 204, None
        return 200, {"State": {"OOMKilled": False}}

    def _create(self, name: str, body: Any) -> tuple[int, Any]:
        if name in self.created:
            return 409, {"message": f"Conflict. The container name {name} is already in use"}
        self.created[name] = body
        return 201, {"Id": name}

    def _start(self, name: str) -> None:
        body = self.created[name]
        box = next(m["Source"] for m in body["HostConfig"]["Mounts"] if m["Target"] == "/.windlass")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.join(box, "init.py"), *body["Cmd"]], cwd=body["WorkingDir"],
            env=dict(entry.split("=", 1) for entry in body["Env"]), stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _end(self, name: str) -> None:
        self.created.pop(name)
        if process := self.processes.pop(name, None):
            process.kill()
            process.wait()

    @contextmanager
    def serving(self) -> Iterator[FakeEngine]:
        """Listen on the socket; what was started ends afterwards."""
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = engine.answer(self.command, self.path, json.loads(text) if text else None)
                self.send_response(status)
                self.end_headers()
                if content is not None:
                    self.wfile.write(json.dumps(content).encode())

            do_GET = do_POST = do_DELETE = _do

            def log_message(self, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            allow_reuse_address = True

        with Server(self.path, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
                for name in list(self.created):
                    self._end(name)
