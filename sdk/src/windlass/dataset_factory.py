"""``Dataset.File`` and ``Dataset.Tabular``: make datasets; v1's ``azureml.data.dataset_factory``."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, NoReturn, Optional

from windlass import _transfer
from windlass._data_files import Given, files_of, given_places
from windlass._not_offered import not_offered, refuse_options
from windlass.dataset_types import PromoteHeadersBehavior
from windlass.errors import UserErrorException
from windlass.file_dataset import FileDataset
from windlass.specs.data import DataPlace, pattern_expression
from windlass.tabular_dataset import TabularDataset

_HEADERS = {
    PromoteHeadersBehavior.NO_HEADERS: "none", PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS: "first",
    PromoteHeadersBehavior.COMBINE_ALL_FILES_HEADERS: "all",
    PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS: "same", True: "same", False: "none",
}  # fmt: skip
_NO_PARTITIONS = "Give a pattern such as 'year=2026/**/*.csv' as path."
_ENCODINGS = ("utf8", "iso88591", "latin1", "ascii", "utf16", "utf32", "utf8bom", "windows1252")


class FileDatasetFactory:
    """Makes FileDatasets; it is ``Dataset.File``."""

    @staticmethod
    def from_files(
        path: Any, validate: bool = True, partition_format: "Optional[str]" = None, is_file: bool = False
    ) -> FileDataset:
        """A dataset of files.

        Args:
            path: A path or pattern (``*``, ``?``, ``[…]``, ``**``) on this machine, ``(datastore, path)``, a DataPath,
                or a list of those. A folder stands for all files below it.
            validate: Check that there is a file.
            partition_format: Not offered.
            is_file: Says nothing: what is a file is seen.

        Raises:
            UserErrorException: there is no file at a path.
            NotOffered: a path is an address on the web.
        """
        refuse_options("Dataset.File.from_files", {"partition_format": (partition_format, None, _NO_PARTITIONS)})
        given = given_places(path)
        if validate:
            _check(given)
        return FileDataset._make(given.workspace, given.places)

    @staticmethod
    def upload_directory(
        src_dir: str, target: Any, pattern: "Optional[str]" = None, overwrite: bool = False, show_progress: bool = True
    ) -> FileDataset:
        """Copy a folder to a datastore; returns a dataset of what lies there.

        Args:
            src_dir: The folder.
            target: ``(datastore, path)``, a DataPath, or a datastore.
            pattern: Only files below ``src_dir`` that match it, such as ``**/*.png``.
            overwrite: Replace files that are there already; without it they are left as they are.
            show_progress: Print a line for each file.
        """
        place, store = _target(target)
        sources = _transfer.files_below(src_dir)
        if pattern is not None:
            import re

            expression = re.compile(pattern_expression(pattern))
            sources = [source for source in sources if expression.match(source.name)]
        if not sources:
            matching = " that matches %r" % pattern if pattern else ""
            raise UserErrorException("There is no file to upload in %r%s." % (src_dir, matching))
        _transfer.upload(store, sources, place.path, overwrite, show_progress)
        return FileDataset._make(store.workspace, [place])


class TabularDatasetFactory:
    """Makes TabularDatasets; it is ``Dataset.Tabular``."""

    @staticmethod
    def from_delimited_files(
        path: Any, validate: bool = True, include_path: bool = False, infer_column_types: bool = True,
        set_column_types: "Optional[Dict[str, ColumnType]]" = None, separator: str = ",", header: Any = True,
        partition_format: "Optional[str]" = None, support_multi_line: bool = False, empty_as_string: bool = False,
        encoding: str = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """A dataset of CSV and similar files.

        Args:
            path: As for ``Dataset.File.from_files``.
            validate: Check that there is a file.
            include_path: Add the column ``Path`` with each row's file.
            infer_column_types: False leaves all columns as text.
            set_column_types: ``DataType.to_…()`` by column.
            separator: Between columns.
            header: Whether the first line has the names of the columns, or one of PromoteHeadersBehavior.
            partition_format: Not offered.
            support_multi_line: Says nothing: quoted values may always span lines.
            empty_as_string: True reads empty fields as empty text instead of missing.
            encoding: utf8, iso88591, latin1, ascii, utf16, utf32, utf8bom or windows1252.
        """
        if (isinstance(header, int) and not isinstance(header, bool)) or header not in _HEADERS:
            raise UserErrorException("header=%r must be True, False or one of PromoteHeadersBehavior." % (header,))
        if not isinstance(separator, str) or not separator:
            raise UserErrorException("separator=%r must be text such as ','." % (separator,))
        read = {
            "format": "delimited", "separator": separator, "headers": _HEADERS[header],
            "infer": bool(infer_column_types), "empty_as_string": bool(empty_as_string), "encoding": _known(encoding),
        }  # fmt: skip
        return _table("from_delimited_files", path, validate, include_path, set_column_types, partition_format, read)

    @staticmethod
    def from_parquet_files(
        path: Any, validate: bool = True, include_path: bool = False,
        set_column_types: "Optional[Dict[str, ColumnType]]" = None, partition_format: "Optional[str]" = None,
    ) -> TabularDataset:  # fmt: skip
        """A dataset of Parquet files; reading it needs pyarrow. Arguments as for ``from_delimited_files``."""
        read = {"format": "parquet"}
        return _table("from_parquet_files", path, validate, include_path, set_column_types, partition_format, read)

    @staticmethod
    def from_json_lines_files(
        path: Any, validate: bool = True, include_path: bool = False,
        set_column_types: "Optional[Dict[str, ColumnType]]" = None, partition_format: "Optional[str]" = None,
        invalid_lines: str = "error", encoding: str = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """A dataset of files with a JSON object on each line. ``invalid_lines`` is ``error`` or ``drop``."""
        if invalid_lines not in ("error", "drop"):
            raise UserErrorException("invalid_lines=%r must be 'error' or 'drop'." % (invalid_lines,))
        read = {"format": "json lines", "invalid_lines": invalid_lines, "encoding": _known(encoding)}
        return _table("from_json_lines_files", path, validate, include_path, set_column_types, partition_format, read)

    @staticmethod
    def from_sql_query(
        query: Any, validate: bool = True, set_column_types: Any = None, query_timeout: int = 30
    ) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.Tabular.from_sql_query()", "Export the rows to files and upload them.")

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any, target: Any, name: str, description: "Optional[str]" = None,
        tags: "Optional[Dict[str, str]]" = None, show_progress: bool = True, row_group_size: "Optional[int]" = None,
        make_target_path_unique: bool = True,
    ) -> TabularDataset:  # fmt: skip
        """Write a DataFrame as a Parquet file to a datastore and register it as the next version of ``name``.

        Args:
            dataframe: The DataFrame.
            target: ``(datastore, path)``, a DataPath, or a datastore: the folder.
            name: Of the dataset.
            description: Text for people.
            tags: Text by key.
            show_progress: Print a line for the file.
            row_group_size: Rows in each group of the file.
            make_target_path_unique: Write to a new folder below the target.
        """
        import tempfile
        import uuid

        place, store = _target(target)
        parts = [place.path, str(uuid.uuid4()) if make_target_path_unique else ""]
        folder = "/".join(part for part in parts if part)
        with tempfile.TemporaryDirectory(prefix="windlass-") as made:
            file = os.path.join(made, "part-00000.parquet")
            try:
                dataframe.to_parquet(file, **({"row_group_size": row_group_size} if row_group_size else {}))
            except ImportError as e:
                raise UserErrorException("Writing Parquet needs the package pyarrow. Install it.") from e
            _transfer.upload(store, [_transfer.Source(file, os.path.basename(file))], folder, True, show_progress)
        dataset = TabularDataset._make(store.workspace, [DataPlace(folder, store.name)], {"format": "parquet"})
        return dataset.register(store.workspace, name, description, tags, create_new_version=True)

    @staticmethod
    def register_dask_dataframe(
        dataframe: Any, target: Any, name: str, description: Any = None, tags: Any = None, show_progress: bool = True
    ) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.Tabular.register_dask_dataframe()", "Use register_pandas_dataframe().")

    @staticmethod
    def register_spark_dataframe(
        dataframe: Any, target: Any, name: str, description: Any = None, tags: Any = None, show_progress: bool = True
    ) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.Tabular.register_spark_dataframe()", "Use register_pandas_dataframe().")


class ColumnType(Dict[str, Any]):
    """The type that a column is to have; ``DataType`` makes it."""


class DataType:
    """Types of columns for ``set_column_types``."""

    @staticmethod
    def to_string() -> ColumnType:
        """Text."""
        return ColumnType(kind="string")

    @staticmethod
    def to_long() -> ColumnType:
        """Whole numbers."""
        return ColumnType(kind="long")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> ColumnType:
        """Numbers; ``decimal_mark`` is ``.`` or ``,``."""
        if decimal_mark not in (".", ","):
            raise UserErrorException("decimal_mark=%r must be '.' or ','." % (decimal_mark,))
        return ColumnType(kind="float", decimal_mark=decimal_mark)

    @staticmethod
    def to_bool() -> ColumnType:
        """True and false."""
        return ColumnType(kind="bool")

    @staticmethod
    def to_datetime(formats: Any = None) -> ColumnType:
        """Times, in one of ``formats`` (as ``strptime`` has them), or in the format that the text suggests."""
        given = [formats] if isinstance(formats, str) else list(formats or [])
        return ColumnType(kind="datetime", formats=given)

    @staticmethod
    def to_stream(workspace: Any, escaped: bool = False) -> NoReturn:
        """Not offered."""
        raise not_offered("DataType.to_stream()", "Keep the paths as text and open them in the script.")


def _table(
    call: str, path: Any, validate: bool, include_path: bool, types: Any, partition_format: Any,
    read: "Mapping[str, Any]",
) -> TabularDataset:  # fmt: skip
    refuse_options("Dataset.Tabular." + call, {"partition_format": (partition_format, None, _NO_PARTITIONS)})
    for name, wanted in (types or {}).items():
        if not isinstance(wanted, ColumnType):
            raise UserErrorException(
                "set_column_types[%r]=%r is no type; use DataType.to_long() and its like." % (name, wanted)
            )
    given = given_places(path)
    if validate:
        _check(given)
    typed = {name: dict(wanted) for name, wanted in (types or {}).items()}
    return TabularDataset._make(
        given.workspace, given.places, {**read, "include_path": bool(include_path), "types": typed}
    )


def _check(given: Given) -> None:
    for place in given.places:
        if not files_of(given.workspace, [place]):
            where = "the datastore %r" % place.datastore if place.datastore else "this machine"
            raise UserErrorException(
                "There is no file at %r of %s. Upload it first, or pass validate=False." % (place.path, where)
            )


def _target(target: Any) -> "tuple[DataPlace, Any]":
    """The one place of a datastore that ``target`` names, and the datastore."""
    from windlass.datastore import Datastore

    given = given_places(target)
    if len(given.places) != 1 or given.workspace is None:
        raise UserErrorException("target=%r must be (datastore, 'path in it') or a DataPath." % (target,))
    place = given.places[0]
    return place, Datastore(given.workspace, place.datastore)


def _known(encoding: Any) -> str:
    if encoding not in _ENCODINGS:
        raise UserErrorException("encoding=%r is none of %s." % (encoding, ", ".join(_ENCODINGS)))
    return str(encoding)
