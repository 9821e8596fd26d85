from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Work
from windlassd.envs.cache import EnvironmentCache
from windlassd.testing.fake_builder import FakeBuilder

SPEC = EnvironmentSpec(pip_packages=("tiny",))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, builder: FakeBuilder, clock: Clock) -> Iterator[EnvironmentCache]:
    cache = EnvironmentCache(str(tmp_path / "environments"), clock=clock, builder_for=lambda spec: builder)
    yield cache
    cache.close()


def drop(line: str) -> None:
    pass


def held_up(builder: FakeBuilder) -> tuple[threading.Event, threading.Event]:
    """(set when a build begins, to be set to let it go on)."""
    building, go = threading.Event(), threading.Event()

    def hold(work: Work) -> None:
        building.set()
        go.wait(10)

    builder.before_build = hold
    return building, go


def test_find_knows_nothing_before_prepare_and_all_of_it_after(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    assert cache.find(SPEC) is None
    made = cache.prepare(SPEC, drop)
    found = cache.find(SPEC)
    assert found and (made.cached, found.cached) == (False, True)
    assert (found.key, found.python, found.prefix, found.notes) == (made.key, made.python, made.prefix, ("Fake.",))
    assert os.access(found.python, os.X_OK)
    assert (builder.resolved, builder.built) == (1, 1)


def test_two_requests_with_one_lock_share_an_environment(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    first = cache.prepare(EnvironmentSpec(pip_packages=("a", "b")), drop)
    second = cache.prepare(EnvironmentSpec(pip_packages=("b", "a")), drop)
    assert first.key == second.key
    assert (builder.resolved, builder.built) == (2, 1)


def test_the_name_of_an_environment_makes_no_difference(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    cache.prepare(EnvironmentSpec(name="mine", pip_packages=("tiny",)), drop)
    assert cache.find(SPEC)


def test_versions_stay_until_the_time_is_up(
    cache: EnvironmentCache, builder: FakeBuilder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_TTL_S", "100")
    old = cache.prepare(SPEC, drop)
    builder.versions["tiny"] = "2.0"
    clock.now += 99
    assert cache.prepare(SPEC, drop).key == old.key
    clock.now += 2
    assert cache.find(SPEC) is None
    new = cache.prepare(SPEC, drop)
    assert new.key != old.key
    assert len(cache.list()) == 2


def test_refresh_resolves_anew_and_builds_only_what_changed(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    old = cache.prepare(SPEC, drop)
    assert cache.refresh(SPEC, drop).key == old.key
    assert (builder.resolved, builder.built) == (2, 1)
    builder.versions["tiny"] = "2.0"
    new = cache.refresh(SPEC, drop)
    found = cache.find(SPEC)
    assert found and found.key == new.key != old.key


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"lock": 3, "made": "x"}', '{"lock": "zz"}'])
@pytest.mark.parametrize("kind", ["requests", "resolved", "state"])
def test_a_corrupt_file_is_made_anew(cache: EnvironmentCache, tmp_path: Path, text: str, kind: str) -> None:
    made = cache.prepare(SPEC, drop)
    cache.join()
    root = tmp_path / "environments"
    (path,) = [Path(made.prefix or "") / "windlass.json"] if kind == "state" else (root / kind).iterdir()
    path.write_text(text)
    if kind == "resolved":
        next((root / "requests").iterdir()).unlink()  # it is only read when something else is missing
    assert cache.find(SPEC) is None
    assert cache.prepare(SPEC, drop).key == made.key
    assert cache.find(SPEC)
    json.loads(path.read_text())


def test_an_environment_without_its_interpreter_is_built_anew(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    made = cache.prepare(SPEC, drop)
    os.unlink(made.python)
    assert cache.find(SPEC) is None
    assert cache.list() == []
    assert os.access(cache.prepare(SPEC, drop).python, os.X_OK)
    assert (builder.resolved, builder.built) == (1, 2)


def test_a_crash_of_the_machine_before_files_were_on_disk_rebuilds(cache: EnvironmentCache, tmp_path: Path) -> None:
    made = cache.prepare(SPEC, drop)
    cache.join()
    state = Path(made.prefix or "") / "windlass.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "boot": "another"}))
    assert cache.find(SPEC)  # it was settled: all is on disk
    (state.parent / "windlass.settled").unlink()
    assert cache.find(SPEC) is None


def test_a_failed_build_leaves_nothing_and_the_next_try_resolves_anew(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path
) -> None:
    builder.fault = "it is broken"
    with pytest.raises(EnvironmentFailed, match="does not work: it is broken"):
        cache.prepare(SPEC, drop)
    assert cache.list() == []
    assert os.listdir(tmp_path / "environments" / "building") == []
    builder.fault = None
    assert cache.prepare(SPEC, drop).prefix
    assert builder.resolved == 2


def test_a_package_that_is_not_there_fails_each_time_with_its_name(cache: EnvironmentCache) -> None:
    for _ in range(2):
        with pytest.raises(EnvironmentFailed, match="'nosuch'"):
            cache.prepare(EnvironmentSpec(pip_packages=("nosuch",)), drop)


def test_who_waits_says_so_and_builds_nothing(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    waits = threading.Event()
    building, go = held_up(builder)
    results: dict[str, bool] = {}
    lines: list[str] = []

    def second_log(line: str) -> None:
        lines.append(line)
        waits.set()

    first = threading.Thread(target=lambda: results.update(first=cache.prepare(SPEC, drop).cached))
    second = threading.Thread(target=lambda: results.update(second=cache.prepare(SPEC, second_log).cached))
    first.start()
    assert building.wait(10)
    second.start()
    assert waits.wait(10)
    go.set()
    first.join(10)
    second.join(10)
    assert results == {"first": False, "second": True}
    assert lines == ["Waiting for another run that is preparing the same environment."]
    assert builder.built == 1


def test_the_one_who_waits_goes_on_when_the_builder_is_stopped(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    building, waits, stop = threading.Event(), threading.Event(), threading.Event()

    def hang_once(work: Work) -> None:
        builder.before_build = lambda work: None
        building.set()
        work.stop.wait(10)
        work.give_up()

    builder.before_build = hang_once
    caught: list[Exception] = []
    done: list[bool] = []

    def stopped() -> None:
        try:
            cache.prepare(SPEC, drop, stop)
        except EnvironmentStopped as e:
            caught.append(e)

    first = threading.Thread(target=stopped)
    second = threading.Thread(target=lambda: done.append(cache.prepare(SPEC, lambda line: waits.set()).cached))
    first.start()
    assert building.wait(10)
    second.start()
    assert waits.wait(10)
    stop.set()
    first.join(10)
    second.join(10)
    assert len(caught) == 1
    assert done == [False]


def test_who_waits_can_be_stopped(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    stop = threading.Event()
    building, go = held_up(builder)
    first = threading.Thread(target=lambda: cache.prepare(SPEC, drop))
    first.start()
    assert building.wait(10)
    with pytest.raises(EnvironmentStopped):
        cache.prepare(SPEC, lambda line: stop.set(), stop)
    go.set()
    first.join(10)


def test_list_tells_what_is_there_last_used_first(cache: EnvironmentCache) -> None:
    old = cache.prepare(SPEC, drop)
    new = cache.prepare(EnvironmentSpec(pip_packages=("a", "b")), drop)
    for ready, used in ((old, 2000), (new, 1000)):
        os.utime(Path(ready.prefix or "") / "windlass.json", (used, used))
    first, second = cache.list()
    assert (first.key, first.used, first.packages, first.builder) == (old.key, 2000, 1, "fake")
    assert (second.key, second.packages) == (new.key, 2)
    cache.touch(new.key)
    assert cache.list()[0].key == new.key
    assert time.time() - cache.list()[0].used < 60


def test_finding_counts_as_use(cache: EnvironmentCache) -> None:
    made = cache.prepare(SPEC, drop)
    os.utime(Path(made.prefix or "") / "windlass.json", (1000, 1000))
    cache.find(SPEC)
    assert cache.list()[0].used > 1000


def test_a_removed_environment_is_gone_and_can_be_made_again(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path
) -> None:
    made = cache.prepare(SPEC, drop)
    cache.remove(made.key)
    assert cache.list() == []
    assert not os.path.exists(made.prefix or "")
    assert os.listdir(tmp_path / "environments" / "building") == []
    assert cache.find(SPEC) is None
    assert cache.prepare(SPEC, drop).key == made.key
    assert (builder.resolved, builder.built) == (1, 2)


@pytest.mark.parametrize("cut", [slice(0, 6), slice(0, 30), slice(1, 32)])
def test_removing_what_is_not_there_names_near_matches(cache: EnvironmentCache, cut: slice) -> None:
    made = cache.prepare(SPEC, drop)
    with pytest.raises(UserErrorException, match=f"{made.key[cut]}.*Did you mean '{made.key}'"):
        cache.remove(made.key[cut])
    with pytest.raises(UserErrorException, match="no environment"):
        cache.remove("../requests")
    assert len(cache.list()) == 1


def test_what_dead_builds_left_is_swept_and_live_builds_are_not(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path
) -> None:
    folder = tmp_path / "environments" / "building"
    dead = folder / f"{'0' * 32}.999999.abc"
    (dead / "environment").mkdir(parents=True)
    seen: list[list[str]] = []

    def sweep(work: Work) -> None:
        cache.sweep()
        seen.append(os.listdir(folder))

    builder.before_build = sweep
    made = cache.prepare(SPEC, drop)
    assert [name.split(".")[0] for name in seen[0]] == [made.key]
    assert not dead.exists()


def test_an_unwritable_folder_is_named(cache: EnvironmentCache, tmp_path: Path) -> None:
    building = tmp_path / "environments" / "building"
    building.rmdir()
    building.write_text("")
    with pytest.raises(EnvironmentFailed, match=r"cannot be written under .*environments"):
        cache.prepare(SPEC, drop)


def test_another_cache_on_the_same_folder_finds_it(cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path,
                                                   clock: Clock) -> None:  # fmt: skip
    made = cache.prepare(SPEC, drop)
    other = EnvironmentCache(str(tmp_path / "environments"), clock=clock, builder_for=lambda spec: builder)
    found = other.find(SPEC)
    assert found and found.key == made.key
