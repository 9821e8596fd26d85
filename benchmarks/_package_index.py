"""A package index on this machine, so that the network decides nothing: a folder of wheels, served as indexes do.

With hashes and with metadata beside the wheels. A process of its own serves it and writes down what was asked.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_ASKED = "asked.txt"


@contextmanager
def variables(**given: str) -> Iterator[None]:
    """Set variables of this process for a while."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def only_index(folder: Path, max_age_s: int = 600) -> Iterator[None]:
    """Serve the packages in ``folder``; meanwhile uv and pip, started by this process or Windlass, use nothing else.

    Args:
        folder: The wheels and source packages.
        max_age_s: How long a page may be kept unasked; ten minutes is what the big public index says.
    """
    write_pages(folder)
    own = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    for name in own:
        del os.environ[name]
    command = [sys.executable, __file__, str(folder), str(max_age_s)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                address = f"http://127.0.0.1:{process.stdout.readline().strip()}/simple"
                with variables(UV_DEFAULT_INDEX=address, PIP_INDEX_URL=address, PIP_CONFIG_FILE=os.devnull):
                    yield
            finally:
                process.kill()
    finally:
        os.environ.update(own)


def download(requirements: Sequence[str], folder: Path) -> None:
    """Fill ``folder`` with the wheels of ``requirements``, for this interpreter, from the indexes pip is set to."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*argv, *requirements], check=True, stdout=sys.stderr, stderr=sys.stderr)


def asked(folder: Path) -> Sequence[str]:
    """The paths that were asked of the index in ``folder`` so far."""
    path = folder / _ASKED
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def write_pages(folder: Path) -> None:
    """``simple/<name>/index.html`` for each project, and each wheel's metadata beside it."""
    links: dict[str, list[str]] = {}
    for path in sorted((*folder.glob("*.whl"), *folder.glob("*.tar.gz"))):
        name = re.sub(r"[-_.]+", "-", path.name.rsplit("-", 1 if path.suffix == ".gz" else 4)[0]).lower()
        name = re.sub(r"-\d.*", "", name)
        link = f'<a href="../../{path.name}#sha256={_sha256(path.read_bytes())}"'
        if path.suffix == ".whl":
            metadata = _metadata(path)
            path.with_name(path.name + ".metadata").write_bytes(metadata)
            link += f' data-core-metadata="sha256={_sha256(metadata)}"'
        links.setdefault(name, []).append(f"{link}>{path.name}</a><br>")
    for name, found in links.items():
        page = folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!DOCTYPE html><html><body>" + "\n".join(found) + "</body></html>", encoding="utf-8")


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _serve(folder: str, max_age_s: int) -> None:
    os.chdir(folder)
    with open(_ASKED, "a", encoding="utf-8", buffering=1) as log:

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                log.write(self.path + "\n")
                super().do_GET()

            def end_headers(self) -> None:
                self.send_header("Cache-Control", f"max-age={max_age_s}, public")
                super().end_headers()

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            print(server.server_address[1], flush=True)
            server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
