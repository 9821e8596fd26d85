"""How the API says that a v1 name or option is not offered: never silently, always with what to use instead."""

from __future__ import annotations

from typing import Any, Mapping, NoReturn, Optional, Tuple

from windlass.errors import NotOffered

ONE_ONLY = {"process_count_per_node": "Use process_count_per_node=1."}
"""Parameters of any job that may be 1 and no more yet."""
NODES_APART = (
    "Use node_count=1, or leave the distributed settings out: the script is then started once on each node, with its "
    "number in AZ_BATCHAI_TASK_INDEX and the addresses of all nodes in AZ_BATCH_HOST_LIST."
)
"""What to do about several nodes as long as there are no launchers for distributed training."""


def not_offered(what: str, instead: str = "") -> NotOffered:
    """The error that says ``what`` is not offered yet; ``instead`` is a sentence on what to do."""
    return NotOffered(("%s is not offered by Windlass yet. %s" % (what, instead)).rstrip())


def refuse_options(owner: str, options: "Mapping[str, Tuple[Any, Any, str]]") -> None:
    """Raise NotOffered for the first option whose value is not its default.

    Args:
        owner: The call, as the user wrote it, such as ``Estimator``.
        options: Name to (value given, default of v1, what to do instead).
    """
    for name, (value, default, instead) in options.items():
        if value is not default and value != default:
            raise not_offered("%s(%s=%s)" % (owner, name, _short(value)), instead)


def refuse_unknown(owner: str, given: "Mapping[str, Any]") -> None:
    """Raise NotOffered when a ``**kwargs`` holds anything: an option must never be dropped silently."""
    for name, value in given.items():
        raise not_offered("%s(%s=%s)" % (owner, name, _short(value)), "Leave it out.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class AbsentMethod:
    """A method of v1 that is not offered: calling it raises NotOffered, with the sentence given here."""

    def __init__(self, instead: str = "") -> None:
        self.instead = instead
        self._name = "this method"

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = "%s.%s" % (owner.__name__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_offered("%s()" % self._name, self.instead)


class AbsentProperty:
    """A property of v1 that is not offered: reading or setting it raises NotOffered."""

    def __init__(self, instead: str = "") -> None:
        self.instead = instead
        self._name = "this property"

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = "%s.%s" % (owner.__name__, name)

    def __get__(self, instance: Optional[object], owner: Optional[type] = None) -> Any:
        if instance is None:
            return self
        raise not_offered(self._name, self.instead)

    def __set__(self, instance: object, value: Any) -> None:
        raise not_offered(self._name, self.instead)


class OnlyDefault:
    """An attribute of v1 that keeps its default: setting it to anything else raises NotOffered."""

    def __init__(self, value: Any = None, instead: str = "") -> None:
        self.value = value
        self.instead = instead
        self._name = "this attribute"

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = "%s.%s" % (owner.__name__, name)

    def __get__(self, instance: Optional[object], owner: Optional[type] = None) -> Any:
        return self if instance is None else self.value

    def __set__(self, instance: object, value: Any) -> None:
        if value != self.value:
            raise not_offered("%s=%s" % (self._name, _short(value)), self.instead)
