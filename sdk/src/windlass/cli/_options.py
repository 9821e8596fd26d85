"""Options and arguments that several commands share, and the group whose bare name lists."""

from __future__ import annotations

import re
from typing import Annotated, Any, List, Optional

import typer
from typer.core import TyperCommand, TyperGroup

WorkspaceName = Annotated[
    Optional[str],
    typer.Option("--workspace", "-w", metavar="NAME", help="Workspace (default: what the nearest config.json names)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON, with exact times and all fields.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, its beginning or last part, or 'last'.", show_default=False)
]
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


_UsageError: Any = typer.BadParameter.__bases__[0]  # Typer has no public name for it


class ScriptCommand(TyperCommand):
    """A command that passes arguments on to a script: for an option it does not know it tells of ``--``."""

    def parse_args(self, ctx: Any, args: "List[str]") -> "List[str]":
        """As every command, with a longer message."""
        try:
            return super().parse_args(ctx, args)
        except _UsageError as problem:
            if hasattr(problem, "possibilities"):
                problem.message += " (the script's own options go after `--`)"
            raise


class ListGroup(TyperGroup):
    """A noun: without a verb it lists."""

    verb = "list"

    def parse_args(self, ctx: Any, args: "List[str]") -> "List[str]":
        """As every group, with the verb put in where none is given."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.verb, *args]
        return super().parse_args(ctx, args)


class StatusGroup(ListGroup):
    """A noun: without a verb it tells the status."""

    verb = "status"


def noun(help_text: str, group: "type[TyperGroup]" = ListGroup) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(
        help=help_text, cls=group, context_settings=SETTINGS, rich_markup_mode=None, add_completion=False,
    )  # fmt: skip


def age_seconds(option: str, text: str) -> float:
    """The seconds of an age such as ``30d``.

    Raises:
        typer.BadParameter: it is none.
    """
    found = _AGE.match(text.strip().lower())
    if found is None:
        raise typer.BadParameter("%s %r must be a number and a unit of s, m, h, d or w, as in 30d." % (option, text))
    return float(found.group(1)) * _SECONDS[found.group(2)]


def key_values(option: str, given: "Optional[List[str]]", bare: bool = False) -> "dict[str, str]":
    """``KEY=VALUE`` texts as a dictionary; with ``bare`` a key alone is one with an empty value.

    Raises:
        typer.BadParameter: a text is not of that form.
    """
    found = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not key or not (equals or bare):
            raise typer.BadParameter("%s %r must be KEY=VALUE%s." % (option, text, " or KEY" if bare else ""))
        found[key] = value
    return found
