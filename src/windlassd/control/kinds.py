"""Whether what a client sends has the kinds of values that a spec has: one place for all fields of all specs."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from windlass.errors import UserErrorException

_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
_PLAIN = (str, int, float, type(None))


def refuse_misfits(kind: type, data: object, where: str) -> None:
    """Refuse ``data`` when it cannot be read as the spec ``kind``; keys that it does not know are no fault.

    Raises:
        UserErrorException: a value is of another kind; says where, and what it has to be.
    """
    if not isinstance(data, dict):
        raise _misfit(where, data, "an object")
    for name, wanted in _fields(kind).items():
        if name in data:
            _check(wanted, data[name], f"{where}.{name}")


@functools.lru_cache(maxsize=16)
def _fields(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _check(wanted: Any, value: object, where: str) -> None:
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is not None:
            _check(next(part for part in parts if part is not type(None)), value, where)
    elif origin is tuple:
        _check_list(parts[0], value, where)
    elif origin is not None:
        _check_entries(parts[1], value, where)
    elif is_dataclass(wanted):
        if value is not None:  # as good as left out
            refuse_misfits(wanted, value, where)  # type: ignore[arg-type]
    elif wanted in _WORDS and not _is(wanted, value):
        raise _misfit(where, value, _WORDS[wanted])


def _check_list(wanted: Any, value: object, where: str) -> None:
    if value is None and is_dataclass(wanted):
        return
    if not isinstance(value, list):
        raise _misfit(where, value, f"a list{' of texts' if wanted is str else ''}")
    for number, item in enumerate(value):
        if item is None and is_dataclass(wanted):
            raise _misfit(f"{where}[{number}]", item, "an object")
        _check(wanted, item, f"{where}[{number}]")


def _check_entries(wanted: Any, value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise _misfit(where, value, "an object")
    for name, item in value.items() if wanted is str else ():
        if not isinstance(item, _PLAIN):  # a tag may be a number
            raise _misfit(f"{where}[{name!r}]", item, "a text")


def _is(wanted: type, value: object) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    if wanted is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, (int, float) if wanted is float else wanted)


def _misfit(where: str, value: object, wanted: str) -> UserErrorException:
    shown = repr(value)
    return UserErrorException(f"`{where}` is {shown if len(shown) <= 80 else shown[:77] + '...'}; it must be {wanted}.")
