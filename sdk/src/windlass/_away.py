"""Runs that a script begins on another machine than the server's: what they write lies here until it is sent.

The server's folders are not this machine's there. Spools lie in ``clients/<run id>/spool`` of the workspace's folder
here, files of charts in ``files`` beside them; what a killed process leaves, its agent sends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Tuple

from windlass import settings

if TYPE_CHECKING:
    from windlass._transport.client import Client


def spool_folder(client: "Client", run_id: str, answer: "Mapping[str, Any]") -> str:
    """The folder for the spools of a run that this process holds; ``answer`` is what the server said of it."""
    if not settings.elsewhere():
        return str(answer["spool"])
    folder = os.path.join(client.workspace_dir, "clients", run_id, "spool")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def send_files(client: "Client", run_id: str, spool: str) -> None:
    """Send the files of charts that lie beside ``spool``, and remove them."""
    from windlass._transport.client import quote

    for name, path in _files(os.path.join(os.path.dirname(spool), "files")):
        try:
            with open(path, "rb") as f:
                target = "/v1/runs/%s/files/%s" % (quote(run_id), quote(name))
                client.call("PUT", target, body=f, content_type="application/octet-stream")
            os.unlink(path)
        except FileNotFoundError:  # another thread of this process sent it
            continue


def _files(top: str) -> "Iterator[Tuple[str, str]]":
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                yield os.path.relpath(path, top).replace(os.sep, "/"), path
