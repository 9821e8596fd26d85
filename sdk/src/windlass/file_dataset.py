"""``FileDataset``: files as they are; v1's ``azureml.data.FileDataset``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, List, Optional

from windlass import settings
from windlass._data_files import DataFile, files_of, local_path
from windlass._files import fetch, inside
from windlass._not_offered import AbsentMethod, refuse_unknown
from windlass.abstract_dataset import AbstractDataset, positive
from windlass.errors import UserErrorException
from windlass.specs.data import MOUNT, is_pattern

if TYPE_CHECKING:
    from windlass.dataset_consumption_config import DatasetConsumptionConfig

_BY_PATH = "Give the files you want as paths or patterns."
_NO_CACHE = "Local data is used in place: as_mount()."


class FileDataset(AbstractDataset):
    """Files in datastores or folders of this machine. Make one with ``Dataset.File.from_files``."""

    _kind = "File"
    _default_mode = MOUNT

    def to_path(self) -> "List[str]":
        """Paths of its files in the dataset, each with a slash before it."""
        return ["/" + file.name for file in self._files()]

    def download(
        self, target_path: "Optional[str]" = None, overwrite: bool = False, ignore_not_found: bool = False
    ) -> "List[str]":
        """Copy its files to a folder of this machine; returns where they are.

        Args:
            target_path: The folder; None makes one for temporary files.
            overwrite: Replace files that are there.
            ignore_not_found: Do not mind files that vanish meanwhile.

        Raises:
            UserErrorException: a file is there already and ``overwrite`` is false.
        """
        if target_path is None:
            import tempfile

            target_path = tempfile.mkdtemp(prefix="windlass-")
        files = self._files()
        targets = [inside(os.path.expanduser(os.fspath(target_path)), file.name) for file in files]
        taken = [target for target in targets if os.path.lexists(target)]
        if taken and not overwrite:
            raise UserErrorException("%s exists already. Pass overwrite=True to replace it." % taken[0])
        found = []
        for place, file in enumerate(files):
            try:
                self._copy(file, targets[place])
            except UserErrorException:
                if not ignore_not_found:
                    raise
            else:
                found.append(targets[place])
        return found

    def mount(self, mount_point: "Optional[str]" = None, **kwargs: Any) -> "MountContext":
        """Its files as a folder of this machine, without copying them.

        Use it as a context, or call ``start()`` and ``stop()``; ``mount_point`` of it is the folder.

        Args:
            mount_point: An empty or absent folder for links to the files; None is the folder where they lie, or one
                for temporary files.
        """
        refuse_unknown("FileDataset.mount", kwargs)
        return MountContext(self, mount_point)

    def as_mount(self, path_on_compute: "Optional[str]" = None) -> "DatasetConsumptionConfig":
        """As an input of a job, used in place."""
        return self._input().as_mount(path_on_compute)

    def as_download(self, path_on_compute: "Optional[str]" = None) -> "DatasetConsumptionConfig":
        """As an input of a job, copied before the script starts."""
        return self._input().as_download(path_on_compute)

    def take(self, count: int) -> "FileDataset":
        """Only its first ``count`` files."""
        return self._then(op="take", count=positive("count", count))

    def skip(self, count: int) -> "FileDataset":
        """All but its first ``count`` files."""
        return self._then(op="skip", count=positive("count", count))

    def _files(self) -> "List[DataFile]":
        return files_of(self._workspace, self._places, self._steps)

    def _copy(self, file: DataFile, target: str) -> None:
        if file.datastore is not None:
            assert self._workspace is not None
            address = "/v1/datastores/%s/files/" % file.datastore
            fetch(self._workspace._client, address, file.place, target)
            return
        import shutil

        beside = "%s.%d.part" % (target, os.getpid())
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(file.place, beside)
            os.replace(beside, target)
        except OSError as e:
            raise UserErrorException("%s cannot be copied to %s: %s." % (file.place, target, e.strerror or e)) from e
        finally:
            if os.path.exists(beside):
                os.remove(beside)

    def _folder(self) -> "Optional[str]":
        """The one folder of this machine that it is; None when it is anything else."""
        if len(self._places) != 1 or self._steps or is_pattern(self._places[0].path):
            return None
        place = self._places[0]
        if place.datastore is not None and settings.elsewhere():
            return None
        full = local_path(self._workspace, DataFile("", place.path, place.datastore))
        return full if os.path.isdir(full) else None

    as_cache = AbsentMethod(_NO_CACHE)
    as_hdfs = AbsentMethod("Use as_mount() or as_download().")
    file_metadata = AbsentMethod("Use os.stat on the files of mount().")
    filter = AbsentMethod(_BY_PATH)
    hydrate = AbsentMethod(_NO_CACHE)
    __getitem__ = AbsentMethod(_BY_PATH)


class MountContext:
    """A mounted FileDataset."""

    def __init__(self, dataset: FileDataset, mount_point: "Optional[str]") -> None:
        self._dataset = dataset
        self._made: "List[str]" = []
        self._folders: "List[str]" = []
        own = dataset._folder() if mount_point is None else None
        self._in_place = own is not None
        if own is None and mount_point is None:
            import tempfile

            own = tempfile.mkdtemp(prefix="windlass-")
            self._folders.append(own)
        self.mount_point = own if own is not None else os.path.abspath(os.path.expanduser(str(mount_point)))
        """The folder."""

    def start(self) -> None:
        """Make the files visible at ``mount_point``.

        Raises:
            UserErrorException: something lies there already.
        """
        if self._in_place or self._made:
            return
        if os.path.isdir(self.mount_point) and os.listdir(self.mount_point):
            raise UserErrorException("mount_point=%r is not empty; give an empty folder." % self.mount_point)
        for file in self._dataset._files():
            link = inside(self.mount_point, file.name)
            self._make_folder(os.path.dirname(link))
            os.symlink(local_path(self._dataset._workspace, file), link)
            self._made.append(link)

    def stop(self) -> None:
        """Take the links away."""
        for link in self._made:
            if os.path.islink(link):
                os.unlink(link)
        for folder in reversed(self._folders):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
        self._made, self._folders = [], []

    def _make_folder(self, folder: str) -> None:
        if not os.path.isdir(folder):
            self._make_folder(os.path.dirname(folder))
            os.mkdir(folder)
            self._folders.append(folder)

    def __enter__(self) -> "MountContext":
        self.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self.stop()
