from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._uv_builds import build_error, without_output
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import own
from windlassd.envs.venv import create
from windlassd.testing.packages import archive

HEAD = """error: Failed to build `old==1.0`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)

         [stdout]
         running build_ext

         [stderr]
"""
HINT = "\nhint: Build failures usually indicate a problem with the package or the build environment\n"


def broken(*lines: str) -> str:
    return HEAD + "".join(f"         {line}\n" for line in lines) + HINT


@pytest.mark.parametrize(
    ("line", "why", "step"),
    [
        ("error: [Errno 2] No such file or directory: 'gcc'", "needs a compiler (gcc)", "build-essential"),
        (
            "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
            "(x86_64-linux-gnu-gcc)",
            "compiler",
        ),
        ("unable to execute 'gcc': No such file or directory", "needs a compiler (gcc)", "compiler"),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "needs a compiler (CXX)", "compiler"),
        ("error: linker `cc` not found", "needs a compiler (cc)", "compiler"),
        (
            "x86_64-linux-gnu-g++: fatal error: Killed signal terminated program cc1plus",
            "memory ran out",
            "more memory",
        ),
        ("x.c:1:10: fatal error: Python.h: No such file or directory", "header files of this Python", "python3-dev"),
        ("x.c:1:10: fatal error: libpq-fe.h: No such file or directory", "header file libpq-fe.h", "development files"),
        ("error in old setup command: use_2to3 is invalid.", "setuptools before 58 (use_2to3)", "'setuptools<58'"),
        ("ModuleNotFoundError: No module named 'pkg_resources'", "setuptools before 82", "'setuptools<81'"),
        ("ModuleNotFoundError: No module named 'distutils'", "a Python before 3.12", "another python_version"),
        ("ModuleNotFoundError: No module named 'numpy'", "its build imports numpy", "a version that has a wheel"),
        ("SyntaxError: Missing parentheses in call to 'print'.", "not written for this Python", "python_version"),
        ("Error: pg_config: command not found", "needs the program pg_config", "where the server runs"),
        ("This package needs Python 3.6 or 3.7", "its build fails", "another python_version"),
    ],
)
def test_each_reason_has_its_way_out(line: str, why: str, step: str) -> None:
    found = build_error(broken("Traceback (most recent call last):", '  File "setup.py", line 1', line))
    assert why in found.why and step in found.step
    assert any(line in quoted for quoted in found.lines) and len(found.lines) <= 6


def test_of_a_long_output_the_lines_that_tell_of_errors_are_shown() -> None:
    found = build_error(broken(*(f"compiling {n}" for n in range(5000)), "x.c:1:9: error: expected ';'", "done " * 999))
    assert list(found.lines) == ["x.c:1:9: error: expected ';'"]


def test_uvs_own_words_are_told_from_the_builds() -> None:
    own = without_output(broken("connection refused"))
    assert "connection refused" not in own and "Failed to build" in own and "hint:" in own


SETUP = "from setuptools import setup, Extension\nsetup(name='old', version='1.0', {})\n"
EXTENSION = "ext_modules=[Extension('old', ['old.c'])]"


@pytest.mark.packages
@pytest.mark.parametrize(
    ("setup", "code", "path", "words"),
    [
        (SETUP.format(EXTENSION), "#include <Python.h>\n", "/nowhere", ["needs a compiler (", "build-essential"]),
        (SETUP.format(EXTENSION), "#include <libfoo/foo.h>\n", None, ["header file libfoo/foo.h", "development files"]),
        (SETUP.format("use_2to3=True"), "", None, ["setuptools before 58", "UV_BUILD_CONSTRAINT"]),
        ("import numpy\n" + SETUP.format(""), "", None, ["its build imports numpy"]),
        ("print 'hello'\n", "", None, ["not written for this Python"]),
        ("import sys; sys.exit('This needs Python 3.6')\n", "", None, ["This needs Python 3.6"]),
    ],
    ids=["no compiler", "no header", "2to3", "undeclared", "Python 2", "its own words"],
)
def test_what_setuptools_and_uv_really_say_is_understood(
    setup: str, code: str, path: str | None, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist = {"PKG-INFO": "Metadata-Version: 1.0\nName: old\nVersion: 1.0\n", "setup.py": setup, "old.c": code}
    (tmp_path / "old-1.0.tar.gz").write_bytes(archive("old-1.0", sdist))
    if path:
        monkeypatch.setenv("PATH", path)
    spec = EnvironmentSpec(pip_packages=("old", f"--find-links {tmp_path}"), python_version=own().version)
    (tmp_path / "prefix").mkdir()
    venv = create(str(tmp_path / "interpreters.json"))
    with pytest.raises(EnvironmentFailed, match=r"'old==1\.0' has no wheel") as caught:
        venv.build(venv.resolve(spec, Work(str)), str(tmp_path / "prefix"), Work(str))
    assert all(word in caught.value.message for word in words), caught.value.message
    assert len(caught.value.message.splitlines()) <= 15
