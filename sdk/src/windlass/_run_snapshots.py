"""The sources half of ``Run``: its snapshot brought back, another one taken, its logs and its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass._transport.client import Client
    from windlass.environment import Environment
    from windlass.specs.run import RunRecord

_PROPERTY = "ContentSnapshotId"


class RunSnapshots:
    """What a run was made of."""

    _id: str

    @property
    def _client(self) -> "Client":
        raise NotImplementedError

    def _record(self) -> "RunRecord":
        raise NotImplementedError

    def get_file_names(self) -> "List[str]":
        """See ``RunFiles``."""
        raise NotImplementedError

    def get_snapshot_id(self) -> "Optional[str]":
        """Id of the snapshot it ran, or of the one taken by ``take_snapshot``; None when it has none."""
        record = self._record()
        return record.spec.snapshot_id or record.properties.get(_PROPERTY)

    def restore_snapshot(self, snapshot_id: "Optional[str]" = None, path: "Optional[str]" = None) -> str:
        """Bring a snapshot's files back; returns the path of the folder (or zip file) that has them.

        Args:
            snapshot_id: Default: the run's own.
            path: A folder, or a name that ends with ``.zip``; default: a folder named after the snapshot, here.

        Raises:
            UserErrorException: the run has no snapshot, or the place cannot be written.
        """
        from windlass._restore import restore

        chosen = snapshot_id or self.get_snapshot_id()
        if not chosen:
            raise UserErrorException(
                "The run %s has no snapshot; give snapshot_id, or take one with take_snapshot." % self._id
            )
        return restore(self._client, chosen, path if path is not None else chosen)

    def take_snapshot(self, file_or_folder_path: str) -> str:
        """The id of a snapshot of a file or folder; it becomes the run's own when it has none.

        Raises:
            UserErrorException: there is nothing at the path.
            SnapshotException: it cannot be read, or is too large.
        """
        from windlass import _snapshot

        place = os.path.abspath(os.path.expanduser(os.fspath(file_or_folder_path)))
        if os.path.isdir(place):
            files = _snapshot.list_files(place).files
        elif os.path.isfile(place):
            files = [_snapshot.SourceFile(os.path.basename(place), place, os.path.getsize(place), 0o644)]
        else:
            raise UserErrorException("take_snapshot(%r): there is no such file or folder." % (file_or_folder_path,))
        taken = _snapshot.take(self._client, files)
        _snapshot.take(self._client, files)  # the contents are there by now: this writes the snapshot down
        if self.get_snapshot_id() is None:
            self._client.patch("/v1/runs/%s" % self._id, {"properties": {_PROPERTY: taken}})
        return taken

    def get_all_logs(self, destination: "Optional[str]" = None) -> "List[str]":
        """Write all log files to a folder (default: the current one); returns their paths."""
        from windlass._details import is_log
        from windlass._files import fetch, inside

        folder = os.path.abspath(os.path.expanduser(destination or "."))
        written = []
        for name in self.get_file_names():
            if is_log(name):
                target = inside(folder, name)
                fetch(self._client, "/v1/runs/%s/files/" % self._id, name, target)
                written.append(target)
        return written

    def get_detailed_status(self) -> "Dict[str, Any]":
        """The status, and in ``details`` why it is so: the place in the line, what is built, what went wrong."""
        record = self._record()
        return {"status": record.status.value, "details": record.reason.message if record.reason else None}

    def get_environment(self) -> "Environment":
        """The environment that its job asked for.

        Raises:
            UserErrorException: it is no submitted script's.
        """
        from windlass.environment import environment_of

        record = self._record()
        if record.spec.kind != "job":
            raise UserErrorException("The run %s has its client's own environment; no job asked for one." % self._id)
        found = environment_of(record.spec.environment)
        found.environment_variables = dict(record.spec.environment_variables)
        return found
