"""Records of requests and locks go when they lead to nothing any more, and not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._conda_cache import sweep_channels
from windlassd.envs._flock import held_if_free
from windlassd.envs._layout import Layout
from windlassd.envs._records import WRITING, sweep_records
from windlassd.envs.cache import EnvironmentCache
from windlassd.testing.fake_builder import FakeBuilder

DAY = 86400.0
WEEK, LONG = 7 * DAY, 60 * DAY
SPEC = EnvironmentSpec(pip_packages=("tiny",))


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def cache(tmp_path: Path, builder: FakeBuilder) -> Iterator[EnvironmentCache]:
    cache = EnvironmentCache(
        str(tmp_path / "environments"), builder_for=lambda spec: builder, builder_named=lambda name: builder
    )
    yield cache
    cache.close()


@pytest.fixture
def layout(cache: EnvironmentCache) -> Layout:
    return Layout(cache.root)


def records(layout: Layout) -> tuple[int, int]:
    """How many requests and locks are known."""
    return len(layout.record_keys("requests")), len(layout.record_keys("resolved"))


def age(layout: Layout, by: float = LONG) -> None:
    """All records are that old, as those who wrote them would have left them."""
    for kind in ("requests", "resolved"):
        for key in layout.record_keys(kind):
            path = Path(layout.record_file(kind, key))
            made = path.stat().st_mtime - by
            text = path.read_text()
            if kind == "requests" and (record := layout.request(key)):
                text = text.replace(repr(record.made), repr(record.made - by))
            path.write_text(text)
            os.utime(path, (made, made))


def removed(cache: EnvironmentCache) -> None:
    """An environment was built for a request, and is gone."""
    made = cache.prepare(SPEC, print)
    cache.join()
    cache.remove(made.key)


def sweep(layout: Layout) -> None:
    sweep_records(layout, Path(layout.root).stat().st_mtime, WEEK)


def test_what_expired_long_ago_and_is_not_built_goes(cache: EnvironmentCache, layout: Layout) -> None:
    gone, kept = cache.prepare(SPEC, print), cache.prepare(EnvironmentSpec(pip_packages=("other",)), print)
    cache.join()
    cache.remove(gone.key)
    age(layout)
    cache.prepare(EnvironmentSpec(pip_packages=("third",)), print)
    cache.join()
    cache.start()
    cache.join()
    assert records(layout) == (2, 2), "builds, and starts of servers, are followed by a sweep"
    assert cache.shelf.details(kept.key)["requests"], "what is built is told of, however old"
    assert cache.shelf.details(kept.key)["contents"]
    assert cache.locked(SPEC) is None


def test_what_expired_a_while_ago_stays(cache: EnvironmentCache, layout: Layout) -> None:
    removed(cache)
    age(layout, WEEK + 20 * DAY)
    sweep(layout)
    assert records(layout) == (1, 1) and cache.locked(SPEC)


def test_the_lock_that_a_refresh_left_behind_goes(
    cache: EnvironmentCache, layout: Layout, builder: FakeBuilder
) -> None:
    old = cache.prepare(SPEC, print)
    builder.versions["tiny"] = "2.0"
    new = cache.refresh(SPEC, print)
    cache.join()
    cache.remove(old.key)
    sweep(layout)
    assert records(layout) == (1, 2), "it may be about to be built"
    age(layout)
    sweep(layout)
    assert layout.record_keys("resolved") == [new.key]


def test_one_that_is_just_being_made_anew_stays(cache: EnvironmentCache, layout: Layout) -> None:
    removed(cache)
    age(layout)
    with held_if_free(layout.lock_file(cache.request_key(SPEC))):
        sweep(layout)
    assert records(layout) == (1, 1)
    with held_if_free(layout.lock_file(WRITING)):
        sweep(layout)
    assert records(layout) == (0, 1), "while a record is written no lock goes that it may name"


def test_what_cannot_be_read_goes_when_it_is_old(cache: EnvironmentCache, layout: Layout) -> None:
    removed(cache)
    for kind in ("requests", "resolved"):
        Path(layout.record_file(kind, layout.record_keys(kind)[0])).write_text("{")
    sweep(layout)
    assert records(layout) == (1, 1)
    age(layout)
    sweep(layout)
    assert records(layout) == (0, 0)


def test_what_a_channel_had_goes_when_nobody_asked_it_for_long(cache: EnvironmentCache) -> None:
    known = Path(cache.root, "conda", "repodata")
    known.mkdir(parents=True)
    now = known.stat().st_mtime
    for name, days in (("old.json", 90), ("old.info.json", 60), ("asked.json", 90), ("asked.info.json", 1)):
        (known / name).write_text("{}")
        os.utime(known / name, (now - days * DAY, now - days * DAY))
    sweep_channels(cache.root, now)
    assert sorted(os.listdir(known)) == ["asked.info.json", "asked.json"]
