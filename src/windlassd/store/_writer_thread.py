"""The one thread that writes: it takes all works that wait, runs each in a savepoint and commits once for all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from windlassd.store.base import StoreError

_GROUP_WORKS = 512
_GROUP_S = 0.05


class _Job(NamedTuple):
    work: Callable[[Connection], Any]
    future: Future[Any]
    alone: bool = False
    """To be run outside of any transaction."""


class WriterThread:
    """Runs works on ``connection``, which it owns from now on, in the order they came.

    Args:
        connection: Of an engine whose transactions take the write lock at their begin.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[_Job] = deque()
        self._wake = Condition()
        self._closing = False
        self._thread = Thread(target=self._loop, name="windlass-store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Queue ``work``; its future resolves once what it did is durable."""
        return self._submit(work, alone=False)

    def submit_alone(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """As ``submit``, outside of any transaction: for what SQL does only there."""
        return self._submit(work, alone=True)

    def _submit(self, work: Callable[[Connection], Any], alone: bool) -> Future[Any]:
        future: Future[Any] = Future()
        with self._wake:
            if self._closing:
                raise StoreError("The store is closed: the server is stopping. Try again in a moment.")
            self._waiting.append(_Job(work, future, alone))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Do what was queued, then end; may be called again."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _loop(self) -> None:
        while self._wait():
            if self._waiting[0].alone:
                self._run_alone(self._waiting.popleft())
            else:
                self._commit_group()
        self._connection.close()

    def _wait(self) -> bool:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            return bool(self._waiting)

    def _commit_group(self) -> None:
        """Run and commit what waits now; a group is short so that nobody waits long for the others in it."""
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        end, began, asked = time.monotonic() + _GROUP_S, False, len(self._waiting)
        try:
            with self._connection.begin():
                began = True
                for _ in range(min(len(self._waiting), _GROUP_WORKS)):
                    if self._waiting[0].alone:
                        break
                    self._run(self._waiting.popleft(), done, failed)
                    if time.monotonic() > end:
                        break
        except BaseException as problem:  # noqa: BLE001 - the edge: it comes out of the futures
            if not began:  # whoever waited through this gets the reason: else the last in line would wait for ever
                self._fail_next(problem, asked)
            failed.extend((future, problem) for future, _ in done)
            done = []
        for future, reason in failed:
            future.set_exception(reason)
        for future, result in done:
            future.set_result(result)

    def _run_alone(self, job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            job.future.set_result(job.work(self._connection))
        except BaseException as problem:  # noqa: BLE001 - the edge: it comes out of the future
            job.future.set_exception(problem)

    def _run(
        self, job: _Job, done: list[tuple[Future[Any], Any]], failed: list[tuple[Future[Any], BaseException]]
    ) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            self._connection.exec_driver_sql("SAVEPOINT work")
            result = job.work(self._connection)
            self._connection.exec_driver_sql("RELEASE SAVEPOINT work")
        except BaseException as problem:  # noqa: BLE001 - the edge: it comes out of the future
            failed.append((job.future, problem))
            self._undo(problem)
        else:
            done.append((job.future, result))

    def _undo(self, problem: BaseException) -> None:
        try:
            self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
            self._connection.exec_driver_sql("RELEASE SAVEPOINT work")
        except StoreError:
            # A full disk may end the whole transaction: those that ran before in it are undone too and must know.
            raise problem from None

    def _fail_next(self, problem: BaseException, count: int) -> None:
        for _ in range(count):
            job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(problem)
