"""What is kept and what goes; runs of two workspaces, and of two servers, use environments."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _flock, container_engine
from windlassd.envs._flock import shared_if_free
from windlassd.envs._shelf import EnvironmentInUse, changes, package_versions
from windlassd.envs._uses import Use
from windlassd.envs.base import EnvironmentFailed, Lock, Ready
from windlassd.envs.cache import EnvironmentCache
from windlassd.testing.fake_builder import FakeBuilder

BIG = 1_000_000


class Home:
    """Environments of a megabyte, made one after the other, seen by the caches of several servers."""

    def __init__(self, folder: Path) -> None:
        self.builder = FakeBuilder()
        self.builder.payload = BIG
        self.root = folder / "environments"
        self.folder = folder
        self.caches: list[EnvironmentCache] = []

    def server(self) -> EnvironmentCache:
        cache = EnvironmentCache(
            str(self.root), builder_for=lambda spec: self.builder, builder_named=lambda name: self.builder
        )
        self.caches.append(cache)
        return cache

    def use(self, run_id: str, workspace: str = "one") -> Use:
        (self.folder / "workspaces" / workspace).mkdir(parents=True, exist_ok=True)
        return Use(str(self.folder / "workspaces" / workspace), run_id)

    def made(self, cache: EnvironmentCache, name: str, used: float, *uses: Use) -> Ready:
        """An environment that was last used at that time."""
        ready = cache.prepare(spec(name), lambda line: None, holders=lambda: uses)
        cache.join()
        state = self.root / "built" / ready.key / "windlass.json"
        if state.exists():
            os.utime(state, (used, used))
        return ready


@pytest.fixture
def shelf_home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    for cache in made.caches:
        cache.close()


def spec(name: str) -> EnvironmentSpec:
    return EnvironmentSpec(pip_packages=(name,))


def keys(cache: EnvironmentCache) -> set[str]:
    return {item.key for item in cache.list()}


def limit(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    monkeypatch.setenv("WINDLASS_ENVIRONMENTS_MAX_GB", str(count * BIG / 1e9))


def test_over_the_size_the_least_recently_used_goes_after_a_build(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = shelf_home.server()
    first, second = shelf_home.made(cache, "a", 2000), shelf_home.made(cache, "b", 1000)
    limit(monkeypatch, 2.5)
    third = shelf_home.made(cache, "c", 3000)
    assert keys(cache) == {first.key, third.key}
    assert f"environment {second.key}" in caplog.text and "environments_max_gb" in caplog.text
    assert cache.find(spec("b")) is None


def test_what_a_run_of_any_workspace_and_server_needs_stays(shelf_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = shelf_home.server(), shelf_home.server()
    waits, runs = shelf_home.use("r_1", "theirs"), shelf_home.use("r_1", "ours")
    used = shelf_home.made(theirs, "a", 1000, waits)
    found = shelf_home.made(ours, "b", 1001)
    assert ours.find(spec("b"), runs)
    os.utime(shelf_home.root / "built" / found.key / "windlass.json", (1001, 1001))
    limit(monkeypatch, 0)
    third = shelf_home.made(ours, "c", 3000)
    assert keys(ours) == {used.key, found.key, third.key}, "what was just made is there for who asked for it"
    with pytest.raises(EnvironmentInUse, match=r"in use by r_1 \(theirs\)"):
        ours.remove(used.key)
    ours.release(runs)
    ours.join()
    assert keys(ours) == {used.key}, "with nothing to be kept, it goes with its last run"
    theirs.release(waits)
    shelf_home.server().start()
    shelf_home.caches[-1].join()
    assert keys(ours) == set()


def test_a_run_whose_server_was_killed_keeps_its_environment_until_its_end_is_seen(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = shelf_home.server()
    run = shelf_home.use("r_1")
    made = shelf_home.made(dead, "a", 1000, run)
    limit(monkeypatch, 0)
    other = shelf_home.server()
    other.release_others(shelf_home.use("x", "another").workspace, lambda: set())
    other.start()
    other.join()
    assert keys(other) == {made.key}
    after = shelf_home.server()
    after.release_others(run.workspace, lambda: {"r_1"})
    after.start()
    after.join()
    assert keys(after) == {made.key}
    after.release_others(run.workspace, lambda: set())
    after.start()
    after.join()
    assert keys(after) == set()


def test_what_is_being_made_has_its_runs_when_it_appears(shelf_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    cache = shelf_home.server()
    joined = [shelf_home.use("r_1")]
    shelf_home.builder.before_build = lambda work: joined.append(shelf_home.use("r_2"))
    ready = cache.prepare(spec("a"), lambda line: None, holders=lambda: joined)
    cache.join()
    (item,) = cache.list()
    assert {use.run_id for use in item.in_use} == {"r_1", "r_2"}
    assert cache.hold(ready.key, shelf_home.use("r_3"))
    for run_id in ("r_1", "r_2", "r_3"):
        cache.release(shelf_home.use(run_id))
    cache.join()
    assert not cache.hold(ready.key, shelf_home.use("r_4"))
    assert shelf_home.server().list() == []


def test_prune_by_age_by_size_and_dry(shelf_home: Home) -> None:
    cache = shelf_home.server()
    made = [shelf_home.made(cache, name, 1000.0 * n) for n, name in enumerate("abcd", 1)]
    planned = cache.shelf.prune(used_before=2500, dry_run=True)
    assert [item.key for item in planned.removed] == [made[0].key, made[1].key]
    assert planned.freed_bytes + planned.left_bytes == cache.shelf.total_bytes()
    assert len(cache.list()) == 4
    done = cache.shelf.prune(used_before=1500)
    assert [item.key for item in done.removed] == [made[0].key]
    assert cache.hold(made[1].key, shelf_home.use("r_1"))
    done = cache.shelf.prune(max_bytes=int(1.5 * BIG))
    assert [item.key for item in done.removed] == [made[2].key, made[3].key]
    assert done.in_use == [made[1].key]
    assert keys(cache) == {made[1].key}


def test_one_above_the_size_stays_while_it_is_the_last_and_the_others_go(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit(monkeypatch, 0.5)
    cache = shelf_home.server()
    first = shelf_home.made(cache, "a", 1000)
    assert keys(cache) == {first.key} and "environments_max_gb" in caplog.text
    cache.start()
    cache.join()
    assert keys(cache) == {first.key}, "a start of a server is no reason to build it anew"
    second = shelf_home.made(cache, "b", 2000)
    assert keys(cache) == {second.key}


def test_what_was_just_made_stays_even_if_another_was_used_since(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = shelf_home.server()
    first = shelf_home.made(cache, "a", 1000)
    limit(monkeypatch, 0.5)
    state = shelf_home.root / "built" / first.key / "windlass.json"
    shelf_home.builder.before_build = lambda work: os.utime(state, (9e9, 9e9))
    second = shelf_home.made(cache, "b", 2000)
    assert keys(cache) == {first.key, second.key}


def test_who_asks_for_one_that_is_about_to_go_keeps_it(shelf_home: Home) -> None:
    """It was listed as old; before its turn somebody uses it."""
    cache, other = shelf_home.server(), shelf_home.server()
    made = [shelf_home.made(cache, name, 1000.0) for name in "ab"]
    let_go = cache.shelf._let_go

    def comes_for_the_other(key: str) -> None:
        let_go(key)
        (left,) = {ready.key for ready in made} - {key}
        assert other.hold(left, shelf_home.use("r_1"))

    cache.shelf._let_go = comes_for_the_other
    done = cache.shelf.prune(max_bytes=0)
    assert len(done.removed) == 1
    assert len(keys(cache)) == 1


def test_one_that_another_server_deletes_before_its_turn_is_not_pruned(shelf_home: Home) -> None:
    cache, other = shelf_home.server(), shelf_home.server()
    first, _ = (shelf_home.made(cache, name, 1000.0 * n) for n, name in enumerate("ab", 1))
    let_go = cache.shelf._let_go

    def deletes_the_other(key: str) -> None:
        let_go(key)
        other.shelf.prune(max_bytes=0)

    cache.shelf._let_go = deletes_the_other
    assert [item.key for item in cache.shelf.prune(max_bytes=0).removed] == [first.key]
    assert keys(cache) == set()


def test_one_that_is_being_made_anew_is_left_alone(shelf_home: Home) -> None:
    cache, other = shelf_home.server(), shelf_home.server()
    shelf_home.made(cache, "a", 1000.0)
    pruned = []
    shelf_home.builder.before_build = lambda work: pruned.append(other.shelf.prune(max_bytes=0))
    ready = cache.prepare(spec("b"), lambda line: None)
    assert len(pruned[0].removed) == 1
    assert cache.find(spec("b")) and ready.prefix


def test_one_that_another_server_removes_at_that_moment_is_not_listed(shelf_home: Home) -> None:
    other, seen = shelf_home.server(), list[str]()
    gone, stays = (shelf_home.made(other, name, used=1) for name in ("gone", "stays"))

    def named(name: str) -> FakeBuilder:  # asked between looking what there is and telling of it
        if not seen:
            seen.append(name)
            other.remove(gone.key)
        return shelf_home.builder

    cache = EnvironmentCache(str(shelf_home.root), builder_for=lambda spec: shelf_home.builder, builder_named=named)
    assert keys(cache) == {stays.key}
    assert cache.shelf.prune(max_bytes=0).removed
    cache.close()


def test_who_asks_without_a_run_finds_nothing_of_one_that_goes_at_that_moment(shelf_home: Home) -> None:
    other = shelf_home.server()
    gone = shelf_home.made(other, "gone", used=1)

    def named(name: str) -> FakeBuilder:  # asked between reading its state and noting its use
        other.remove(gone.key)
        return shelf_home.builder

    cache = EnvironmentCache(str(shelf_home.root), builder_for=lambda spec: shelf_home.builder, builder_named=named)
    assert cache.find(spec("gone")) is None
    cache.close()


def test_sizes_are_what_the_disk_has(shelf_home: Home) -> None:
    cache = shelf_home.server()
    made = [shelf_home.made(cache, name, 1000.0) for name in "ab"]
    alone = cache.shelf.total_bytes()
    assert 2 * BIG < alone < 2.2 * BIG
    one, two = (Path(ready.prefix or "") / "lib" / "payload" for ready in made)
    two.unlink()
    os.link(one, two)
    assert all(cache.shelf.get(ready.key).shared_bytes >= BIG for ready in made)
    assert BIG < cache.shelf.total_bytes() < 1.2 * BIG


def test_what_the_released_version_built_is_taken_over(shelf_home: Home, caplog: pytest.LogCaptureFixture) -> None:
    key = shelf_home.made(shelf_home.server(), "old", 1000.0).key
    built = shelf_home.root / "built" / key
    names = ("builder", "python", "python_version", "packages", "created", "boot", "format")
    state = json.loads((built / "windlass.json").read_text())
    (built / "windlass.json").write_text(json.dumps({**{name: state[name] for name in names}, "bytes": BIG}))
    (built / "windlass.settled").write_text("")
    for folder, new in (("requests", "spec"), ("resolved", "image")):
        for path in (shelf_home.root / folder).iterdir():
            path.write_text(json.dumps({n: v for n, v in json.loads(path.read_text()).items() if n != new}))
    cache = shelf_home.server()
    with caplog.at_level(logging.INFO):
        found = cache.find(spec("old"))
        assert found and found.key == key and found.python.endswith("bin/python")
        (item,) = cache.list()
        assert item.bytes > BIG and item.fault is None
        assert [entry["spec"] for entry in cache.shelf.details(key)["requests"]] == [None]
        cache.start()
        cache.join()
    assert caplog.messages == []
    assert shelf_home.builder.built == 1
    cache.remove(key)


class Elsewhere(FakeBuilder):
    """Its environments lie in an engine as well."""

    def __init__(self) -> None:
        super().__init__()
        self.images: set[str] = set()
        self.busy = False

    def build(self, lock: Lock, prefix: str, work: object) -> None:
        super().build(lock, prefix, work)  # type: ignore[arg-type]
        self.images.add(lock.key)

    def is_there(self, lock: Lock, prefix: str) -> bool:
        return lock.key in self.images

    def outside_bytes(self, lock: Lock, prefix: str) -> int:
        return 50 * BIG

    def discard(self, lock: Lock, prefix: str) -> None:
        if self.busy:
            raise EnvironmentFailed("The engine is down.")
        self.images.remove(lock.key)


def test_a_builder_that_keeps_things_elsewhere_is_asked(shelf_home: Home, caplog: pytest.LogCaptureFixture) -> None:
    builder = shelf_home.builder = Elsewhere()
    cache = shelf_home.server()
    made = shelf_home.made(cache, "a", 1000.0)
    (item,) = cache.list()
    assert item.bytes > 50 * BIG and cache.shelf.total_bytes() > 50 * BIG
    builder.busy = True
    assert cache.shelf.prune(max_bytes=0).removed == []
    assert "The engine is down." in caplog.text
    with pytest.raises(EnvironmentFailed, match="The engine is down"):
        cache.remove(made.key)
    builder.busy = False
    assert cache.find(spec("a"))
    builder.images.clear()
    assert cache.find(spec("a")) is None, "somebody removed the image"
    assert not cache.hold(made.key, shelf_home.use("r_1"))
    cache.prepare(spec("a"), lambda line: None)
    assert builder.images == {made.key}
    cache.remove(made.key)
    assert (builder.images, cache.list()) == (set(), [])


def lock(*requirements: str, python: str = "3.11.1") -> Lock:
    return Lock("venv", "/python", python, "linux", requirements)


def test_the_packages_of_a_lock_and_what_changed() -> None:
    before = lock("--index-url x", "six==1.16.0 --hash=sha256:00", "tool @ git+https://host/tool", "b[extra]==1")
    conda = "conda+file:///channel/noarch/py-tool-2.1-h123_0.conda --hash=sha256:00"
    assert package_versions(lock(conda)) == [{"name": "py-tool", "version": "2.1"}]
    wheel = "mine @ file:///data/my%20wheels/mine-1.0+lab-py3-none-any.whl --hash=sha256:00"
    assert package_versions(lock(wheel)) == [{"name": "mine", "version": "1.0+lab"}]
    assert package_versions(before) == [
        {"name": "b", "version": "1"}, {"name": "six", "version": "1.16.0"},
        {"name": "tool @ git+https://host/tool", "version": None},
    ]  # fmt: skip
    after = lock("six==1.17.0 --hash=sha256:00", "new==1 ; python_version > '3'", "b[extra]==1", python="3.12.0")
    assert list(changes(before, after)) == [
        {"name": "python", "before": "3.11.1", "after": "3.12.0"},
        {"name": "six", "before": "1.16.0", "after": "1.17.0"},
        {"name": "tool @ git+https://host/tool", "before": "", "after": None},
        {"name": "new", "before": None, "after": "1"},
    ]
    assert list(changes(after, after)) == []
    assert len(changes(None, after)) == 4


def test_somebody_who_only_looks_does_not_keep_an_environment_from_going(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = shelf_home.server()
    ready = shelf_home.made(cache, "a", used=1)
    looking = contextlib.ExitStack()
    looking.enter_context(shared_if_free(cache._layout.lock_file(ready.key)))
    monkeypatch.setattr(_flock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: looking.close()))
    cache.remove(ready.key)
    assert not keys(cache)


class InEngine(Elsewhere):
    """Its environments are images."""

    def place(self, lock: Lock, prefix: str) -> tuple[str, str]:
        return f"sha256:{lock.key}", "unix:///engine.sock"


def test_a_list_says_which_images_are_gone_and_asks_the_engine_once(
    shelf_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf_home.builder = InEngine()
    cache = shelf_home.server()
    gone, there = (shelf_home.made(cache, name, used=1).key for name in ("gone", "there"))
    asked: list[str] = []
    monkeypatch.setattr(container_engine, "images_of", lambda engine: asked.append(engine) or {f"sha256:{there}"})
    faults = {item.key: item.fault for item in cache.list()}
    assert faults == {gone: "its image is gone from the container engine", there: None}
    assert asked == ["unix:///engine.sock"]
    monkeypatch.setattr(container_engine, "images_of", lambda engine: None)
    assert all("does not answer" in str(item.fault) for item in cache.list())


def test_one_environment_is_measured_alone(shelf_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf_home.builder = InEngine()
    cache = shelf_home.server()
    one, _ = (shelf_home.made(cache, name, used=1).key for name in ("one", "two"))
    monkeypatch.setattr(cache.shelf, "list", None)
    assert cache.shelf.bytes_of(one) > 50 * BIG and cache.shelf.bytes_of("f" * 32) == 0
