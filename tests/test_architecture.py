"""DESIGN's rooms: who may import whom, where the environment is read, and how long a file may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SDK, SERVER = ROOT / "sdk" / "src", ROOT / "src"
FILES = sorted([*SDK.rglob("*.py"), *SERVER.rglob("*.py")])
LEVELS = {
    "windlass/specs": 0, "windlass/errors": 0, "windlass/settings": 0, "windlass": 1, "windlass/cli": 2, "azureml": 2,
    "windlassd/store": 1, "windlassd/blobs": 1, "windlassd/envs": 1, "windlassd/compute": 1, "windlassd/tune": 1,
    "windlassd/agent": 2, "windlassd/control": 2, "windlassd/doctor": 2, "windlassd/serving": 2, "windlassd/server": 3,
    "windlassd": 4, "windlassd/testing": 5,
}  # fmt: skip
ONE_ROW = {("windlass/errors", "windlass/settings")}
"""Rooms that share a row of DESIGN's table."""
ENVIRONMENT = ("os.environ", "os.environb", "os.getenv", "os.putenv")
ENVIRONMENT_READERS = (
    "windlass/settings.py", "windlassd/agent/", "windlassd/compute/_ray_driver.py", "windlassd/compute/_ray_place.py",
    "windlassd/compute/_ray_connect.py",
)  # fmt: skip
"""The last three are scripts for interpreters that have no Windlass."""
LONGEST = 800


def module_of(path: Path) -> str:
    root = SDK if path.is_relative_to(SDK) else SERVER
    return path.relative_to(root).as_posix()


def room_of(name: str) -> str:
    """The room that a file (``windlass/run.py``) or a module (``windlass.run``) belongs to."""
    parts = name.removesuffix(".py").replace(".", "/").split("/")
    for room in ("/".join(parts[:2]), parts[0]):
        if room in LEVELS:
            return room
    raise AssertionError(f"{name} lies in no room of DESIGN.md")


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """``(module, whether at module level)``; what is only for the type checker is left out."""
    for node, top in walk(tree, True):
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            yield from ((f"{module}.{alias.name}" if room_like(module) else module, top) for alias in node.names)


def room_like(module: str) -> bool:
    """True for the packages whose attributes are rooms: ``from windlassd import store``."""
    return module in ("windlass", "windlassd")


def walk(node: ast.AST, top: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child, top
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from walk(child, top and not inside)


def ours(module: str) -> bool:
    return module.split(".")[0] in ("windlass", "windlassd", "azureml")


def in_stdlib(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def complaints(path: Path, text: str) -> Iterator[str]:
    """What in a file goes against the rules."""
    name, tree = module_of(path), ast.parse(text)
    own = room_of(name)
    for module, top in imports(tree):
        if ours(module):
            room = room_of(module)
            if not own.startswith("windlassd") and room.startswith("windlassd"):
                yield f"{name} of the SDK imports {module} of the server"
            if room == own or (room, own) in ONE_ROW or module in ("windlassd", "windlassd.__version__"):
                continue
            if LEVELS[room] >= LEVELS[own]:
                yield f"{name} (level {LEVELS[own]}) imports {module} (level {LEVELS[room]})"
        elif top and path.is_relative_to(SDK) and own != "windlass/cli" and not in_stdlib(module):
            yield f"{name} of the SDK imports {module}, which is not in the standard library"
    if not name.startswith(ENVIRONMENT_READERS):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ENVIRONMENT:
                yield f"{name}:{node.lineno} uses {ast.unparse(node)}: settings.py and agent/ alone do"
    lines = text.count("\n")
    if lines > LONGEST:
        yield f"{name} has {lines} lines; split it"


def test_the_rooms_are_those_of_design() -> None:
    assert len(FILES) > 100
    found = [line for path in FILES for line in complaints(path, path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("src/windlassd/store/x.py", "from windlassd.blobs.base import BlobStore", "imports windlassd.blobs.base"),
        ("src/windlassd/compute/x.py", "from windlassd import store", "imports windlassd.store"),
        ("src/windlassd/envs/x.py", "def f():\n    import windlassd.control.core", "level 2"),
        ("src/windlassd/agent/x.py", "from windlassd.control import core", "level 2"),
        ("sdk/src/windlass/x.py", "def f():\n    import windlassd", "of the server"),
        ("sdk/src/windlass/x.py", "import numpy", "standard library"),
        ("sdk/src/windlass/x.py", "if True:\n    import numpy", "standard library"),
        ("sdk/src/windlass/specs/x.py", "from windlass.run import Run", "level 0"),
        ("sdk/src/windlass/x.py", "from windlass.cli import main", "level 2"),
        ("src/windlassd/control/x.py", "import os\nos.environ['A']", "x.py:2 uses os.environ"),
        ("src/windlassd/control/x.py", "import os\nos.getenv('A')", "os.getenv"),
        ("src/windlassd/control/x.py", "\n" * 801, "801 lines"),
    ],
)
def test_each_rule_bites(file: str, text: str, words: str) -> None:
    assert any(words in line for line in complaints(ROOT / file, text))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sdk/src/windlass/x.py", "def f():\n    import numpy"),
        ("sdk/src/windlass/x.py", "import os, json\nfrom windlass.specs.run import Reason"),
        ("sdk/src/windlass/cli/x.py", "import typer\nfrom windlass import Workspace"),
        ("sdk/src/windlass/settings.py", "import os\nos.environ"),
        ("src/windlassd/agent/x.py", "import os\nos.environ\nfrom windlassd.blobs.base import BlobStore"),
        ("src/windlassd/server/x.py", "from windlassd.control.core import Core"),
        ("src/windlassd/store/x.py", "from windlassd.store.base import Store\nfrom windlass.errors import NotOffered"),
        ("src/windlassd/store/x.py", "if TYPE_CHECKING:\n    from windlassd.control.core import Core"),
    ],
)
def test_what_is_allowed(file: str, text: str) -> None:
    assert list(complaints(ROOT / file, text)) == []
