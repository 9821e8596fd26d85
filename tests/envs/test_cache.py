from __future__ import annotations

import json
import os
import shutil
import threading
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
    (listed,) = cache.list()
    assert listed.fault and listed.fault.startswith("its interpreter") and "gone" in listed.fault
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


@pytest.mark.parametrize("left", [b"", b"\0" * 400])
def test_what_a_crash_left_of_an_environment_is_cleared_away_at_the_next_start(
    cache: EnvironmentCache, tmp_path: Path, left: bytes
) -> None:
    made = cache.prepare(SPEC, drop)
    cache.join()
    (Path(made.prefix or "") / "windlass.json").write_bytes(left)
    cache.start()
    cache.join()
    assert os.listdir(tmp_path / "environments" / "built") == []


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
    assert lines[0].startswith("Waiting for the same environment")
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
        seen.append([path.name for path in folder.iterdir() if path.is_dir()])

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


def test_who_waits_in_another_process_sees_the_lines_of_the_build(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path, clock: Clock
) -> None:
    building, go = held_up(builder)
    other = EnvironmentCache(str(tmp_path / "environments"), clock=clock, builder_for=lambda spec: builder)
    lines: list[str] = []
    seen = threading.Event()

    def second_log(line: str) -> None:
        lines.append(line)
        if line.startswith("Building"):
            seen.set()

    first = threading.Thread(target=lambda: cache.prepare(SPEC, drop))
    second = threading.Thread(target=lambda: other.prepare(SPEC, second_log))
    first.start()
    assert building.wait(10)
    second.start()
    assert seen.wait(10), "the lines come while it is built, those before it was asked for too"
    go.set()
    first.join(10)
    second.join(10)
    other.close()
    assert lines[1] == "Building tiny==1.0." and lines[-1].endswith("s.")
    assert builder.built == 1


def test_another_request_for_what_is_being_built_sees_its_lines_too(
    cache: EnvironmentCache, builder: FakeBuilder
) -> None:
    building, go = held_up(builder)
    lines: list[str] = []
    seen = threading.Event()

    def second_log(line: str) -> None:
        lines.append(line)
        if line.startswith("Building"):
            seen.set()

    pairs = [EnvironmentSpec(pip_packages=packages) for packages in (("a", "b"), ("b", "a"))]
    first = threading.Thread(target=lambda: cache.prepare(pairs[0], drop))
    second = threading.Thread(target=lambda: cache.prepare(pairs[1], second_log))
    first.start()
    assert building.wait(10)
    second.start()
    assert seen.wait(10)
    go.set()
    first.join(10)
    second.join(10)
    assert lines[0].startswith("Waiting for the build of environment")
    assert (builder.resolved, builder.built) == (2, 1)


def test_without_the_index_what_was_built_before_is_used_with_a_note(
    cache: EnvironmentCache, builder: FakeBuilder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_TTL_S", "100")
    old = cache.prepare(SPEC, drop)
    clock.now += 200
    builder.away = "The package index could not be reached."
    lines: list[str] = []
    kept = cache.prepare(SPEC, lines.append)
    assert (kept.key, kept.python, kept.cached) == (old.key, old.python, True)
    assert lines[-2:] == [builder.away, kept.notes[-1]]
    assert "1970-01-12" in kept.notes[-1]
    asked = builder.resolved
    found = cache.find(SPEC)
    assert found and found.notes == kept.notes, "for some minutes nobody waits for the index again"
    clock.now += 3600
    assert cache.find(SPEC) is None
    builder.away = None
    builder.versions["tiny"] = "2.0"
    assert cache.prepare(SPEC, drop).key != old.key
    assert builder.resolved == asked + 1


def test_without_the_index_and_with_nothing_built_it_says_so(cache: EnvironmentCache, builder: FakeBuilder) -> None:
    builder.away = "The package index could not be reached."
    with pytest.raises(EnvironmentFailed, match=r"could not be reached.*\n.*before is in the cache") as caught:
        cache.prepare(SPEC, drop)
    assert caught.value.transient
    builder.away = None
    cache.prepare(SPEC, drop)
    builder.away = "The package index could not be reached."
    with pytest.raises(EnvironmentFailed, match="could not be reached"):
        cache.refresh(SPEC, drop)


def test_a_request_remembers_what_was_asked_and_one_of_an_older_version_still_counts(
    cache: EnvironmentCache, tmp_path: Path
) -> None:
    made = cache.prepare(SPEC, drop)
    (request,) = cache.shelf.details(made.key)["requests"]
    assert EnvironmentSpec.from_wire(request["spec"]) == SPEC
    (path,) = (tmp_path / "environments" / "requests").iterdir()
    record = json.loads(path.read_text())
    del record["spec"]
    path.write_text(json.dumps(record))
    found = cache.find(SPEC)
    assert found and found.key == made.key
    assert cache.shelf.details(made.key)["requests"][0]["spec"] is None


def test_an_environment_that_was_renamed_and_not_declared_is_swept(cache: EnvironmentCache) -> None:
    made = cache.prepare(SPEC, drop)
    cache.join()
    assert made.prefix
    os.unlink(os.path.join(made.prefix, "windlass.json"))
    cache.sweep()
    assert not os.path.exists(made.prefix)


def test_what_was_not_completed_is_completed_by_the_next_server(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path, clock: Clock
) -> None:
    made = cache.prepare(SPEC, drop)
    cache.join()
    settled = Path(made.prefix or "") / "windlass.settled"
    settled.unlink()
    cache.start()
    cache.join()
    assert settled.exists()


@pytest.mark.parametrize("deleted", ["", "locks", "built", "requests", "resolved", "building"])
def test_a_folder_that_was_deleted_under_a_running_server_is_made_again(
    cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path, deleted: str
) -> None:
    """Whoever wants room deletes ``environments``, and does not think of the server."""
    cache.prepare(SPEC, drop)
    cache.join()
    shutil.rmtree(tmp_path / "environments" / deleted)
    assert len(cache.list()) == (0 if deleted in ("", "built") else 1)
    cache.start()
    cache.join()
    ready = cache.prepare(SPEC, drop)
    assert os.access(ready.python, os.X_OK)
    cache.join()
    cache.remove(ready.key)


def test_another_cache_on_the_same_folder_finds_it(cache: EnvironmentCache, builder: FakeBuilder, tmp_path: Path,
                                                   clock: Clock) -> None:  # fmt: skip
    made = cache.prepare(SPEC, drop)
    other = EnvironmentCache(str(tmp_path / "environments"), clock=clock, builder_for=lambda spec: builder)
    found = other.find(SPEC)
    assert found and found.key == made.key
