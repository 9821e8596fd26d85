"""What the SDK refuses, read from its source: calls of ``refuse_options``, ``refuse_unknown``, ``not_offered``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ATTRIBUTE = re.compile(r"%s\.(\w+)")


@dataclass
class Refusals:
    """Reasons by class and method. A method that only raises is in ``whole``, with the sentence on what to do."""

    options: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    partial: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Options of which only some values are refused, since the call looks at more than the value itself."""
    some: dict[tuple[str, str], str] = field(default_factory=dict)
    """Methods that refuse something which depends on more than one argument."""
    whole: dict[tuple[str, str], str] = field(default_factory=dict)
    attributes: dict[tuple[str, str], str] = field(default_factory=dict)
    """Attributes of which some values are refused, by class and name: a message begins with ``%s.name``."""
    unreadable: list[str] = field(default_factory=list)
    """Calls whose options are not written out, so that nobody can list them."""

    @classmethod
    def of(cls, folder: Path) -> Refusals:
        """All that the Python files directly in a folder refuse."""
        found = cls()
        trees = {file.name: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.py"))}
        constants = {name: text for tree in trees.values() for name, text in _constants(tree)}
        for name, tree in trees.items():
            if name != "_not_offered.py":
                _File(name, tree, constants, found).read()
        return found


class _File:
    def __init__(self, name: str, tree: ast.Module, constants: Mapping[str, str], found: Refusals) -> None:
        self._name, self._tree, self._constants, self._found = name, tree, constants, found

    def read(self) -> None:
        for owner, function in _functions(self._tree):
            only = [s for s in function.body if not _is_docstring(s)]
            for call in _calls(function):
                name = call.func.id if isinstance(call.func, ast.Name) else ""
                if name == "refuse_options":
                    self._options(call, owner, function)
                elif name == "refuse_unknown":
                    given = ast.unparse(call.args[1])
                    self._found.options.setdefault((owner, function.name), {})[given] = "None is known."
                elif name == "not_offered":
                    sentence = self._sentence(call.args[1]) if len(call.args) > 1 else ""
                    for attribute in _attributes(call, function):
                        self._found.attributes[owner, attribute] = sentence
                    whole = len(only) == 1 and isinstance(only[0], ast.Raise)
                    (self._found.whole if whole else self._found.some)[owner, function.name] = sentence

    def _options(self, call: ast.Call, owner: str, function: ast.FunctionDef) -> None:
        if not isinstance(call.args[1], ast.Dict):
            self._found.unreadable.append(f"{self._name}:{call.lineno}")
            return
        for place in {(owner, function.name), self._named(call.args[0])}:
            for key, value in zip(call.args[1].keys, call.args[1].values, strict=True):
                if not (isinstance(key, ast.Constant) and isinstance(value, ast.Tuple) and len(value.elts) == 3):
                    self._found.unreadable.append(f"{self._name}:{call.lineno}")
                    return
                given = value.elts[0].values[0] if isinstance(value.elts[0], ast.BoolOp) else value.elts[0]
                plain = isinstance(given, ast.Name)
                table = self._found.options if plain else self._found.partial
                for option in {str(key.value), ast.unparse(given) if plain else str(key.value)}:
                    table.setdefault(place, {})[option] = self._sentence(value.elts[2])

    def _named(self, node: ast.expr) -> tuple[str, str]:
        """``Run.list`` and ``Estimator`` as class and method."""
        text = str(node.value) if isinstance(node, ast.Constant) else ""
        owner, _, method = text.partition(".")
        return owner, method or "__init__"

    def _sentence(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self._constants.get(node.id, "")
        return str(node.value) if isinstance(node, ast.Constant) else ""


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Texts that stand at the top of a file, by name: what a refusal says is often shared."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from ((target.id, node.value.value) for target in node.targets if isinstance(target, ast.Name))


def _attributes(call: ast.Call, function: ast.FunctionDef) -> Iterator[str]:
    """``base_image`` of ``"%s.base_image=%r"``; for ``"%s.%s"``, the names that the loop around it goes over."""
    text = ast.unparse(call.args[0])
    yield from _ATTRIBUTE.findall(text)
    for loop in (node for node in ast.walk(function) if isinstance(node, ast.For)):
        if "%s.%s" in text and call in ast.walk(loop) and isinstance(loop.iter, (ast.Tuple, ast.List)):
            yield from (str(one.value) for one in loop.iter.elts if isinstance(one, ast.Constant))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """``(class or empty, function)`` of a file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield "", node
        elif isinstance(node, ast.ClassDef):
            yield from ((node.name, inner) for inner in node.body if isinstance(inner, ast.FunctionDef))


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
