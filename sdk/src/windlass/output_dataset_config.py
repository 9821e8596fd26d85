"""``OutputFileDatasetConfig``: files that a job makes; v1's ``azureml.data.OutputFileDatasetConfig``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from windlass._data_files import given_places
from windlass._not_offered import AbsentMethod, not_offered, refuse_options
from windlass._submit import checked_tags
from windlass.errors import UserErrorException
from windlass.specs.data import MOUNT, OUTPUT, PLACEHOLDERS, UPLOAD, DataPlace, DataSpec, is_pattern

if TYPE_CHECKING:
    from windlass.datastore import Datastore

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_DEFAULT = ("workspaceblobstore", "dataset/{run-id}/{output-name}")
_READ_LATER = "Make a tabular dataset of the registered files: Dataset.Tabular.from_delimited_files."


class RegistrationConfiguration(NamedTuple):
    """What a job's output is registered as when its run has completed."""

    name: str
    description: Optional[str]
    tags: Optional[Dict[str, str]]


class UploadOptions(NamedTuple):
    """How a job's output is copied."""

    overwrite: bool = False
    source_globs: Optional[List[str]] = None


class OutputFileDatasetConfig:
    """A folder of a datastore that a job's script fills.

    Among a job's arguments it becomes the path to write to. It is written in place (``as_mount``, the default) or
    copied to the datastore when the script has ended (``as_upload``).

    Args:
        name: A letter or ``_``, then letters, digits and ``_``; default: one that is not taken.
        destination: ``(datastore, path)``; ``{run-id}`` and ``{output-name}`` in the path are replaced. Default: the
            folder ``dataset/{run-id}/{output-name}`` of ``workspaceblobstore``.
        source: Where the script writes to, relative to its working folder; only with ``as_upload``.
        partition_format: Not offered.
    """

    def __init__(
        self, name: "Optional[str]" = None, destination: "Optional[Tuple[Datastore, str]]" = None,
        source: "Optional[str]" = None, partition_format: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        refuse_options("OutputFileDatasetConfig", {"partition_format": (partition_format, None, "Leave it out.")})
        if name is None:
            import uuid

            name = "output_%s" % uuid.uuid4().hex[:8]
        if not isinstance(name, str) or not _NAME.match(name):
            raise UserErrorException(
                "%r cannot name an output: a letter or '_', then letters, digits and '_'." % (name,)
            )
        self._name = name
        self.destination = destination
        self.source = source
        self.mode = MOUNT
        self._upload = UploadOptions()
        self._registration: "Optional[RegistrationConfiguration]" = None
        self._place = _destination(destination)

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def as_mount(self, disable_metadata_cache: bool = False) -> "OutputFileDatasetConfig":
        """The same output, written in place; there is no cache to disable."""
        made = self._copy()
        made.mode = MOUNT
        return made

    def as_upload(
        self, overwrite: bool = False, source_globs: "Optional[List[str]]" = None
    ) -> "OutputFileDatasetConfig":
        """The same output, copied when the script has ended.

        Args:
            overwrite: Replace files that are there; without it one with other content is an error.
            source_globs: Only files that one of these patterns matches.
        """
        made = self._copy()
        made.mode = UPLOAD
        made._upload = UploadOptions(overwrite, source_globs)
        return made

    def register_on_complete(
        self, name: str, description: "Optional[str]" = None, tags: "Optional[Dict[str, str]]" = None
    ) -> "OutputFileDatasetConfig":
        """The same output, registered as the next version of the dataset ``name`` when the run has completed."""
        if not isinstance(name, str) or not name:
            raise UserErrorException("name=%r: give the dataset a name." % (name,))
        made = self._copy()
        made._registration = RegistrationConfiguration(name, description, checked_tags(tags))
        return made

    def as_input(self, name: "Optional[str]" = None) -> Any:
        """Not offered: it is for pipelines."""
        raise not_offered("OutputFileDatasetConfig.as_input()", "Register it and read the dataset in the next run.")

    read_delimited_files = AbsentMethod(_READ_LATER)
    read_parquet_files = AbsentMethod(_READ_LATER)

    def _copy(self) -> "OutputFileDatasetConfig":
        made = OutputFileDatasetConfig(self._name, self.destination, self.source)
        made.mode, made._upload, made._registration = self.mode, self._upload, self._registration
        return made

    def _argument(self) -> str:
        return PLACEHOLDERS[OUTPUT] + self._name

    def _data(self) -> DataSpec:
        from windlass.data_reference import compute_path

        if self.source is not None and self.mode != UPLOAD:
            raise UserErrorException("source=%r needs as_upload(): what is mounted is written in place." % self.source)
        registration = self._registration
        return DataSpec(
            name=self._name, kind=OUTPUT, mode=self.mode,
            places=(DataPlace(self._place.path.replace("{output-name}", self._name), self._place.datastore),),
            path_on_compute=compute_path(self.source), overwrite=self._upload.overwrite,
            register=dict(registration._asdict()) if registration else {},
            globs=tuple(self._upload.source_globs or ()),
        )  # fmt: skip

    def __str__(self) -> str:
        return self._argument()

    def __repr__(self) -> str:
        return "OutputFileDatasetConfig(name=%r, destination=%r, mode=%r)" % (self._name, self._place, self.mode)


def _destination(destination: Any) -> DataPlace:
    if destination is None:
        return DataPlace(_DEFAULT[1], _DEFAULT[0])
    given = given_places(destination)
    if len(given.places) != 1 or given.workspace is None or is_pattern(given.places[0].path):
        raise UserErrorException("destination=%r must be (datastore, 'path in it')." % (destination,))
    return given.places[0]
