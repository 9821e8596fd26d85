"""Dataclass to JSON-ready dictionary and back, without reflection on types (Python 3.7 cannot evaluate ours)."""

from __future__ import annotations

import enum
from dataclasses import is_dataclass
from typing import Any, Dict, Mapping, Type, TypeVar

T = TypeVar("T")
_PLAIN = frozenset({str, int, float, bool})


def to_wire(value: Any) -> Any:
    """A copy of ``value`` made of dictionaries, lists, strings and numbers only."""
    if value is None or type(value) in _PLAIN:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_wire(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_wire(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_wire(item) for item in value]
    return value


def known_fields(cls: Type[T], data: Mapping[str, Any]) -> Dict[str, Any]:
    """The entries of ``data`` that ``cls`` has a field for.

    A newer peer may send fields that this version does not know; they are left out, which is what keeps the last
    protocol version readable. Lists become tuples so that the frozen dataclasses stay hashable where they can be.
    """
    names = cls.__dataclass_fields__  # type: ignore[attr-defined]
    return {key: tuple(item) if isinstance(item, list) else item for key, item in data.items() if key in names}


def whole_text(value: Any) -> Any:
    """JSON's kinds with lone surrogates replaced: a shell's bytes that are no UTF-8 must not break who shows them."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "replace").decode()
        return value
    if isinstance(value, list):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(key): whole_text(item) for key, item in value.items()}
    return value
