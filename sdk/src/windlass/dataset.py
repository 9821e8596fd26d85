"""``Dataset``: make, find and list datasets; v1's ``azureml.core.Dataset``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Optional

from windlass._not_offered import AbsentMethod, AbsentProperty, not_offered, refuse_options
from windlass.abstract_dataset import AbstractDataset
from windlass.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from windlass.dataset_types import FileEncoding, PromoteHeadersBehavior, SkipLinesBehavior
from windlass.errors import UserErrorException
from windlass.file_dataset import FileDataset
from windlass.tabular_dataset import TabularDataset

if TYPE_CHECKING:
    from windlass.workspace import Workspace

_OLD = "Datasets are made with Dataset.File and Dataset.Tabular."
_SNAPSHOTS = "Register a version: register(workspace, name, create_new_version=True)."
_PROFILE = "Use to_pandas_dataframe().describe()."
_ENCODINGS = {encoding: encoding.name.lower() for encoding in FileEncoding}


class Dataset:
    """The way to datasets: ``Dataset.File``, ``Dataset.Tabular``, and those that are registered."""

    File = FileDatasetFactory
    """Makes datasets of files."""
    Tabular = TabularDatasetFactory
    """Makes tables."""

    class Scenario:
        """What a dataset is for, in a model's list of datasets."""

        INFERENCING = "inferencing"
        TRAINING = "training"
        VALIDATION = "validation"

    def __init__(self, definition: Any, workspace: Any = None, name: Any = None, id: Any = None) -> None:
        raise not_offered("Dataset(definition)", _OLD)

    @staticmethod
    def get_by_name(workspace: "Workspace", name: str, version: Any = "latest", **kwargs: Any) -> Any:
        """A registered dataset: a version of it, or its latest."""
        return AbstractDataset.get_by_name(workspace, name, version, **kwargs)

    @staticmethod
    def get_by_id(workspace: "Workspace", id: str, **kwargs: Any) -> Any:
        """The dataset of that id, registered or read by a run."""
        return AbstractDataset.get_by_id(workspace, id, **kwargs)

    @staticmethod
    def get_all(workspace: "Workspace") -> "Dict[str, AbstractDataset]":
        """The latest version of each registered dataset by name."""
        return AbstractDataset.get_all(workspace)

    @staticmethod
    def get(workspace: "Workspace", name: "Optional[str]" = None, id: "Optional[str]" = None) -> Any:
        """v1's older ``get_by_name`` and ``get_by_id``."""
        _deprecated("get", "get_by_name or get_by_id")
        if id is not None:
            return AbstractDataset.get_by_id(workspace, id)
        if name is None:
            raise UserErrorException("Dataset.get needs a name or an id.")
        return AbstractDataset.get_by_name(workspace, name)

    @staticmethod
    def list(workspace: "Workspace") -> "List[AbstractDataset]":
        """v1's older ``get_all``: the latest versions."""
        _deprecated("list", "get_all")
        return [*AbstractDataset.get_all(workspace).values()]

    @staticmethod
    def from_files(path: Any, validate: bool = True) -> FileDataset:
        """An older name of ``Dataset.File.from_files``."""
        _deprecated("from_files", "Dataset.File.from_files")
        return FileDatasetFactory.from_files(path, validate)

    @staticmethod
    def from_binary_files(path: Any) -> FileDataset:
        """v1's older ``Dataset.File.from_files``."""
        _deprecated("from_binary_files", "Dataset.File.from_files")
        return FileDatasetFactory.from_files(path)

    @staticmethod
    def from_delimited_files(
        path: Any, separator: str = ",",
        header: PromoteHeadersBehavior = PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS,
        encoding: FileEncoding = FileEncoding.UTF8, quoting: bool = False, infer_column_types: bool = True,
        skip_rows: int = 0, skip_mode: SkipLinesBehavior = SkipLinesBehavior.NO_ROWS, comment: "Optional[str]" = None,
        include_path: bool = False, archive_options: Any = None, partition_format: "Optional[str]" = None,
    ) -> TabularDataset:  # fmt: skip
        """v1's older ``Dataset.Tabular.from_delimited_files``.

        Args:
            skip_rows: Lines to leave out, from the files that ``skip_mode`` says.
            comment: Lines that begin with it are left out.
            quoting: Says nothing: quoted values may always span lines.
        """
        _deprecated("from_delimited_files", "Dataset.Tabular.from_delimited_files")
        refuse_options("Dataset.from_delimited_files", {
            "archive_options": (archive_options, None, "Unpack the archive first."),
        })  # fmt: skip
        made = TabularDatasetFactory.from_delimited_files(
            path, include_path=include_path, infer_column_types=infer_column_types, separator=separator,
            header=header, partition_format=partition_format, encoding=_ENCODINGS[encoding],
        )  # fmt: skip
        skip = {SkipLinesBehavior.FROM_ALL_FILES: "all", SkipLinesBehavior.FROM_FIRST_FILE_ONLY: "first"}.get(skip_mode)
        made._read.update({"skip_rows": skip_rows if skip else 0, "skip": skip or "first", "comment": comment})
        return made

    @staticmethod
    def from_parquet_files(
        path: Any, include_path: bool = False, partition_format: "Optional[str]" = None
    ) -> TabularDataset:
        """v1's older ``Dataset.Tabular.from_parquet_files``."""
        _deprecated("from_parquet_files", "Dataset.Tabular.from_parquet_files")
        return TabularDatasetFactory.from_parquet_files(
            path, include_path=include_path, partition_format=partition_format
        )

    @staticmethod
    def from_pandas_dataframe(dataframe: Any, path: Any = None, in_memory: bool = False) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.from_pandas_dataframe()", "Use Dataset.Tabular.register_pandas_dataframe().")

    @staticmethod
    def from_json_files(
        path: Any, encoding: FileEncoding = FileEncoding.UTF8, flatten_nested_arrays: bool = False,
        include_path: bool = False, partition_format: "Optional[str]" = None,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Dataset.from_json_files()", "Use Dataset.Tabular.from_json_lines_files().")

    @staticmethod
    def from_excel_files(
        path: Any, sheet_name: "Optional[str]" = None, use_column_headers: bool = False, skip_rows: int = 0,
        include_path: bool = False, infer_column_types: bool = True, partition_format: "Optional[str]" = None,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Dataset.from_excel_files()", "Read the file with pandas and write it as CSV.")

    @staticmethod
    def from_sql_query(data_source: Any, query: str) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.from_sql_query()", "Export the rows to files and upload them.")

    @staticmethod
    def auto_read_files(path: Any, include_path: bool = False, partition_format: "Optional[str]" = None) -> NoReturn:
        """Not offered."""
        raise not_offered("Dataset.auto_read_files()", "Say what they are: Dataset.Tabular.from_delimited_files().")

    archive = AbsentMethod(_OLD)
    compare_profiles = AbsentMethod(_PROFILE)
    create_snapshot = AbsentMethod(_SNAPSHOTS)
    definition = AbsentProperty(_OLD)
    definition_version = AbsentProperty(_OLD)
    delete_snapshot = AbsentMethod(_SNAPSHOTS)
    deprecate = AbsentMethod(_OLD)
    description = AbsentProperty(_OLD)
    diff = AbsentMethod("Use to_pandas_dataframe() and compare.")
    generate_profile = AbsentMethod(_PROFILE)
    get_all_snapshots = AbsentMethod(_SNAPSHOTS)
    get_definition = AbsentMethod(_OLD)
    get_definitions = AbsentMethod(_OLD)
    get_profile = AbsentMethod(_PROFILE)
    get_snapshot = AbsentMethod(_SNAPSHOTS)
    head = AbsentMethod("Use take(count).to_pandas_dataframe().")
    id = AbsentProperty(_OLD)
    is_visible = AbsentProperty(_OLD)
    name = AbsentProperty(_OLD)
    reactivate = AbsentMethod(_OLD)
    register = AbsentMethod(_OLD)
    sample = AbsentMethod("Use to_pandas_dataframe().sample().")
    state = AbsentProperty(_OLD)
    tags = AbsentProperty(_OLD)
    to_pandas_dataframe = AbsentMethod(_OLD)
    to_spark_dataframe = AbsentMethod(_OLD)
    update = AbsentMethod(_OLD)
    update_definition = AbsentMethod(_OLD)
    workspace = AbsentProperty(_OLD)
    __getitem__ = AbsentMethod(_OLD)


def _deprecated(old: str, new: str) -> None:
    warnings.warn("Dataset.%s is deprecated; use %s." % (old, new), DeprecationWarning, stacklevel=3)
