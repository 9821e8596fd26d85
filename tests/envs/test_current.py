from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.current import CurrentBuilder
from windlassd.testing.builder_suite import BuilderConformance, quiet

SPEC = EnvironmentSpec(user_managed=True, interpreter=sys.executable)


class TestCurrentBuilder(BuilderConformance):
    @pytest.fixture
    def builder(self) -> CurrentBuilder:
        return CurrentBuilder()

    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return SPEC

    @pytest.fixture
    def unsupported(self) -> EnvironmentSpec:
        return EnvironmentSpec(user_managed=True, interpreter=sys.executable, pip_packages=("numpy",))

    @pytest.fixture
    def impossible(self) -> EnvironmentSpec:
        return EnvironmentSpec(user_managed=True, interpreter="/nowhere/python")


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def managed(interpreter: str | None) -> EnvironmentSpec:
    return EnvironmentSpec(user_managed=True, interpreter=interpreter)


@pytest.mark.parametrize(
    ("interpreter", "reason"),
    [
        (None, "needs the path"),
        ("python3", "no absolute path"),
        ("/nowhere/python", "/nowhere/python .* does not exist"),
        ("/etc/passwd", "/etc/passwd.* not executable"),
        ("/usr", "/usr.* not executable"),
    ],
)
def test_a_wrong_interpreter_is_named_with_the_reason(interpreter: str | None, reason: str) -> None:
    with pytest.raises(EnvironmentFailed, match=reason):
        CurrentBuilder().resolve(managed(interpreter), quiet())


def test_a_program_that_is_no_python_says_what_it_answered(tmp_path: Path) -> None:
    path = script(tmp_path / "python", "echo no such version >&2; exit 3\n")
    with pytest.raises(EnvironmentFailed, match="exits with status 3: no such version"):
        CurrentBuilder().resolve(managed(path), quiet())


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    path = script(tmp_path / "python", """echo '["cpython", "3.6.15", "final"]'\n""")
    with pytest.raises(EnvironmentFailed, match=r"Python 3\.6\.15; jobs run on Python 3\.7"):
        CurrentBuilder().resolve(managed(path), quiet())


def test_the_interpreter_is_taken_as_it_is_and_checked_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    path = script(tmp_path / "python", f"""echo x >> {count}\nexec {sys.executable} "$@"\n""")
    cache = EnvironmentCache(str(tmp_path / "cache"))
    assert cache.find(managed(path)) is None
    made = cache.prepare(managed(path), lambda line: None)
    found = cache.find(managed(path))
    assert (made.python, made.prefix, made.cached) == (path, None, False)
    assert found and found.cached and found.python == path
    assert count.read_text() == "x\n"
    os.utime(path, (1000, 1000))
    assert cache.find(managed(path)) is None
    assert cache.list() == []


def test_azureml_and_python_among_the_packages_are_no_request() -> None:
    spec = EnvironmentSpec(
        user_managed=True,
        interpreter=sys.executable,
        pip_packages=("azureml-defaults",),
        conda_packages=("python=3.6.2", "pip"),
    )
    assert CurrentBuilder().unsupported(spec) == {}


def test_another_python_version_is_noted() -> None:
    spec = EnvironmentSpec(user_managed=True, interpreter=sys.executable, python_version="3.7")
    assert "python_version 3.7 has no effect" in CurrentBuilder().resolve(spec, quiet()).notes[1]
