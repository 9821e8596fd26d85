"""Environments in the making: one piece of work for each, however many wait for it, and no thread for who waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentStopped, Lock, Ready
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.envs.target import Target

_MOST_THREADS = 256  # those that wait for their turn or for another process included

Say = Callable[[str], None]


@dataclass(eq=False)
class _Waiter:
    say: Say
    use: Use | None
    done: asyncio.Future[Any]


@dataclass(eq=False)
class _Work:
    what: str
    """Whom it was begun for."""
    lines: list[str] = field(default_factory=list)
    waiters: dict[_Waiter, None] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def take(self, line: str) -> None:
        """Hand a line on to all who wait."""
        self.lines.append(line)
        for waiter in list(self.waiters):
            _tell(waiter, line)

    def join(self, waiter: _Waiter) -> None:
        """One more waits; it gets the lines so far."""
        self.waiters[waiter] = None
        for line in self.lines:
            _tell(waiter, line)

    def leave(self, waiter: _Waiter) -> None:
        """One waits no more; the work of nobody is stopped."""
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self.stop.set()

    @property
    def holders(self) -> tuple[Use, ...]:
        """The runs among those who wait; the thread that works asks."""
        return tuple(waiter.use for waiter in list(self.waiters) if waiter.use)


class Builds:
    """Belongs to the loop's thread.

    Args:
        envs: The cache; it sees to the number of builds at once, and to other processes.
        loop: The server's loop.
    """

    def __init__(self, envs: EnvironmentCache, loop: asyncio.AbstractEventLoop) -> None:
        self._envs = envs
        self._loop = loop
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="environment")
        self._under_way: dict[tuple[str, bool], _Work] = {}

    async def prepare(self, spec: EnvironmentSpec, say: Say, use: Use | None = None, *, anew: bool = False) -> Ready:
        """The environment for ``spec``; what is under way for the same request is waited for.

        Args:
            spec: What is asked for.
            say: Takes the lines of the work, from its first on, in the loop's thread. Its OSError ends this call alone.
            use: The run that it is for.
            anew: Resolve it again.

        Raises:
            EnvironmentFailed: it cannot be made.
            EnvironmentStopped: the server is ending.
        """
        key = await asyncio.to_thread(self._envs.request_key, spec)
        make = self._envs.refresh if anew else self._envs.prepare

        def begin(tell: Say, work: _Work) -> Ready:
            return make(spec, tell, work.stop, lambda: work.holders)

        made: Ready = await self._shared((key, anew), begin, say, use)
        return made

    async def resolve(self, spec: EnvironmentSpec, target: Target, say: Say, use: Use | None = None) -> Lock:
        """The lock for ``spec`` on other machines; else as ``prepare``.

        Raises:
            LeftToNodes: what it needs can be learned there alone.
        """
        locks = self._envs.for_targets
        key = await asyncio.to_thread(locks.request_key, spec, target)

        def begin(tell: Say, work: _Work) -> Lock:
            return locks.resolve(spec, target, tell, work.stop, lambda: work.holders)

        lock: Lock = await self._shared((key, False), begin, say, use)
        return lock

    async def _shared(
        self, request: tuple[str, bool], begin: Callable[[Say, _Work], object], say: Say, use: Use | None
    ) -> Any:
        work = self._under_way.get(request)
        waiter = _Waiter(say, use, self._loop.create_future())
        if work is None or work.stop.is_set():
            work = self._under_way[request] = _Work(f" for {use.run_id}" if use else "")
            work.join(waiter)
            self._begin(request, work, begin)
        else:
            say(f"Waiting for the same environment, which is being prepared{work.what} already:")
            work.join(waiter)
        try:
            return await waiter.done
        finally:
            work.leave(waiter)

    def close(self) -> None:
        """Stop all work; who waits is told."""
        for work in self._under_way.values():
            work.stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, request: tuple[str, bool], work: _Work, begin: Callable[[Say, _Work], object]) -> None:
        def tell(line: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(work.take, line)

        made = self._loop.run_in_executor(self._threads, begin, tell, work)
        made.add_done_callback(lambda made: self._ended(request, work, made))

    def _ended(self, request: tuple[str, bool], work: _Work, made: asyncio.Future[Any]) -> None:
        if self._under_way.get(request) is work:
            del self._under_way[request]
        stopped = EnvironmentStopped("The preparation of the environment was stopped.")
        problem = stopped if made.cancelled() else made.exception()
        for waiter in work.waiters:
            if waiter.done.done():
                continue
            if problem is None:
                waiter.done.set_result(made.result())
            else:
                waiter.done.set_exception(problem)


def _tell(waiter: _Waiter, line: str) -> None:
    try:
        waiter.say(line)
    except OSError as problem:  # such as its folder's full disk
        if not waiter.done.done():
            waiter.done.set_exception(problem)
