"""Environments in the making: one piece of work for each, however many wait for it, and no thread for who waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentStopped, Ready
from windlassd.envs.cache import EnvironmentCache, Use

_MOST_THREADS = 256  # those that wait for their turn or for another process included

Say = Callable[[str], None]


@dataclass(eq=False)
class _Waiter:
    say: Say
    use: Use | None
    done: asyncio.Future[Ready]


@dataclass(eq=False)
class _Work:
    what: str
    """Whom it was begun for."""
    lines: list[str] = field(default_factory=list)
    waiters: list[_Waiter] = field(default_factory=list)
    holders: tuple[Use, ...] = ()
    """The runs among those who wait; the thread that works reads it."""
    stop: threading.Event = field(default_factory=threading.Event)

    def take(self, line: str) -> None:
        """Hand a line on to all who wait."""
        self.lines.append(line)
        for waiter in list(self.waiters):
            _tell(waiter, line)

    def join(self, waiter: _Waiter) -> None:
        """One more waits; it gets the lines so far."""
        self._set([*self.waiters, waiter])
        for line in self.lines:
            _tell(waiter, line)

    def leave(self, waiter: _Waiter) -> None:
        """One waits no more; the work of nobody is stopped."""
        self._set([other for other in self.waiters if other is not waiter])
        if not self.waiters:
            self.stop.set()

    def _set(self, waiters: list[_Waiter]) -> None:
        self.waiters = waiters
        self.holders = tuple(waiter.use for waiter in waiters if waiter.use)


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
        request = await asyncio.to_thread(self._envs.request_key, spec), anew
        work = self._under_way.get(request)
        waiter = _Waiter(say, use, self._loop.create_future())
        if work is None or work.stop.is_set():
            work = self._under_way[request] = _Work(f" for {use.run_id}" if use else "")
            work.join(waiter)
            self._begin(request, work, spec)
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

    def _begin(self, request: tuple[str, bool], work: _Work, spec: EnvironmentSpec) -> None:
        def tell(line: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(work.take, line)

        make = self._envs.refresh if request[1] else self._envs.prepare
        made = self._loop.run_in_executor(self._threads, make, spec, tell, work.stop, lambda: work.holders)
        made.add_done_callback(lambda made: self._ended(request, work, made))

    def _ended(self, request: tuple[str, bool], work: _Work, made: asyncio.Future[Ready]) -> None:
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
