"""A command loads its own module, and nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cli.conftest import COMMAND

_LOADED = """
import sys
from windlass.cli import main
code = main(sys.argv[1:])
print("\\n", "loaded", *sorted(m for m in sys.modules if m.startswith("windlass.cli.") or m in ("pydantic", "asyncio")))
"""


def loaded(*argv: str) -> set[str]:
    said = subprocess.run([sys.executable, "-c", _LOADED, *argv], capture_output=True, text=True, cwd="/", check=True)
    return set(said.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    ("argv", "needed", "not_needed"),
    [
        (["ps", "-e", "mnist", "-t", "a"], "windlass.cli.run", "windlass.cli.submit"),
        (["submit", "absent.py"], "windlass.cli.submit", "windlass.cli.model"),
        (["model", "-h"], "windlass.cli.model", "windlass.cli.run"),
    ],
)
def test_a_command_loads_its_own_module_only(argv: list[str], needed: str, not_needed: str) -> None:
    found = loaded(*argv)
    assert needed in found and not_needed not in found
    assert not found & {"pydantic", "asyncio"}


def test_a_name_that_is_close_is_still_suggested() -> None:
    said = subprocess.run([*COMMAND, "pss"], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "'ps'" in said.stderr


def test_numbers_and_texts_are_still_read_as_such() -> None:
    said = subprocess.run([*COMMAND, "ps", "-n", "many"], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "--limit" in said.stderr and "integer" in said.stderr
