"""Blank environments: the first is made by uv, the next are copies that work as well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from windlassd.envs._blank import Blanks
from windlassd.envs._uv import program


def _by_uv(prefix: Path, made: list[Path]) -> Callable[[], None]:
    def new() -> None:
        made.append(prefix)
        argv = [program(), "venv", "--relocatable", "--no-project", "--quiet", "--python", sys.executable, str(prefix)]
        subprocess.run(argv, check=True, cwd="/")

    return new


def _tree(prefix: Path) -> dict[str, object]:
    return {str(path.relative_to(prefix)): (path.lstat().st_mode, _content(path)) for path in sorted(prefix.rglob("*"))}


def _content(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else None


def test_a_copy_is_what_uv_makes_and_works(tmp_path: Path) -> None:
    blanks, made = Blanks(), list[Path]()
    first, second = tmp_path / "first", tmp_path / "second"
    blanks.make(sys.executable, str(first), _by_uv(first, made))
    blanks.make(sys.executable, str(second), _by_uv(second, made))
    assert made == [first], "the second was to be a copy"
    assert _tree(second) == _tree(first)
    said = subprocess.run(
        [second / "bin" / "python", "-Ic", "import sys; print(sys.prefix)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == str(second)


def test_what_is_put_into_one_is_in_no_other(tmp_path: Path) -> None:
    blanks, made = Blanks(), list[Path]()
    first, second = tmp_path / "first", tmp_path / "second"
    blanks.make(sys.executable, str(first), _by_uv(first, made))
    (first / "bin" / "activate").write_text("changed")
    second.mkdir()
    blanks.make(sys.executable, str(second), _by_uv(second, made))
    assert "VIRTUAL_ENV" in (second / "bin" / "activate").read_text()


def test_an_exchanged_interpreter_counts_as_another(tmp_path: Path) -> None:
    blanks, made = Blanks(), list[Path]()
    python = tmp_path / "python"
    for n, text in enumerate(("one", "another")):
        python.write_text(text)
        prefix = tmp_path / str(n)

        def new(prefix: Path = prefix) -> None:
            prefix.mkdir()
            (prefix / "made").write_text(python.read_text())
            made.append(prefix)

        blanks.make(str(python), str(prefix), new)
    assert len(made) == 2 and (made[1] / "made").read_text() == "another"


def test_without_its_interpreter_the_maker_is_asked_each_time(tmp_path: Path) -> None:
    blanks, asked = Blanks(), list[str]()
    gone = str(tmp_path / "gone")
    for _ in range(2):
        blanks.make(gone, str(tmp_path), lambda: asked.append("again"))
    assert len(asked) == 2 and not os.path.exists(gone)
