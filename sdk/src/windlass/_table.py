"""Files become one table, with the pandas of the user's environment."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from windlass.errors import UserErrorException
from windlass.specs.data import chosen

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
ENCODINGS = {
    "utf8": "utf-8", "iso88591": "iso-8859-1", "latin1": "latin-1", "ascii": "ascii", "utf16": "utf-16",
    "utf32": "utf-32", "utf8bom": "utf-8-sig", "windows1252": "cp1252",
}  # fmt: skip
"""v1's names of encodings."""


def read_table(
    files: "Sequence[Tuple[str, str]]", read: "Mapping[str, Any]", steps: "Sequence[Mapping[str, Any]]", on_error: str
) -> Any:
    """The DataFrame of all rows.

    Args:
        files: (name in the dataset, path) of each, in order.
        read: ``format`` and how to read it, as the factory wrote it.
        steps: What to do with the table afterwards.
        on_error: ``null``, ``fail``, or ``fail-times`` for columns of times only.
    """
    pandas = _pandas()
    tables = []
    header: "List[str]" = []
    for place, (name, path) in enumerate(files):
        try:
            table = _one(pandas, path, read, place, header)
        except (OSError, ValueError, UnicodeError) as e:
            raise UserErrorException("The file %s of the dataset cannot be read: %s" % (path, e)) from e
        if place == 0:
            header = [str(column) for column in table.columns]
        if read.get("include_path"):
            table.insert(0, "Path", "/" + name)
        tables.append(table)
    table = pandas.concat(tables, ignore_index=True) if len(tables) != 1 else tables[0]
    _set_types(pandas, table, read.get("types") or {}, on_error)
    for step in steps:
        table = _step(table, step)
    return table.reset_index(drop=True)


def _one(pandas: Any, path: str, read: "Mapping[str, Any]", place: int, header: "List[str]") -> Any:
    if read["format"] == "parquet":
        try:
            return pandas.read_parquet(path)
        except ImportError as e:
            raise UserErrorException(
                "Parquet files need the package pyarrow beside pandas. Add 'pyarrow' to the environment."
            ) from e
    if read["format"] == "json lines":
        return pandas.DataFrame(_json_lines(path, read))
    headers = read["headers"]
    has_header = headers in ("all", "same") or (headers == "first" and place == 0)
    options: "Dict[str, Any]" = {
        "sep": read["separator"], "header": 0 if has_header else None, "encoding": ENCODINGS[read["encoding"]],
        "skip_blank_lines": True, "index_col": False, "comment": read.get("comment"),
    }  # fmt: skip
    if not read["infer"]:
        options["dtype"] = str
    else:  # types that were set are made from the text itself, so that '007' stays what it is
        options["dtype"] = dict.fromkeys(read.get("types") or {}, str)
    if read.get("empty_as_string"):
        options["keep_default_na"] = False
    skipped = int(read.get("skip_rows") or 0) if read.get("skip") == "all" or place == 0 else 0
    options["skiprows"] = skipped
    try:
        table = pandas.read_csv(path, **options)
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame(columns=header)
    if not has_header:
        known = header if headers == "first" and len(header) == len(table.columns) else None
        table.columns = known or ["Column%d" % (number + 1) for number in range(len(table.columns))]
    return table


def _json_lines(path: str, read: "Mapping[str, Any]") -> "List[Any]":
    rows = []
    with open(path, encoding=ENCODINGS[read["encoding"]]) as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("it is no JSON object")
            except ValueError as e:
                if read["invalid_lines"] == "drop":
                    continue
                raise ValueError("line %d: %s (invalid_lines='drop' leaves such lines out)" % (number, e)) from e
            rows.append(row)
    return rows


def _set_types(pandas: Any, table: Any, types: "Mapping[str, Any]", on_error: str) -> None:
    for name, wanted in types.items():
        if name not in table.columns:
            raise UserErrorException(
                "set_column_types names the column %r, which the table lacks; it has: %s."
                % (name, ", ".join(map(str, table.columns)))
            )
        errors = "raise" if on_error == "fail" or (on_error, wanted["kind"]) == ("fail-times", "datetime") else "coerce"
        try:
            table[name] = _typed(pandas, table[name], wanted, errors)
        except (ValueError, TypeError) as e:
            raise UserErrorException(
                "The column %r holds a value that is no %s: %s (on_error='null' makes such values missing)."
                % (name, wanted["kind"], e)
            ) from e


def _typed(pandas: Any, column: Any, wanted: "Mapping[str, Any]", errors: str) -> Any:
    kind = wanted["kind"]
    if kind == "string":
        return column.where(column.isna(), column.astype(str))
    if kind == "datetime":
        formats = wanted.get("formats") or [None]
        found = pandas.to_datetime(column, format=formats[0], errors="coerce" if len(formats) > 1 else errors)
        for other in formats[1:]:
            found = found.fillna(pandas.to_datetime(column, format=other, errors="coerce"))
        if errors == "raise" and (found.isna() & column.notna()).any():
            raise ValueError("no format of %s fits" % ", ".join(map(str, formats)))
        return found
    if kind == "bool":
        text = column.astype(str).str.strip().str.lower()
        found = text.isin(_TRUE).where(text.isin(_TRUE + _FALSE))
        if errors == "raise" and (found.isna() & column.notna()).any():
            raise ValueError("use true or false")
        return found.astype("boolean")
    mark = wanted.get("decimal_mark") or "."
    if mark != "." and not pandas.api.types.is_numeric_dtype(column):
        column = column.str.replace(".", "", regex=False).str.replace(mark, ".", regex=False)
    numbers = pandas.to_numeric(column, errors=errors)
    if kind == "long":
        whole = numbers.where(numbers.isna() | (numbers % 1 == 0))
        if errors == "raise" and (whole.isna() & numbers.notna()).any():
            raise ValueError("not a whole number")
        return whole.astype("Int64")
    return numbers.astype("float64")


def _step(table: Any, step: "Mapping[str, Any]") -> Any:
    if step["op"] in ("take", "skip", "sample"):
        return table.iloc[chosen(len(table), [step])]
    absent = [name for name in step["columns"] if name not in table.columns]
    if absent:
        raise UserErrorException(
            "The table has no column %r; it has: %s." % (absent[0], ", ".join(map(str, table.columns)))
        )
    return table[step["columns"]] if step["op"] == "keep" else table.drop(columns=step["columns"])


def _pandas() -> Any:
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as e:
        raise UserErrorException(
            "to_pandas_dataframe needs pandas, which this environment lacks. Install it, or add 'pandas' to the "
            "packages of the job."
        ) from e
    return pandas
