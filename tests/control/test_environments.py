"""Builds that somebody asked for without a run: they end whatever happens, since someone waits for their end."""

from __future__ import annotations

import logging

import pytest

from control.conftest import InWorld
from control.world import PACKAGED, World
from windlassd.control.environments import FAILED, RUNNING, Environments
from windlassd.envs.base import Work


def test_a_build_in_which_the_builder_itself_fails_ends_all_the_same(
    in_world: InWorld, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(work: Work) -> None:
        raise RuntimeError("nobody thought of that")

    async def story(world: World) -> None:
        world.builder.before_build = stumble
        environments = Environments(world.core)
        told = environments.build(PACKAGED)
        while told["status"] == RUNNING:
            told = await environments.watch(told["id"], told["next"], 10)
        assert told["status"] == FAILED
        assert "nobody thought of that" in told["error"] and "server.log" in told["error"]
        assert environments.building() == 0, "or a server without work would never end"
        environments.close()

    with caplog.at_level(logging.CRITICAL):
        in_world(story)
