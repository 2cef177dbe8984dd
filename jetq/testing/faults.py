"""Faults for tests of an application and its tasks: a server that refuses or is slow, a worker that dies.

    def test_who_dies_after_the_charge_charges_no_second_time(jetq_app):
        charge.delay(order=42)
        with faults.crash(jetq_app):
            jetq_app.run_until_empty()
        assert bank.charges == [42]

`refuse`, `slow_down` and `crash` take an `AppTester` or a `ServerTester`. `kill_at` ends a real worker process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from jetq.broker import Broker
from jetq.client.app import Jetq
from jetq.client.task import Task
from jetq.errors import BrokerError, DefinitionError, NotStored, Rejected
from jetq.model.job import Delivery
from jetq.model.job_context import JobContext
from jetq.model.result import ResultRecord
from jetq.testing.faulty import Fault, Points, Verb, faulty, raising, slow
from jetq.testing.tester import AppTester, ServerTester
from jetq.units import seconds

__all__ = ["crash", "kill_at", "refuse", "slow_down"]

_ENQUEUE = ("enqueue", "enqueue_many")

_SETTLE = (
    "finish", "reschedule", "give_back", "store_dead", "is_superseded", "recorded_starts", "record_start",
    "erase_starts", "put_result", "send_result", "tick_mark", "store_tick", "write_cell", "drop_cell", "release",
    "write_entry", "send_entry", "write_entries", "count_up", "drop_entry", "purge_entries", "enqueue_many",
)  # fmt: skip
"""The verbs by which a worker stores or acknowledges what became of a job, or finds out whether it may run the job."""

_SAYS = "the server was made to refuse by jetq.testing.faults"


def refuse(
    tester: AppTester | ServerTester, error: type[Rejected] | type[NotStored] = Rejected, *, times: int | None = None
) -> AbstractContextManager[None]:
    """Return a context in which each enqueue of the tested app raises `error`, or only the first `times` enqueues if
    that is given.

    With Rejected the server refuses, and nothing is stored. With NotSent there is no connection, and nothing is stored.
    With NotStored the server's answer is lost, and the job is stored all the same. An enqueue in a job that runs
    meanwhile raises `error` too. Raises DefinitionError for any other error, because no enqueue raises it.
    """
    kinds = (Rejected, NotStored)
    if not (isinstance(error, type) and issubclass(error, kinds)):
        raise DefinitionError(f"faults.refuse takes Rejected, NotSent or NotStored, not {error!r}")
    lost = issubclass(error, NotStored)
    most = float("inf") if times is None else times
    return _during(tester, _enqueues(raising(lambda: error(_SAYS), _ENQUEUE, times=most, after=lost)))


def slow_down(tester: AppTester | ServerTester, by: float | timedelta) -> AbstractContextManager[None]:
    """Return a context in which each enqueue of the tested app takes `by` longer (seconds or a timedelta), in real
    time."""
    return _during(tester, _enqueues(slow(seconds(by, "by"), _ENQUEUE)))


@contextmanager
def crash(
    tester: AppTester | ServerTester, task: Task[..., Any] | str | None = None, *, times: int = 1
) -> Iterator[None]:
    """Let the worker seem to die with the first `times` jobs that it runs, or with the first `times` jobs of `task`.

    To the job it looks as follows: its function has ended, by returning or raising, and nothing about that is stored or
    acknowledged. So the job is handed out again, with the same id, arguments and attempt. Jobs that the function has
    enqueued are stored, and other jobs go on. Each run of a job counts as one of `times`. As without this context, a
    job with which a worker dies too often becomes a dead letter. When the context closes, raises AssertionError if no
    such job has run, because then nothing was tested.
    """
    dying = _Crash(task.name if isinstance(task, Task) else task, times)
    middleware = tester.app.middleware
    tester.app.middleware = (dying.watch, *middleware)
    try:
        with _during(tester, dying):
            yield
    finally:
        tester.app.middleware = middleware
    dying.check()


def kill_at(app: Jetq, number: int, *, points: str | os.PathLike[str] | None = None) -> None:
    """End this process by SIGKILL when its worker reaches point `number` on its way to settle jobs. This is for a
    worker process that a test starts, on a real server. Call this function before the worker runs.

    There is a point before and after each call by which a worker settles a job. Each connection counts its own points,
    from 1; with `number` 0 the process goes on. points: a file to which each point is written, as number and name, so
    that a first run tells which points there are.
    """
    connect = app.session.connect

    def reached(count: int, where: str) -> None:
        if points is not None:
            with Path(points).open("a", encoding="utf-8") as file:
                file.write(f"{count} {where}\n")
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    async def connect_counted(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [Points(_SETTLE, reached)])

    app.session.connect = connect_counted


@contextmanager
def _during(tester: AppTester | ServerTester, fault: Fault) -> Iterator[None]:
    tester.faults.append(fault)
    try:
        yield
    finally:
        tester.faults.remove(fault)


def _enqueues(fault: Fault) -> Fault:
    """Return `fault` for every way to enqueue. Enqueues that do not wait fall back to those that wait."""

    def all_ways(broker: Broker, name: str, verb: Verb) -> Verb:
        return _cannot if name == "send_job" else fault(broker, name, verb)

    return all_ways


def _cannot(*_: object, **__: object) -> bool:
    return False


class _Crash:
    """A fault: some attempts cannot store how they ended, and their jobs are handed out again."""

    def __init__(self, task: str | None, times: int) -> None:
        self._task = task
        self._left = times
        self._dying: set[tuple[str, str]] = set()
        self._dead: set[str] = set()
        self._handing_back: set[asyncio.Task[None]] = set()

    async def watch(self, job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Choose the attempts with which the worker dies. This is a middleware, and must be the outermost."""
        try:
            return await call_next()
        finally:
            if self._left > 0 and self._task in (None, job.task):
                self._left -= 1
                self._dying.add((job.queue, job.id))

    def check(self) -> None:
        """Raise AssertionError if the worker died with no job."""
        if not self._dead:
            what = "job" if self._task is None else f"job of {self._task}"
            raise AssertionError(f"no {what} has run in faults.crash, so no worker died with one")

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        match name:
            case "reschedule" | "store_dead" | "put_result":
                return self._losing(verb)
            case "send_result":
                return partial(self._send_result, verb)
            case "finish":
                return partial(self._finish, broker, verb)
            case "erase_starts":
                return partial(self._erase_starts, verb)
            case _:
                return verb

    def _dies(self, about: Delivery | ResultRecord) -> bool:
        return (about.queue, about.id) in self._dying

    def _losing(self, verb: Verb) -> Verb:
        @functools.wraps(verb)
        async def lost(about: Delivery | ResultRecord, *args: Any, **kwargs: Any) -> Any:
            return True if self._dies(about) else await verb(about, *args, **kwargs)

        return lost

    def _send_result(
        self, verb: Verb, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]
    ) -> bool:
        if not self._dies(result):
            return bool(verb(result, ttl, on_done))
        asyncio.get_running_loop().call_soon(on_done, None)
        return True

    def _finish(self, broker: Broker, verb: Verb, delivery: Delivery) -> None:
        """Remove the job, which is a worker's last call for it. If the worker died instead, end the job's lease here at
        once."""
        if not self._dies(delivery):
            verb(delivery)
            return
        self._dying.discard((delivery.queue, delivery.id))
        self._dead.add(delivery.token)
        handing_back = asyncio.get_running_loop().create_task(broker.put_off(delivery, 0.0))
        self._handing_back.add(handing_back)
        handing_back.add_done_callback(self._handing_back.discard)

    async def _erase_starts(self, verb: Verb, delivery: Delivery) -> None:
        """Erase the starts on record of `delivery`, unless the worker "died" with it: a dead worker erases nothing."""
        if delivery.token not in self._dead:
            await verb(delivery)
