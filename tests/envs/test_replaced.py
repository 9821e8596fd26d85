"""The interpreter that environments are built on is replaced behind its path, or taken away."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.interpreters import Interpreters, own, probe
from windlassd.testing.fake_builder import FakeBuilder

SPEC = EnvironmentSpec(pip_packages=("tiny",))


class Python:
    """An interpreter of the test's own: a script that answers as one of that version would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._age = 1_000_000_000
        self.replace("3.9.18")

    def replace(self, version: str) -> None:
        self._age += 1
        new = self.path.with_name("new")
        new.write_text(f'#!/bin/sh\necho \'["cpython", "{version}", "final"]\'\n')
        new.chmod(0o755)
        os.utime(new, ns=(self._age, self._age))
        os.replace(new, self.path)


class OnPython(FakeBuilder):
    """Builds on that interpreter, with links to it, as a virtual environment has."""

    def __init__(self, python: Python) -> None:
        super().__init__()
        self.python = python

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        lock = super().resolve(spec, work)
        answer = probe(str(self.python.path))
        if isinstance(answer, str):
            raise EnvironmentFailed(f"There is no interpreter: {answer}.")
        return Lock(self.name, str(self.python.path), answer[0], "fake", lock.requirements)

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        super().build(lock, prefix, work)
        os.unlink(self.interpreter(lock, prefix))
        os.symlink(lock.python, self.interpreter(lock, prefix))


@pytest.fixture
def python(tmp_path: Path) -> Python:
    return Python(tmp_path / "python3.9")


@pytest.fixture
def builder(python: Python) -> OnPython:
    return OnPython(python)


@pytest.fixture
def cache(tmp_path: Path, builder: OnPython) -> Iterator[EnvironmentCache]:
    cache = EnvironmentCache(
        str(tmp_path / "environments"), builder_for=lambda spec: builder, builder_named=lambda name: builder
    )
    yield cache
    cache.close()


def test_another_version_behind_the_path_gets_an_environment_of_its_own(
    cache: EnvironmentCache, builder: OnPython, python: Python
) -> None:
    old = cache.prepare(SPEC, print)
    cache.join()
    python.replace("3.9.19")
    assert cache.find(SPEC) is None
    (listed,) = cache.list()
    assert listed.fault and str(python.path) in listed.fault and "replaced" in listed.fault
    new = cache.prepare(SPEC, print)
    assert (old.python_version, new.python_version) == ("3.9.18", "3.9.19")
    assert new.key != old.key and Path(old.python).exists(), "what runs have may stay until they have ended"
    assert cache.find(SPEC)


def test_another_file_of_the_same_version_is_taken_without_a_build(
    cache: EnvironmentCache, builder: OnPython, python: Python
) -> None:
    old = cache.prepare(SPEC, print)
    cache.join()
    python.replace("3.9.18")
    assert cache.find(SPEC) is None
    said: list[str] = []
    assert cache.prepare(SPEC, said.append).key == old.key
    assert (builder.resolved, builder.built) == (1, 1) and "same version" in said[0]
    assert cache.find(SPEC) and cache.list()[0].fault is None


def test_without_the_interpreter_it_is_looked_up_anew_and_refused_with_words(
    cache: EnvironmentCache, builder: OnPython, python: Python
) -> None:
    old = cache.prepare(SPEC, print)
    cache.join()
    python.path.unlink()
    assert cache.find(SPEC) is None and "gone" in str(cache.list()[0].fault)
    with pytest.raises(EnvironmentFailed, match="no interpreter"):
        cache.prepare(SPEC, print)
    assert cache.shelf.details(old.key)["contents"], "it can still be looked at"
    cache.remove(old.key)
    assert cache.list() == []


def test_a_new_lock_is_made_when_the_environment_is_gone_and_its_interpreter_is_another(
    cache: EnvironmentCache, python: Python
) -> None:
    cache.remove(cache.prepare(SPEC, print).key)
    python.replace("3.9.19")
    assert cache.prepare(SPEC, print).python_version == "3.9.19"


def test_interpreters_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "interpreters.json"
    memory.write_text('{"/nonsense/python3.9": [1, 2, "3.9.1", "cpython"]}')
    Interpreters(str(memory)).available()
    assert "nonsense" not in memory.read_text() and own().path in memory.read_text()


def test_the_servers_own_interpreter_is_asked_again_when_its_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = Python(tmp_path / "python3.11")
    monkeypatch.setattr(sys, "_base_executable", str(python.path))
    assert own().version == "{}.{}.{}".format(*sys.version_info[:3]), "what runs is what it was at the start"
    python.replace("3.11.99")
    assert own().version == "3.11.99"
