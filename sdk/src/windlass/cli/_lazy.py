"""What makes a command line start quickly: only the module of the command that was asked for is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, List, NamedTuple, Optional

import typer
from typer.core import TyperGroup

_NOUN = "app"


class Place(NamedTuple):
    """Where a command is: a function of a module, or its ``app`` for a noun."""

    module: str
    name: str = _NOUN
    kind: "Optional[type]" = None
    """The class of the command; None is Typer's own."""


def group_of(places: "dict[str, Place]") -> "type[TyperGroup]":
    """A group of these commands by name, each of which is loaded when it is asked for."""

    class LazyGroup(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.commands: "Dict[str, Any]" = {**dict.fromkeys(places), **self.commands}
            _read_plainly(self)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name in places and self.commands[cmd_name] is None:
                self.commands[cmd_name] = _load(cmd_name, places[cmd_name])
            return super().get_command(ctx, cmd_name)

    return LazyGroup


def _load(name: str, place: Place) -> Any:
    found = getattr(import_module(place.module), place.name)
    if place.name != _NOUN:
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(name, cls=place.kind)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    _read_plainly(command)
    return command


def _read_plainly(command: Any) -> None:
    """Have a command, and those below it, take texts as they are given.

    One version of Typer loads Pydantic for them, which takes longer than all the rest. Any other is left alone.
    """
    params_of = command.get_params

    def get_params(ctx: Any) -> Any:  # of each call, as the option --help comes late
        params = params_of(ctx)
        for param in params:
            _take_over(param)
        return params

    command.get_params = get_params
    for inner in getattr(command, "commands", {}).values():
        if inner is not None:
            _read_plainly(inner)


def _take_over(param: Any) -> None:
    described = getattr(param, "type_descriptor", None)
    info = getattr(described, "parameter_info", None)
    own_way = getattr(info, "parser", None) or getattr(info, "click_type", None)
    if getattr(param, "_runtime_param", param) is None and not own_way:
        param._runtime_param = _Plain(getattr(described, "annotation", None))


class _Plain:
    """Stands in for Typer's reader of an option's value as long as that is absent, text, or a default."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if self._kind in (str, int, float) and type(value) is self._kind:  # a number that was given comes as text
            return value
        if self._kind == List[str] and isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return list(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
