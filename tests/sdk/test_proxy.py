"""Behind a proxy that the environment names: a script's downloads go through it, calls on the workspace never."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import windlass
from sdk.fake_server import FakeServer

SDK = Path(windlass.__file__).parent.parent
SCRIPT = """
import urllib
import azureml.core
from azureml.core import Experiment, Workspace

urllib.request.urlretrieve("http://data.example/mnist/train-labels-idx1-ubyte.gz", filename="labels.gz")
ws = Workspace.get("ws")
assert Experiment.list(ws) == [] and ws.name == "ws"
"""


class Proxy(HTTPServer):
    """Answers every address itself and keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"labels")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = Proxy()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("variables", [("http_proxy",), ("HTTP_PROXY", "http_proxy", "all_proxy", "https_proxy")])
def test_downloads_go_through_it_and_the_workspace_does_not(
    variables: tuple[str, ...], fake: FakeServer, proxy: Proxy, tmp_path: Path
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env.update({"PYTHONPATH": str(SDK), **dict.fromkeys(variables, proxy.address)})
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env, check=True, timeout=60)
    assert (tmp_path / "labels.gz").read_bytes() == b"labels"
    assert proxy.asked == ["http://data.example/mnist/train-labels-idx1-ubyte.gz"]
