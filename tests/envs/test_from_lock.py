"""A lock of another machine, built on this one: "the node" is a cache in another home."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _from_lock, interpreters
from windlassd.envs._downloads import Downloads
from windlassd.envs.base import EnvironmentFailed, Lock, Ready, Work
from windlassd.envs.cache import EnvironmentCache, EnvironmentInUse, Use
from windlassd.envs.interpreters import Interpreter, own
from windlassd.envs.target import Target, platform_name
from windlassd.testing.fake_builder import FakeBuilder

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse

SPEC = EnvironmentSpec(pip_packages=("tiny",))
VERSION = "{}.{}.{}".format(*sys.version_info[:3])
MINOR = "{}.{}".format(*sys.version_info[:2])


def drop(line: str) -> None:
    pass


@pytest.fixture
def node(tmp_path: Path) -> Iterator[EnvironmentCache]:
    made = EnvironmentCache(str(tmp_path / "node" / "environments"))
    yield made
    made.close()


@pytest.fixture
def lock(tmp_path: Path, wheels: Wheelhouse) -> Lock:
    """Of a server elsewhere, for a machine like this whose interpreter lies in a place of its own."""
    wheels.add("tiny", body="here = True\n")
    server = EnvironmentCache(str(tmp_path / "server" / "environments"))
    target = Target(platform_name(), ((VERSION, "/nowhere/bin/python"),))
    try:
        return server.for_targets.resolve(SPEC, target, drop)
    finally:
        server.close()


def test_a_lock_is_built_once_and_then_found_at_once(node: EnvironmentCache, lock: Lock, tmp_path: Path) -> None:
    said: list[str] = []
    assert node.find_locked(lock) is None
    made = node.from_lock(SPEC, lock, said.append)
    assert not made.cached and made.python_version == VERSION and "Installed 1 package" in "\n".join(said)
    assert made.prefix and list(Path(made.prefix).glob("lib/python*/site-packages/tiny/__init__.py"))
    found = node.find_locked(lock)
    assert found and found.cached and found.key == made.key and found.python == made.python
    (other,) = node.list()
    assert (other.key, other.packages) == (made.key, 1)


def test_what_a_part_uses_stays_until_it_is_released(node: EnvironmentCache, lock: Lock, tmp_path: Path) -> None:
    use = Use(str(tmp_path), "run_1.1.0")
    made = node.from_lock(SPEC, lock, drop, holders=lambda: (use,))
    with pytest.raises(EnvironmentInUse, match=r"run_1\.1\.0"):
        node.remove(made.key)
    node.release(use)
    node.remove(made.key)
    assert node.find_locked(lock) is None


def test_the_interpreter_at_the_path_that_the_lock_names_comes_first(node: EnvironmentCache, lock: Lock) -> None:
    named = replace(lock, python=own().path, python_version=own().version)
    made = node.from_lock(SPEC, named, drop)
    assert made.python_version == own().version and made.notes == tuple(lock.notes)


def test_another_micro_version_stands_in_and_that_is_said(node: EnvironmentCache, lock: Lock) -> None:
    said: list[str] = []
    made = node.from_lock(SPEC, replace(lock, python_version=f"{MINOR}.98"), said.append)
    assert made.python_version.startswith(f"{MINOR}.")
    assert made.notes[-1] == f"Python {made.python_version} stands in for the {MINOR}.98 that it was resolved for."
    assert made.notes[-1] in said


def test_an_interpreter_that_the_node_lacks_is_downloaded_there(
    node: EnvironmentCache, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(downloads: Downloads, download: object, work: Work) -> Interpreter:
        fetched.append(getattr(download, "version", ""))
        return own()

    monkeypatch.setattr(Downloads, "fetch", fetch)
    monkeypatch.setattr(interpreters, "_candidates", list)
    minor = "3.10" if MINOR != "3.10" else "3.9"
    assert node.find_locked(replace(lock, python_version=f"{minor}.1")) is None
    node.from_lock(SPEC, replace(lock, python_version=f"{minor}.1"), drop)
    assert len(fetched) == 1 and fetched[0].startswith(f"{minor}.")


def test_an_interpreter_that_cannot_be_had_is_named(
    node: EnvironmentCache, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_PYTHON_DOWNLOADS", "never")
    with pytest.raises(EnvironmentFailed, match=r"No interpreter for Python 3\.18 can be had. Installed") as caught:
        node.from_lock(SPEC, replace(lock, python_version="3.18.1"), drop)
    assert own().version in caught.value.message


def test_a_lock_for_another_kind_of_machine_is_refused(node: EnvironmentCache, lock: Lock) -> None:
    with pytest.raises(EnvironmentFailed, match=r"chosen for linux-sparc-glibc2.17, and this node is") as caught:
        node.find_locked(replace(lock, platform="linux-sparc-glibc2.17"))
    assert platform_name() in caught.value.message


def test_a_package_that_the_nodes_index_lacks_is_named(
    node: EnvironmentCache, lock: Lock, wheels: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(wheels.folder.glob("tiny*")).unlink()
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(EnvironmentFailed, match="tiny"):
        node.from_lock(SPEC, lock, drop)
    assert node.list() == []


def test_agents_of_one_node_share_one_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, root = FakeBuilder(), str(tmp_path / "environments")
    monkeypatch.setattr(_from_lock, "platform_name", lambda: "fake")
    building, go = threading.Event(), threading.Event()

    def hold(work: Work) -> None:
        building.set()
        go.wait(20)

    builder.before_build = hold
    lock = builder.resolve(SPEC, Work(drop))
    caches = [EnvironmentCache(root, builder_named=lambda name: builder) for _ in range(4)]
    said: list[list[str]] = [[] for _ in caches]
    made: list[Ready] = []
    waiting = threading.Barrier(len(caches))

    def build(cache: EnvironmentCache, lines: list[str]) -> None:
        if cache is not caches[0]:
            building.wait(20)

        def say(line: str) -> None:
            lines.append(line)
            if line.startswith("Waiting for the build"):
                waiting.wait(20)

        made.append(cache.from_lock(SPEC, lock, say))

    threads = [threading.Thread(target=build, args=pair) for pair in zip(caches, said, strict=True)]
    for thread in threads:
        thread.start()
    waiting.wait(20)  # the three others follow the first
    go.set()
    for thread in threads:
        thread.join(20)
    assert builder.built == 1 and len({ready.key for ready in made}) == 1 and len(made) == 4
    assert all("Building tiny==1.0." in "\n".join(lines) for lines in said), "who waits sees what is done"
    for cache in caches:
        cache.close()
