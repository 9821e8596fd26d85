"""What v1's configuration objects share: a fixed set of attributes, which go to and from files by camelCase keys."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from windlass.errors import UserErrorException, did_you_mean


class ConfigObject:
    """Attributes with defaults. One that is misspelt is an error: it would be ignored otherwise.

    A subclass sets all its attributes in ``__init__``, between ``_open`` and ``_close``.
    """

    _closed = False

    def _close(self) -> None:
        """From now on only the attributes that are there can be set."""
        self.__dict__["_closed"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        known = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if self._closed and not known:
            names = sorted(key for key in self.__dict__ if not key.startswith("_"))
            raise UserErrorException(
                "%s has no attribute %r.%s It has: %s."
                % (type(self).__name__, name, did_you_mean(name, names), ", ".join(names))
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        values = ", ".join("%s=%r" % (k, v) for k, v in self.__dict__.items() if not k.startswith("_"))
        return "%s(%s)" % (type(self).__name__, values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and to_dictionary(self) == to_dictionary(other)

    __hash__ = None  # type: ignore[assignment]


def to_dictionary(config: ConfigObject) -> "Dict[str, Any]":
    """The attributes of ``config`` by their keys in files, nested objects as dictionaries."""
    return {camel(name): _plain(value) for name, value in vars(config).items() if not name.startswith("_")}


def fill(config: ConfigObject, data: Any, where: str) -> None:
    """Set the attributes of ``config`` to what ``data``, read from the file ``where``, says; warn of unknown keys.

    Raises:
        UserErrorException: ``data`` is no mapping.
    """
    if data is None:
        return
    if not isinstance(data, Mapping):
        raise UserErrorException("%s: %s must be a mapping, not %r." % (where, type(config).__name__, data))
    names = {camel(name): name for name in vars(config) if not name.startswith("_")}
    names.update({name: name for name in names.values()})
    for key, value in data.items():
        name = names.get(key)
        if name is None:
            if value not in (None, "", [], {}):
                _warn("%s: %r of %s is not read; Windlass has no use for it." % (where, key, type(config).__name__))
            continue
        known = getattr(config, name)
        if isinstance(known, ConfigObject):
            fill(known, value, where)
        else:
            vars(config)[name] = value  # as it was saved: what an assignment does besides was done then


def camel(name: str) -> str:
    """``node_count`` as ``nodeCount``."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigObject):
        return to_dictionary(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _warn(message: str) -> None:
    import warnings

    warnings.warn(message, UserWarning, stacklevel=4)
