"""``TabularDataset``: files read as one table; v1's ``azureml.data.TabularDataset``."""

from __future__ import annotations

from typing import Any, List, Union

from windlass._data_files import files_of, local_path
from windlass._not_offered import AbsentMethod, AbsentProperty
from windlass.abstract_dataset import AbstractDataset, positive
from windlass.errors import UserErrorException

_PANDAS = "Use to_pandas_dataframe() and pandas."
_MAKE_FILES = "Make the dataset with Dataset.File.from_files."
_ON_ERROR = ("null", "fail")


class TabularDataset(AbstractDataset):
    """A table in delimited, Parquet or JSON lines files. Make one with ``Dataset.Tabular``; pandas reads it."""

    _kind = "Tabular"

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> Any:
        """The table as a pandas DataFrame.

        Args:
            on_error: A value that does not fit the type set for its column: ``null`` makes it missing, ``fail``
                raises.
            out_of_range_datetime: As ``on_error``, for times that pandas cannot hold.

        Raises:
            UserErrorException: pandas (or, for Parquet, pyarrow) is not installed, or a file cannot be read.
        """
        from windlass._table import read_table

        for name, value in (("on_error", on_error), ("out_of_range_datetime", out_of_range_datetime)):
            if value not in _ON_ERROR:
                raise UserErrorException("%s=%r is none of %s." % (name, value, ", ".join(_ON_ERROR)))
        if out_of_range_datetime != on_error and out_of_range_datetime == "fail":
            on_error = "fail-times"
        files = [(file.name, local_path(self._workspace, file)) for file in files_of(self._workspace, self._places)]
        return read_table(files, self._read, self._steps, on_error)

    def take(self, count: int) -> "TabularDataset":
        """Only its first ``count`` rows."""
        return self._then(op="take", count=positive("count", count))

    def skip(self, count: int) -> "TabularDataset":
        """All but its first ``count`` rows."""
        return self._then(op="skip", count=positive("count", count))

    def keep_columns(self, columns: "Union[str, List[str]]", validate: bool = False) -> "TabularDataset":
        """Only these columns. With ``validate`` the files are read to see that they exist."""
        kept = self._then(op="keep", columns=_names(columns))
        if validate:
            kept.to_pandas_dataframe()
        return kept

    def drop_columns(self, columns: "Union[str, List[str]]") -> "TabularDataset":
        """All but these columns."""
        return self._then(op="drop", columns=_names(columns))

    download = AbsentMethod(_MAKE_FILES)
    filter = AbsentMethod(_PANDAS)
    get_profile = AbsentMethod("Use to_pandas_dataframe().describe().")
    get_profile_runs = AbsentMethod("Use to_pandas_dataframe().describe().")
    mount = AbsentMethod(_MAKE_FILES)
    partition_by = AbsentMethod("Write the parts with pandas and make a dataset of them.")
    submit_profile_run = AbsentMethod("Use to_pandas_dataframe().describe().")
    time_after = AbsentMethod(_PANDAS)
    time_before = AbsentMethod(_PANDAS)
    time_between = AbsentMethod(_PANDAS)
    time_recent = AbsentMethod(_PANDAS)
    timestamp_columns = AbsentProperty(_PANDAS)
    to_csv_files = AbsentMethod("Use to_pandas_dataframe().to_csv().")
    to_dask_dataframe = AbsentMethod(_PANDAS)
    to_parquet_files = AbsentMethod("Use to_pandas_dataframe().to_parquet().")
    to_spark_dataframe = AbsentMethod(_PANDAS)
    with_timestamp_columns = AbsentMethod(_PANDAS)
    __getitem__ = AbsentMethod("Use keep_columns().")


def _names(columns: Any) -> "List[str]":
    names = [columns] if isinstance(columns, str) else list(columns)
    if not all(isinstance(name, str) for name in names):
        raise UserErrorException("columns=%r must be a name or a list of names." % (columns,))
    return names
