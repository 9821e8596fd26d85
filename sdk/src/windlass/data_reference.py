"""``DataReference`` and ``DataPath``: data of a datastore that a job uses; v1's ``azureml.data.data_reference``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Optional

from windlass._not_offered import not_offered
from windlass.errors import UserErrorException
from windlass.settings import REFERENCE_VARIABLE
from windlass.specs.data import DOWNLOAD, MOUNT, REFERENCE, UPLOAD, DataPlace, DataSpec

if TYPE_CHECKING:
    from windlass.datastore import AbstractDatastore

_NAME = re.compile(r"[A-Za-z0-9_]{1,255}\Z")
_MODES = (MOUNT, DOWNLOAD, UPLOAD)


class DataReference:
    """A file or folder of a datastore, and how a job gets it.

    Give it among a job's arguments: the script gets the path. The variable ``AZUREML_DATAREFERENCE_<name>`` of the job
    holds the path, too.

    Args:
        datastore: Where the data lies.
        data_reference_name: Letters, digits and ``_``; default: the datastore's name, or one made of the path.
        path_on_datastore: A file or folder; None is the whole datastore.
        mode: ``mount``: used in place; ``download``: copied before the script starts; ``upload``: what the script
            writes is copied to the datastore when it has ended.
        path_on_compute: Where to, relative to the script's working folder.
        overwrite: Replace files that are there already; without it one is an error.
    """

    def __init__(
        self, datastore: "AbstractDatastore", data_reference_name: "Optional[str]" = None,
        path_on_datastore: "Optional[str]" = None, mode: str = "mount", path_on_compute: "Optional[str]" = None,
        overwrite: bool = False,
    ) -> None:  # fmt: skip
        if mode not in _MODES:
            raise UserErrorException("mode=%r is none of %s." % (mode, ", ".join(_MODES)))
        self.datastore = datastore
        self.path_on_datastore = None if path_on_datastore is None else store_path(path_on_datastore)
        self.data_reference_name = reference_name(datastore.name, self.path_on_datastore, data_reference_name)
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    @staticmethod
    def create(
        data_reference_name: "Optional[str]" = None, datapath: "Optional[DataPath]" = None,
        datapath_compute_binding: "Optional[DataPathComputeBinding]" = None,
    ) -> "DataReference":  # fmt: skip
        """A reference to a DataPath."""
        if datapath is None:
            raise UserErrorException("DataReference.create needs datapath=DataPath(datastore, path).")
        return datapath.create_data_reference(data_reference_name, datapath_compute_binding)

    def path(self, path: "Optional[str]" = None, data_reference_name: "Optional[str]" = None) -> "DataReference":
        """A reference to ``path`` below this one."""
        both = "/".join(part for part in (self.path_on_datastore, path and store_path(path)) if part)
        return DataReference(
            self.datastore, data_reference_name, both or None, self.mode, self.path_on_compute, self.overwrite
        )

    def as_mount(self) -> "DataReference":
        """The same data, used in place."""
        return self._as(MOUNT)

    def as_download(self, path_on_compute: "Optional[str]" = None, overwrite: bool = False) -> "DataReference":
        """The same data, copied before the script starts."""
        return self._as(DOWNLOAD, path_on_compute, overwrite)

    def as_upload(self, path_on_compute: "Optional[str]" = None, overwrite: bool = False) -> "DataReference":
        """The same place, to which is copied what the script writes to ``path_on_compute``."""
        return self._as(UPLOAD, path_on_compute, overwrite)

    def to_config(self) -> Any:
        """The entry of ``RunConfiguration.data_references`` that says the same."""
        from windlass._runconfig_parts import DataReferenceConfiguration

        return DataReferenceConfiguration(
            datastore_name=self.datastore.name, mode=self.mode, path_on_datastore=self.path_on_datastore,
            path_on_compute=self.path_on_compute, overwrite=self.overwrite,
        )  # fmt: skip

    def _as(self, mode: str, path_on_compute: "Optional[str]" = None, overwrite: bool = False) -> "DataReference":
        name, path = self.data_reference_name, self.path_on_datastore
        return DataReference(self.datastore, name, path, mode, path_on_compute, overwrite)

    def _argument(self) -> str:
        return "$%s%s" % (REFERENCE_VARIABLE, self.data_reference_name)

    def _data(self) -> DataSpec:
        return reference_data(
            self.data_reference_name, self.datastore.name, self.mode, self.path_on_datastore, self.path_on_compute,
            self.overwrite,
        )  # fmt: skip

    def __str__(self) -> str:
        return self._argument()

    def __repr__(self) -> str:
        return "DataReference(datastore=%r, data_reference_name=%r, path_on_datastore=%r, mode=%r)" % (
            self.datastore.name, self.data_reference_name, self.path_on_datastore, self.mode,
        )  # fmt: skip


class DataPath:
    """A path of a datastore; v1's ``azureml.data.datapath.DataPath``. Among arguments it is used in place."""

    def __init__(
        self, datastore: "Optional[AbstractDatastore]" = None, path_on_datastore: "Optional[str]" = None,
        name: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        if datastore is None:
            raise UserErrorException("DataPath needs a datastore, such as ws.get_default_datastore().")
        self._datastore = datastore
        self._path = None if path_on_datastore is None else store_path(path_on_datastore)
        self._name = name

    @property
    def datastore_name(self) -> str:
        """Name of the datastore."""
        return self._datastore.name

    @property
    def path_on_datastore(self) -> "Optional[str]":
        """The path there; None is all of it."""
        return self._path

    def create_data_reference(
        self, data_reference_name: "Optional[str]" = None,
        datapath_compute_binding: "Optional[DataPathComputeBinding]" = None,
    ) -> DataReference:  # fmt: skip
        """A reference to this path, used as the binding says."""
        how = datapath_compute_binding or DataPathComputeBinding()
        return DataReference(
            self._datastore, data_reference_name or self._name, self._path, how.mode, how.path_on_compute, how.overwrite
        )

    @staticmethod
    def create_from_data_reference(data_reference: DataReference) -> "DataPath":
        """The path of a reference."""
        return DataPath(data_reference.datastore, data_reference.path_on_datastore, data_reference.data_reference_name)

    def _argument(self) -> str:
        return self.create_data_reference()._argument()

    def _data(self) -> DataSpec:
        return self.create_data_reference()._data()

    def __repr__(self) -> str:
        return "DataPath(datastore=%r, path_on_datastore=%r)" % (self.datastore_name, self._path)


class DataPathComputeBinding:
    """How a job gets a DataPath; v1's ``azureml.data.datapath.DataPathComputeBinding``."""

    def __init__(self, mode: str = "mount", path_on_compute: "Optional[str]" = None, overwrite: bool = False) -> None:
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def create_data_reference(
        self, data_reference_name: "Optional[str]" = None, datapath: "Optional[DataPath]" = None
    ) -> DataReference:
        """A reference to ``datapath``, used in this way."""
        return DataReference.create(data_reference_name, datapath, self)

    @staticmethod
    def create_from_data_reference(data_reference: DataReference) -> "DataPathComputeBinding":
        """The way a reference is used."""
        return DataPathComputeBinding(data_reference.mode, data_reference.path_on_compute, data_reference.overwrite)


def reference_data(
    name: str, datastore: str, mode: str, path: "Optional[str]" = None, path_on_compute: "Optional[str]" = None,
    overwrite: bool = False,
) -> DataSpec:  # fmt: skip
    """What a data reference of these values asks for."""
    return DataSpec(
        name=name, kind=REFERENCE, mode=mode, places=(DataPlace(path or "", datastore),),
        path_on_compute=compute_path(path_on_compute), overwrite=bool(overwrite),
    )  # fmt: skip


def reference_name(datastore: str, path: "Optional[str]", given: "Optional[str]") -> str:
    """The name of a reference: ``given``, else the datastore's for all of it, else one that the path gives.

    Raises:
        UserErrorException: ``given`` cannot be a part of a variable's name.
    """
    if given is not None:
        if not isinstance(given, str) or not _NAME.match(given):
            raise UserErrorException(
                "data_reference_name=%r: give letters, digits and '_'; it becomes a part of a variable." % (given,)
            )
        return given
    if not path:
        return datastore
    import hashlib

    return hashlib.sha256(("%s\0%s" % (datastore, path)).encode()).hexdigest()[:32]


def store_path(path: Any) -> str:
    """``path`` as a path of a datastore: with forward slashes, relative, not leading outside.

    Raises:
        UserErrorException: it leads outside, or is no text.
    """
    if not isinstance(path, str) or "\0" in path:
        raise UserErrorException("%r is no path of a datastore; give text such as 'mnist/train'." % (path,))
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UserErrorException("The path %r leads out of the datastore; give one without '..'." % path)
    return "/".join(parts)


def compute_path(path: "Optional[str]") -> "Optional[str]":
    """``path_on_compute``, checked.

    Raises:
        NotOffered: it is absolute.
        UserErrorException: it leads out of the working folder.
    """
    if path is None or path == "":
        return None
    text = str(path).replace("\\", "/")
    if text.startswith("/") or ":" in text.split("/")[0]:
        raise not_offered(
            "The absolute path_on_compute=%r" % path,
            "Runs share this machine: give a path relative to the script's folder, or none, and let the script take "
            "the path from its argument.",
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise UserErrorException("path_on_compute=%r must be a path below the script's folder." % path)
    return "/".join(parts)
