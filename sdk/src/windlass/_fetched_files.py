"""Files of datastores that a script reads on another machine than the server's: fetched once for each process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict

from windlass._files import fetch, inside
from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass._data_files import DataFile
    from windlass.workspace import Workspace

_made: "Dict[int, str]" = {}
"""The folder that they lie in by process (after a fork there are two); it goes when that ends."""


def fetched(workspace: "Workspace", file: "DataFile") -> str:
    """Path on this machine of a copy of a datastore's file, as it was when its datastore was listed.

    Raises:
        UserErrorException: it is gone, or the disk here has no room for it.
    """
    if file.changed is None:
        raise UserErrorException(
            "%r of the datastore %r is a folder of the server's machine; this one has its files only. Use download()."
            % (file.place, file.datastore)
        )
    target = inside(_folder(), "%s/%r/%s" % (file.datastore, file.changed, file.place))
    if not os.path.exists(target):
        fetch(workspace._client, "/v1/datastores/%s/files/" % file.datastore, file.place, target)
    return target


def _folder() -> str:
    made = _made.get(os.getpid())
    if made is None or not os.path.isdir(made):
        import atexit
        import tempfile

        made = _made[os.getpid()] = tempfile.mkdtemp(prefix="windlass-")
        atexit.register(_remove)
    return made


def _remove() -> None:
    import shutil

    made = _made.pop(os.getpid(), None)
    if made is not None:
        shutil.rmtree(made, ignore_errors=True)
