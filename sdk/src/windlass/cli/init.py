"""``windlass init``: make a workspace and tell this folder about it."""

from __future__ import annotations

import os
import re
from typing import Annotated, Optional

import typer

from windlass.cli._show import result, say

_NEXT = """
Next:
  windlass submit SCRIPT   run a script of this folder
  windlass ps              see what runs, and why something waits
  windlass open            the same in the browser"""


def init(
    name: Annotated[
        Optional[str],
        typer.Argument(metavar="NAME", help="Name of the workspace (default: the folder's).", show_default=False),
    ] = None,
) -> None:
    """Make a workspace for this folder.

    Writes a config.json here that names it, and records this Python as the one that servers run on.
    """
    from windlass import _config_file
    from windlass._transport import places
    from windlass._transport.client import Client

    here = os.getcwd()
    found = _config_file.find(None)
    if found is not None and not _is_of(found.path, here):
        found = None  # a parent folder's; this folder gets its own
    named = name or (found.name if found else _mended(os.path.basename(here)))
    if found is not None and found.name != named:
        _refuse(found.path, found.name, named)
    folder = places.workspace_dir(named)
    _record_interpreter()
    azure = {"subscription_id": found.subscription_id, "resource_group": found.resource_group} if found else {}
    client = Client(folder)
    if any(azure.values()):
        client.put("/v1/workspace", azure)
    client.get("/v1/workspace")  # the server makes the workspace, or says why it cannot lie there
    _write(here, named, found.path if found else None)
    result("Workspace %s in %s" % (named, folder))
    say(_NEXT)


def _is_of(config: str, folder: str) -> bool:
    from windlass import _config_file

    return any(config == os.path.join(folder, sub, _config_file.FILE_NAME) for sub in _config_file.FOLDERS)


def _mended(folder: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-._")[:64] or "workspace"


def _refuse(path: str, present: str, wanted: str) -> None:
    from windlass.errors import UserErrorException

    raise UserErrorException(
        "%s already names the workspace %r. Delete that file to use %r here, or name it in each command: "
        "`windlass -w %s …`." % (path, present, wanted, wanted)
    )


def _record_interpreter() -> None:
    from windlass._transport import autostart

    if not autostart.record_interpreter():
        say("This Python has no server; using the one of %s." % autostart.server_interpreter())


def _write(here: str, name: str, found: "Optional[str]") -> None:
    from windlass import _config_file

    if found:
        say("%s names it already." % found)
        return
    path = os.path.join(here, _config_file.FILE_NAME)
    if os.path.exists(path):  # some other tool's; ours goes where from_config looks as well
        path = os.path.join(here, ".azureml", _config_file.FILE_NAME)
    _config_file.write(path, {"workspace": name})
    say("Wrote %s." % path)
