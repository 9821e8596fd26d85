"""The surface of SDK v1 beside ours: what of each class, method and parameter Windlass has, found by looking.

Nothing here is written by hand: signatures are compared as Python sees them, and what an offered call refuses is read
from the calls of ``refuse_options`` in its source. The table of ``docs/compatibility.md`` and the test of signatures
both stand on it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from azureml._absent import NotOfferedImport, reason_for
from windlass._not_offered import NODES_APART, ONE_ONLY, AbsentMethod, AbsentProperty, OnlyDefault
from windlassd.testing._refusals import Refusals
from windlassd.testing._silent import SILENT

YES, PARTLY, NO = "yes", "partly", "no"
MISSING = "Not there."
IGNORED = "Taken, and changes nothing here."
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of an offered method: ``how`` says what is different, or why it is refused."""

    name: str
    state: str
    how: str = ""


@dataclass(frozen=True)
class Member:
    """One method, property or attribute."""

    name: str
    kind: str
    """``method``, ``static``, ``class``, ``property`` or ``attribute``."""
    signature: str
    """v1's, as text; empty for properties and attributes."""
    state: str
    how: str = ""
    parameters: tuple[Parameter, ...] = ()
    mismatch: str = ""
    """Where our signature is not v1's."""


@dataclass(frozen=True)
class Class:
    """One class by its import path in v1."""

    path: str
    state: str
    how: str = ""
    planned: bool = False
    """An absent class that a later release brings."""
    members: tuple[Member, ...] = field(default=())

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    @property
    def module(self) -> str:
        """All but the last part of its path."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True)
class Surface:
    """v1's names and signatures, as ``scripts/_surface.py`` writes them."""

    modules: Mapping[str, str]
    classes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, file: Path) -> Surface:
        """The copy in a file."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def compare(self) -> list[Class]:
        """Every class of v1 beside ours, by path."""
        refusals = Refusals.of(package_folder())
        return [_compare(path, facts, refusals) for path, facts in sorted(self.classes.items())]

    def absent_names(self) -> dict[str, list[str]]:
        """Import path to those of its names that Windlass does not offer."""
        return {
            module: [name for name in names.split() if offered(f"{module}.{name}") is None]
            for module, names in sorted(self.modules.items())
        }


def offered(path: str) -> Any:
    """What ``from module import name`` gives for v1's import path; None when it says that it is not offered.

    Anything else that fails is a fault of ours and is raised, but for private names.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except NotOfferedImport:
        return None
    except AttributeError:
        if name.startswith("_"):
            return None
        raise


def package_folder() -> Path:
    """Where the source of ``windlass`` lies."""
    return Path(str(sys.modules["windlass"].__file__)).parent


def _compare(path: str, facts: Mapping[str, Any], refusals: Refusals) -> Class:
    ours = offered(path)
    listed = {**facts.get("own", {}), **facts.get("inherited", {})}
    if ours is None:
        reason = reason_for(path) or reason_for(path.rpartition(".")[0])
        members = [_lacking(name, text) for name, text in sorted(listed.items())]
        planned = reason is None or reason.planned
        return Class(path, NO, reason.instead if reason else "", planned, tuple(members))
    members = [member(ours, name, text, refusals) for name, text in sorted(listed.items())]
    members += [_attribute(ours, name, refusals) for name in facts.get("attributes", "").split() if name not in listed]
    states = {member.state for member in members}
    state = YES if states <= {YES} else NO if states == {NO} else PARTLY
    return Class(path, state, members=tuple(members))


def _lacking(name: str, text: str) -> Member:
    """A member of a class that is absent as a whole."""
    kind, signature = _kind(text)
    return Member(name, kind, signature, NO, parameters=_refused(signature))


def _refused(signature: str) -> tuple[Parameter, ...]:
    parsed = _parsed(signature).parameters.values() if signature else ()
    return tuple(Parameter(_STARS.get(p.kind, "") + p.name, NO) for p in parsed)


def member(ours: type, name: str, text: str, refusals: Refusals) -> Member:
    """A member of v1's, given as its text in the copy, beside what our class has under the name."""
    kind, signature = _kind(text)
    found = inspect.getattr_static(ours, name, None)
    if found is object.__init__:
        found = ours  # made by __new__, as a NamedTuple is, or without arguments
    if kind == "property" or found is None:
        return _attribute(ours, name, refusals, kind, signature)
    if isinstance(found, AbsentMethod):
        return Member(name, kind, signature, NO, found.instead, _refused(signature))
    function = getattr(ours, name)
    if not callable(function):
        return Member(name, kind, signature, PARTLY, "Here it is a property.", mismatch="a property")
    places = [(base.__name__, name) for base in ours.__mro__]
    whole = _first(refusals.whole, places)
    if whole is not None:
        return Member(name, kind, signature, NO, whole, _refused(signature))
    mismatch = _mismatch(kind, signature, found, function)
    parameters = _parameters(signature, found, refusals, places)
    notes = [mismatch, _some(_first(refusals.some, places))]
    state = YES if all(p.state == YES for p in parameters) and not any(notes) else PARTLY
    return Member(name, kind, signature, state, " ".join(filter(None, notes)), parameters, mismatch)


def _attribute(ours: type, name: str, refusals: Refusals, kind: str = "attribute", signature: str = "") -> Member:
    found = inspect.getattr_static(ours, name, None)
    if isinstance(found, (AbsentProperty, AbsentMethod)):
        return Member(name, kind, signature, NO, found.instead)
    if found is None and name not in _assigned(ours):
        return Member(name, kind, signature, NO, MISSING, mismatch=MISSING)
    if isinstance(found, OnlyDefault):
        return Member(name, kind, signature, PARTLY, f"Only {found.value!r}. {found.instead}".rstrip())
    limit = _some(_first(refusals.attributes, [(base.__name__, name) for base in ours.__mro__])) or _one_only(name)
    return Member(name, kind, signature, PARTLY if limit else YES, limit)


def _parameters(signature: str, found: Any, refusals: Refusals, places: list[tuple[str, str]]) -> tuple[Parameter, ...]:
    refused, partial = _merged(refusals.options, places), _merged(refusals.partial, places)
    ours = _plain(found)
    all_taken = {p.kind for p in ours.parameters.values()}
    by_python = places[0][1] == "__exit__"
    unused = set() if by_python else set(ours.parameters) - _used(inspect.unwrap(getattr(found, "__func__", found)))
    result = []
    for name, parameter in _parsed(signature).parameters.items():
        shown = _STARS.get(parameter.kind, "") + name
        if name in refused:
            result.append(Parameter(shown, NO, refused[name]))
        elif name in partial:
            result.append(Parameter(shown, PARTLY, f"Some values are refused. {partial[name]}"))
        elif _one_only(name):
            result.append(Parameter(shown, PARTLY, _one_only(name)))
        elif name in unused:
            result.append(Parameter(shown, PARTLY, _silent(places, name)))
        elif name in ours.parameters or parameter.kind in all_taken & set(_STARS):
            result.append(Parameter(shown, YES))
        else:
            result.append(Parameter(shown, NO, MISSING))
    return tuple(result)


@cache
def _used(function: Any) -> frozenset[str]:
    """Names that the body of a function reads; all of its parameters where that cannot be seen."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # made by a dataclass
        return frozenset(inspect.signature(function).parameters)
    body = ast.Module(getattr(tree.body[0], "body", []), [])
    read = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    return frozenset(inspect.signature(function).parameters) if "locals" in read else frozenset(read)


def _mismatch(kind: str, signature: str, found: Any, function: Any) -> str:
    """Where our signature is not v1's, as a sentence; empty where it is the same."""
    theirs = _parsed(signature).parameters
    ours = {name: p for name, p in _plain(found).parameters.items() if not name.startswith("_")}
    on_class = isinstance(found, (staticmethod, classmethod))
    problems = []
    if on_class != (kind in ("static", "class")):
        problems.append("called on the class" if on_class else "called on an object")
    if lacking := [name for name in theirs if name not in ours]:
        problems.append(f"lacks {', '.join(lacking)}")
    if more := [name for name in ours if name not in theirs]:
        problems.append(f"also takes {', '.join(more)}")
    shared = [name for name in theirs if name in ours]
    if shared != [name for name in ours if name in theirs]:
        problems.append("another order")
    for name in shared:
        if theirs[name].kind != ours[name].kind:
            problems.append(f"{name} is {ours[name].kind.description}")
        if not _same_default(theirs[name].default, ours[name].default):
            problems.append(f"the default of {name} is {_default(ours[name].default)}")
    return f"Signature: {'; '.join(problems)}." if problems else ""


def _kind(text: str) -> tuple[str, str]:
    """``("static", "(a, b=None)")`` of the copy's text."""
    if text == "property":
        return "property", ""
    word, bracket, rest = text.partition("(")
    return word.strip() or "method", bracket + rest


@cache
def _parsed(signature: str) -> inspect.Signature:
    """v1's signature; a default that is no literal stays as its text in a ``_Symbol``."""
    a = ast.parse(f"def f{signature}: pass").body[0].args  # type: ignore[attr-defined]
    kinds = inspect.Parameter
    defaults = [None] * (len(a.args) - len(a.defaults)) + a.defaults
    plain, named = kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY
    parameters = [kinds(p.arg, plain, default=_value(d)) for p, d in zip(a.args, defaults, strict=True)]
    parameters += [kinds(a.vararg.arg, kinds.VAR_POSITIONAL)] if a.vararg else []
    parameters += [kinds(p.arg, named, default=_value(d)) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    parameters += [kinds(a.kwarg.arg, kinds.VAR_KEYWORD)] if a.kwarg else []
    return inspect.Signature(parameters)


@dataclass(frozen=True)
class _Symbol:
    text: str


def _value(node: ast.expr | None) -> Any:
    if node is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(node)
    except ValueError:
        return {} if ast.unparse(node) == "dict()" else _Symbol(ast.unparse(node))


def _plain(found: Any) -> inspect.Signature:
    """Our signature without ``self``."""
    if isinstance(found, (staticmethod, type)):
        return inspect.signature(getattr(found, "__func__", found))
    function = found.__func__ if isinstance(found, classmethod) else found
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _same_default(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, _Symbol):
        return ours is not inspect.Parameter.empty
    return bool(theirs == ours) and type(theirs) is type(ours)


def _default(value: Any) -> str:
    return "missing" if value is inspect.Parameter.empty else repr(value)


def _merged(table: Mapping[tuple[str, str], Mapping[str, str]], places: list[tuple[str, str]]) -> dict[str, str]:
    return {name: why for place in reversed(places) for name, why in table.get(place, {}).items()}


def _first(table: Mapping[tuple[str, str], str], places: list[tuple[str, str]]) -> str | None:
    return next((table[place] for place in places if place in table), None)


def _silent(places: list[tuple[str, str]], name: str) -> str:
    """What to say of a parameter that nobody reads."""
    paths = [f"{owner}.{method}.{name}" for owner, method in places]
    found = (why for pattern, why in SILENT.items() for path in paths if fnmatchcase(path, pattern))
    return f"{IGNORED} {next(found, '')}".rstrip()


def _one_only(name: str) -> str:
    if name == "node_count":
        return f"More than 1 is refused together with distributed settings. {NODES_APART}"
    return f"More than 1 is refused. {ONE_ONLY[name]}" if name in ONE_ONLY else ""


def _some(sentence: str | None) -> str:
    return "" if sentence is None else f"Some values are refused. {sentence}".rstrip()


@cache
def _assigned(ours: type) -> frozenset[str]:
    """Names that the methods of a class and its bases set on ``self``, and fields that they declare."""
    names: set[str] = set()
    for base in ours.__mro__:
        names.update(getattr(base, "__annotations__", ()), getattr(base, "__slots__", ()))
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # a class of Python's own
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                names.update([node.attr] if isinstance(node.ctx, ast.Store) else ())
    return frozenset(names)
