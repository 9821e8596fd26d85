"""Coroutines as tests: ``in_world(work)`` runs ``work(world)`` on a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from control.world import World
from windlassd.compute.fake import FakeEngine

InWorld = Callable[..., None]


@pytest.fixture
def in_world(home: Path) -> InWorld:
    """Runs a coroutine in a world on the test's workspace; called again, it is a restarted server."""

    def run(work: Callable[[World], Awaitable[None]], engine: FakeEngine | None = None) -> None:
        async def whole() -> None:
            async with World(str(home / "workspaces" / "ws"), engine) as world:
                await asyncio.wait_for(work(world), 60)

        asyncio.run(whole())

    return run
