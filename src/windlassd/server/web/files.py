"""A run's kept files on their way to the browser: attachments, but for plain text and real pictures."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from windlass.errors import UserErrorException
from windlassd.server.backend import LocatedFile

LARGEST_TEXT = 5_000_000
"""Bytes up to which a text file is shown rather than sent as an attachment."""
_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_MAYBE = (
    *(".txt", ".log", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
    *(".xml", ".html", ".svg", ".py", ".ipynb", ".r", ".sh", ".sql", ".png", ".jpg", ".jpeg"),
)
_HEAD = 65536
_BLOCK = 1 << 18
# Even a picture opened by itself runs nothing and reads nothing.
_SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; sandbox"


def may_show(path: str) -> bool:
    """True when a file of this name is probably text or a picture; its content decides when it is asked for."""
    return path.lower().endswith(_MAYBE)


def send_file(found: LocatedFile, name: str, *, view: bool) -> Response:
    """The file as an attachment; with ``view`` inline, if its content really is text or a PNG or JPEG picture.

    Raises:
        UserErrorException: it is gone since it was looked up.
    """
    try:
        file = open(found.path, "rb")  # noqa: SIM115 - closed by the generator that sends it
    except (FileNotFoundError, IsADirectoryError, PermissionError) as e:
        raise UserErrorException(f"{name!r} cannot be read any more: {e.strerror}. Reload the page.") from e
    count = os.fstat(file.fileno()).st_size
    kind = _shown_as(file, count) if view else None
    leaf = name.rpartition("/")[2]
    place = "inline" if kind else "attachment"
    headers = {
        "Content-Length": str(count),
        "Content-Disposition": f"{place}; filename*=utf-8''{quote(leaf.encode('utf-8', 'replace'), safe='')}",
        "Content-Security-Policy": _SANDBOX,
    }
    if found.sha256:
        headers["X-Windlass-SHA256"] = found.sha256
    return StreamingResponse(_blocks(file, count), media_type=kind or "application/octet-stream", headers=headers)


def _shown_as(file: BinaryIO, count: int) -> str | None:
    head = file.read(_HEAD)
    file.seek(0)
    for magic, kind in _PICTURES.items():
        if head.startswith(magic):
            return kind
    return "text/plain; charset=utf-8" if count <= LARGEST_TEXT and _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """True for UTF-8 without NUL; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _blocks(file: BinaryIO, count: int) -> Iterator[bytes]:
    """Exactly the ``count`` bytes that were announced, even of a log that grows meanwhile."""
    with file:
        while count and (block := file.read(min(_BLOCK, count))):
            count -= len(block)
            yield block
