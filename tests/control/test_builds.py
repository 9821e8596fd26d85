"""One piece of work for all who wait for the same environment, and no thread for those who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.control.builds import Builds
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Ready, Work
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.testing.fake_builder import FakeBuilder

SPEC = EnvironmentSpec(pip_packages=("tiny",))
MANY = 50


class Site:
    """A builder whose builds wait, and the runs that ask for what it builds."""

    def __init__(self, folder: Path) -> None:
        self.builder = FakeBuilder()
        self.builder.before_build = self._hold
        self.building, self.go = threading.Event(), threading.Event()
        self.stops: list[threading.Event] = []
        self.envs = EnvironmentCache(str(folder / "environments"), builder_for=lambda spec: self.builder)
        self.logs: list[list[str]] = []
        self.folder = folder

    def _hold(self, work: Work) -> None:
        self.stops.append(work.stop)
        self.building.set()
        while not self.go.wait(0.01):
            work.give_up()

    async def until_building(self) -> None:
        await asyncio.to_thread(self.building.wait, 10)
        assert self.building.is_set()

    def ask(self, builds: Builds, spec: EnvironmentSpec = SPEC, **how: bool) -> asyncio.Task[Ready]:
        """One more run asks."""
        log: list[str] = []
        self.logs.append(log)
        use = Use(str(self.folder), f"run_{len(self.logs)}")
        return asyncio.ensure_future(builds.prepare(spec, log.append, use, **how))

    async def until_all_wait(self) -> None:
        """All who asked have a line in their log."""
        while not all(self.logs):
            await asyncio.sleep(0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.go.set()
    made.envs.close()


def test_fifty_at_once_are_one_build_whose_lines_all_see(site: Site) -> None:
    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        first = site.ask(builds)
        await site.until_building()
        others = [site.ask(builds) for _ in range(MANY - 1)]
        await site.until_all_wait()
        threads = [t for t in threading.enumerate() if t.name.startswith("environment")]
        assert len(threads) == 1
        assert site.envs.find(EnvironmentSpec(pip_packages=("other",))) is None, "finding waits for no build"
        site.go.set()
        ready = await asyncio.gather(first, *others)
        assert {found.key for found in ready} == {ready[0].key}
        builds.close()

    asyncio.run(story())
    assert (site.builder.resolved, site.builder.built) == (1, 1)
    assert site.logs[0][0] == "Building tiny==1.0."
    for log in site.logs[1:]:
        assert log == ["Waiting for the same environment, which is being prepared for run_1 already:", *site.logs[0]]
    (item,) = site.envs.list()
    assert len(item.in_use) == MANY


def test_who_gives_up_stops_the_build_only_when_nobody_else_waits(site: Site) -> None:
    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        first, second = site.ask(builds), site.ask(builds)
        await site.until_building()
        await site.until_all_wait()
        first.cancel()
        await asyncio.wait([first])
        assert not site.stops[0].is_set()
        second.cancel()
        await asyncio.wait([second])
        assert site.stops[0].is_set()
        site.building.clear()
        third = site.ask(builds)  # at once, while the first build is still ending
        await site.until_building()
        site.go.set()
        assert (await third).prefix
        builds.close()

    asyncio.run(story())
    assert site.builder.built == 2
    (item,) = site.envs.list()
    assert [use.run_id for use in item.in_use] == ["run_3"]


def test_a_failure_is_told_to_all_who_wait(site: Site) -> None:
    site.builder.fault = "it is broken"

    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        asked = [site.ask(builds) for _ in range(3)]
        await site.until_all_wait()
        site.go.set()
        for end in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(end, EnvironmentFailed) and "it is broken" in end.message
        builds.close()

    asyncio.run(story())
    assert site.builder.built == 1


def test_a_log_that_cannot_be_written_ends_its_own_run_alone(site: Site) -> None:
    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        good = site.ask(builds)
        await site.until_building()

        def full(line: str) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            await builds.prepare(SPEC, full)
        site.go.set()
        assert (await good).prefix
        builds.close()

    asyncio.run(story())


def test_a_refresh_is_another_work_than_what_is_under_way(site: Site) -> None:
    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        first = site.ask(builds)
        await site.until_building()
        site.builder.versions["tiny"] = "2.0"
        anew = site.ask(builds, anew=True)
        await site.until_all_wait()
        site.go.set()
        assert (await first).key != (await anew).key
        builds.close()

    asyncio.run(story())
    assert site.logs[1][0].startswith("Waiting for the same environment")


def test_the_end_of_the_server_stops_all(site: Site) -> None:
    async def story() -> None:
        builds = Builds(site.envs, asyncio.get_running_loop())
        asked = site.ask(builds)
        await site.until_building()
        builds.close()
        with pytest.raises(EnvironmentStopped):
            await asked

    asyncio.run(story())
