"""A small in-process server on a workspace's socket: enough of docs/dev/wire.md for the SDK's own tests."""

from __future__ import annotations

import hashlib
import json
import re
import socketserver
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from windlass._transport import places
from windlass.errors import did_you_mean

Answer = tuple[int, Any]
_COMPUTES = {"local": {"name": "local", "engine": "local", "max_nodes": 2, "vm_size": None}}


class FakeServer:
    """Keeps what the SDK sent; ``streams`` holds the scripted event streams, one list for each connection."""

    def __init__(self, workspace_dir: Path) -> None:
        self.blobs: dict[str, bytes] = {}
        self.blob_posts: list[int] = []
        self.snapshots: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.computes: dict[str, dict[str, Any]] = {name: _compute(spec) for name, spec in _COMPUTES.items()}
        self.files: dict[str, bytes] = {}
        self.wrong_checksum = False
        self.metrics: dict[str, Any] = {}
        self.models: list[dict[str, Any]] = []
        self.streams: list[list[tuple[str, Any]]] = []
        self.stream_offsets: list[dict[str, int]] = []
        self.flushes: list[tuple[str, int]] = []
        self.flush_answers: list[int] = []
        self.workspace = {"name": workspace_dir.name, "subscription_id": None, "resource_group": None,
                          "location": None, "created": 1.0}  # fmt: skip
        self.calls: list[tuple[str, str]] = []
        self.logins: list[dict[str, str]] = []
        self.ready: dict[str, Any] | None = None
        path = places.socket_path(str(workspace_dir))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._server = _Server(path, _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_run(self, spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
        number = len(self.runs) + 1
        run = {"id": f"{spec['experiment']}_100_{number:08x}", "experiment": spec["experiment"], "number": number,
               "status": "NotStarted", "spec": spec, "created": 100.0 + number, "tags": dict(spec.get("tags") or {}),
               "properties": {}, **changes}  # fmt: skip
        self.runs[run["id"]] = run
        return run

    def handle(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
        for pattern, call in _ROUTES:
            match = re.fullmatch(pattern, f"{method} {path}")
            if match:
                return call(self, *match.groups(), query=query, body=body)
        return 404, _error("user_error", f"no route {method} {path}")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
            fake.calls.append((self.command, path))
            if path.endswith("/stream"):
                return self._stream(query)
            status, answer = fake.handle(self.command, path, query, body)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            if isinstance(answer, bytes):
                digest = "0" * 64 if fake.wrong_checksum else hashlib.sha256(raw).hexdigest()
                self.send_header("X-Windlass-SHA256", digest)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def _stream(self, query: dict[str, list[str]]) -> None:
            fake.stream_offsets.append(json.loads(query.get("offsets", ["{}"])[0]))
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b": hello\n\n")
            for name, data in fake.streams.pop(0):
                self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            self.close_connection = True

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _compute(spec: dict[str, Any]) -> dict[str, Any]:
    full = {"min_nodes": 0, "max_nodes": 1, "idle_seconds_before_scaledown": 1800, "vm_priority": "dedicated", **spec}
    most = full["max_nodes"]
    return {"spec": full, "created": 5.0, "modified": 6.0, "waiting": 0,
            "capacity": {"target": most, "current": most, "idle": most, "busy": 0}}  # fmt: skip


def _snapshots(fake: FakeServer, query: Any, body: bytes) -> Answer:
    files = json.loads(body)["files"]
    snapshot_id = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    fake.snapshots[snapshot_id] = files
    return 200, {"id": snapshot_id, "missing": sorted({f["sha256"] for f in files} - set(fake.blobs))}


def _blobs(fake: FakeServer, query: Any, body: bytes) -> Answer:
    fake.blob_posts.append(len(body))
    stored = 0
    while body:
        size, digest = struct.unpack_from("<Q32s", body)
        content, body = body[40 : 40 + size], body[40 + size :]
        if hashlib.sha256(content).digest() != digest:
            return 400, _error("snapshot", "a content does not have its hash")
        fake.blobs[digest.hex()] = content
        stored += 1
    return 200, {"stored": stored}


def _create_run(fake: FakeServer, query: Any, body: bytes) -> Answer:
    asked = json.loads(body)
    target = asked["spec"]["target"]
    if target not in fake.computes:
        near = did_you_mean(target, fake.computes)
        return 400, _error("compute_target", f"There is no compute target {target!r} in this workspace.{near}")
    fake.requests.append(asked)
    return 200, fake.add_run(asked["spec"])


def _list_runs(fake: FakeServer, query: dict[str, list[str]], body: bytes) -> Answer:
    runs = sorted(fake.runs.values(), key=lambda r: -r["created"])
    if "experiment" in query:
        runs = [r for r in runs if r["experiment"] == query["experiment"][0]]
    parent = query.get("parent", [None])[0]
    if parent or "children" not in query:
        runs = [r for r in runs if r.get("parent_id") == parent]
    if "status" in query:
        runs = [r for r in runs if r["status"] in query["status"]]
    for tag in query.get("tag", []):
        key, equals, value = tag.partition("=")
        runs = [r for r in runs if key in r["tags"] and (not equals or r["tags"][key] == value)]
    if "before" in query:
        place = [r["id"] for r in runs].index(query["before"][0])
        runs = runs[place + 1 :]
    limit = int(query.get("limit", ["100"])[0])
    return 200, {"runs": runs[:limit], "more": len(runs) > limit}


def _get_run(fake: FakeServer, run_id: str, query: Any, body: bytes) -> Answer:
    if run_id not in fake.runs:
        return 404, _error("user_error", f"There is no run {run_id!r}.")
    return 200, fake.runs[run_id]


def _patch_run(fake: FakeServer, run_id: str, query: Any, body: bytes) -> Answer:
    run, changes = fake.runs[run_id], json.loads(body)
    for key, value in changes.get("properties", {}).items():
        if run["properties"].get(key, value) != value:
            return 409, _error("conflict", f"The property {key!r} has another value.")
    run["properties"].update(changes.get("properties", {}))
    run["tags"].update(changes.get("tags", {}))
    for key in changes.get("remove_tags", []):
        run["tags"].pop(key, None)
    for key in ("display_name", "description"):
        run[key] = changes.get(key, run.get(key))
    return 200, run


def _cancel(fake: FakeServer, run_id: str, query: Any, body: bytes) -> Answer:
    fake.runs[run_id]["status"] = "CancelRequested"
    return 200, fake.runs[run_id]


def _flush(fake: FakeServer, run_id: str, query: Any, body: bytes) -> Answer:
    asked = json.loads(body)
    fake.flushes.append((asked["spool"], asked["offset"]))
    return 200, {"acked": fake.flush_answers.pop(0) if fake.flush_answers else asked["offset"]}


def _metrics(fake: FakeServer, run_id: str, query: dict[str, list[str]], body: bytes) -> Answer:
    name = query.get("name", [None])[0]
    return 200, {"metrics": {k: v for k, v in fake.metrics.items() if name in (None, k)}}


def _list_files(fake: FakeServer, run_id: str, query: Any, body: bytes) -> Answer:
    return 200, {"files": [{"path": p, "size": len(c), "sha256": None} for p, c in sorted(fake.files.items())]}


def _put_file(fake: FakeServer, run_id: str, path: str, query: Any, body: bytes) -> Answer:
    fake.files[path] = body
    return 200, {"path": path, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def _put_compute(fake: FakeServer, name: str, query: Any, body: bytes) -> Answer:
    fake.computes[name] = _compute(json.loads(body))
    return 200, fake.computes[name]


def _get_compute(fake: FakeServer, name: str, query: Any, body: bytes) -> Answer:
    if name not in fake.computes:
        return 404, _error("compute_target", f"There is no compute target {name!r}.")
    return 200, fake.computes[name]


def _nodes(fake: FakeServer, name: str, query: Any, body: bytes) -> Answer:
    held = [(node, run["id"]) for run in fake.runs.values() if run["spec"]["target"] == name for node in run["nodes"]]
    taken = {node for node, _ in held}
    free = [f"{name}-{n}" for n in range(fake.computes[name]["spec"]["max_nodes"]) if f"{name}-{n}" not in taken]
    nodes = [{"name": node, "status": "running", "run_id": run_id, "address": "10.0.0.7"} for node, run_id in held]
    idle = [{"name": node, "status": "idle", "run_id": None, "address": None} for node in free]
    return 200, {"nodes": nodes + idle}


def _delete_compute(fake: FakeServer, name: str, query: Any, body: bytes) -> Answer:
    del fake.computes[name]
    return 200, {}


def _put_login(fake: FakeServer, query: Any, body: bytes) -> Answer:
    fake.logins.append(json.loads(body))
    return 200, {}


def _build(fake: FakeServer, query: Any, body: bytes) -> Answer:
    fake.requests.append(json.loads(body))
    return 200, {"id": "b", "status": "Succeeded", "key": "k", "error": None, "lines": ["one", "two"], "next": 2}


def _build_state(fake: FakeServer, build_id: str, query: Any, body: bytes) -> Answer:
    return 200, {"id": build_id, "status": "Succeeded", "key": "k", "error": None, "lines": [], "next": 2}


def _find_environment(fake: FakeServer, query: Any, body: bytes) -> Answer:
    fake.requests.append(json.loads(body))
    return 200, {"ready": fake.ready}


def _register_environment(fake: FakeServer, name: str, query: Any, body: bytes) -> Answer:
    record = {"name": name, "version": "1", **json.loads(body)}
    fake.requests.append(record)
    return 200, {**record, "version": "1"}


def _registered(fake: FakeServer, query: Any, body: bytes) -> Answer:
    return 200, {"environments": []}


def _list_models(fake: FakeServer, query: dict[str, list[str]], body: bytes) -> Answer:
    fits = [m for m in fake.models if query.get("name", [m["name"]])[0] == m["name"]]
    for tag in query.get("tag", []):
        key, equals, value = tag.partition("=")
        fits = [m for m in fits if key in m["tags"] and (not equals or m["tags"][key] == value)]
    if "latest" in query:
        fits = list({m["name"]: m for m in sorted(fits, key=lambda m: m["version"])}.values())
    return 200, {"models": sorted(fits, key=lambda m: -m["version"])}


def _post_model(fake: FakeServer, query: Any, body: bytes) -> Answer:
    asked = json.loads(body)
    path = asked["path"].strip("/")
    chosen = [p for p in sorted(fake.files) if p == path or p.startswith(path + "/")]
    if not chosen:
        return 404, _error("model_path_not_found", f"The run has nothing at {path!r}.")
    base = len(path.rpartition("/")[0]) + 1 if "/" in path else 0
    version = 1 + sum(m["name"] == asked["name"] for m in fake.models)
    model = {**asked, "path": path, "version": version, "created": time.time(), "size": 1, "sha256": "",
             "files": [{"path": p[base:], "size": 1, "sha256": ""} for p in chosen],
             "_content": {p[base:]: fake.files[p] for p in chosen}}  # fmt: skip
    fake.models.append({k: v for k, v in model.items() if k != "_content"})
    fake.files.update({f"{asked['name']}/{version}/{p}": c for p, c in model["_content"].items()})
    return 200, fake.models[-1]


def _get_model(fake: FakeServer, name: str, version: str, query: Any, body: bytes) -> Answer:
    fits = [m for m in fake.models if m["name"] == name and version in ("latest", str(m["version"]))]
    if not fits:
        return 404, _error("model_not_found", f"There is no model {name!r}.")
    return 200, fits[-1]


_ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (r"GET /v1/server", lambda f, query, body: (200, {"web": "http://127.0.0.1:1"})),
    (r"GET /v1/workspace", lambda f, query, body: (200, f.workspace)),
    (r"PUT /v1/workspace", lambda f, query, body: (f.workspace.update(json.loads(body)), (200, f.workspace))[1]),
    (r"GET /v1/experiments", lambda f, query, body: (
        200, {"experiments": [{"name": n} for n in {r["experiment"] for r in f.runs.values()}]})),
    (r"GET /v1/computes", lambda f, query, body: (200, {"computes": list(f.computes.values())})),
    (r"GET /v1/computes/([^/]+)", _get_compute),
    (r"GET /v1/computes/([^/]+)/nodes", _nodes),
    (r"PUT /v1/computes/([^/]+)", _put_compute),
    (r"DELETE /v1/computes/([^/]+)", _delete_compute),
    (r"POST /v1/snapshots", _snapshots),
    (r"POST /v1/blobs", _blobs),
    (r"POST /v1/runs", _create_run),
    (r"GET /v1/runs", _list_runs),
    (r"GET /v1/runs/([^/]+)", _get_run),
    (r"PATCH /v1/runs/([^/]+)", _patch_run),
    (r"POST /v1/runs/([^/]+)/cancel", _cancel),
    (r"POST /v1/runs/([^/]+)/flush", _flush),
    (r"GET /v1/runs/([^/]+)/metrics", _metrics),
    (r"GET /v1/runs/([^/]+)/files", _list_files),
    (r"GET /v1/runs/([^/]+)/files/(.+)", lambda f, run, path, query, body: (200, f.files[path])),
    (r"PUT /v1/runs/([^/]+)/files/(.+)", _put_file),
    (r"PUT /v1/registry-logins", _put_login),
    (r"POST /v1/environments/find", _find_environment),
    (r"POST /v1/environment-builds", _build),
    (r"GET /v1/environment-builds/([^/]+)", _build_state),
    (r"GET /v1/registered-environments", _registered),
    (r"POST /v1/registered-environments/([^/]+)", _register_environment),
    (r"GET /v1/models", _list_models),
    (r"POST /v1/models", _post_model),
    (r"GET /v1/models/([^/]+)/versions/([^/]+)", _get_model),
    (r"GET /v1/models/([^/]+)/versions/([^/]+)/files/(.+)",
     lambda f, name, version, path, query, body: (200, f.files[f"{name}/{version}/{path}"])),
]  # fmt: skip
