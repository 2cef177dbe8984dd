"""Workers of an older code and of a newer one on one queue, as during a deploy."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from jetq.model.queue_info import QueueInfo
from tests.apps.harness import Harness, harness
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

OLD = "tests.apps.old_tasks"
NEW = "tests.apps.ledger_tasks"


class Fleet:
    """Worker processes on one server."""

    def __init__(self, h: Harness, stack: ExitStack) -> None:
        self._h = h
        self._stack = stack

    async def start(self, *, old: int = 0, new: int = 0, concurrency: int = 10, ack_wait: float = 30.0) -> list[int]:
        """So many of each; the ids of the processes, once all ask for jobs."""
        waiting = (await self._h.info()).waiting
        workers = [
            self._stack.enter_context(
                WorkerProcess(self._h.url, self._h.ledger, modules=modules, concurrency=concurrency, ack_wait=ack_wait)
            )
            for modules in [OLD] * old + [NEW] * new
        ]
        await self._h.until(lambda info: info.waiting >= waiting + old + new, timeout=60)
        self.newest = workers[-1]
        return [worker.pid for worker in workers]


async def _done(h: Harness, count: int, timeout: float) -> None:
    """Until so many jobs have finished, once each, by attempt 1 and by nobody old."""
    await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= count, timeout)
    await h.until_done()
    assert h.ledger.count("finish") == {n: 1 for n in range(count)}
    assert {entry.attempt for entry in h.ledger.entries()} == {1}
    assert await h.dead() == []


@pytest.mark.parametrize("what", ["a new task", "a new argument"])
async def test_thirty_jobs_among_four_old_workers_and_a_new_one(
    what: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: they go to the worker that can run them within 15 s, each once and at its first attempt."""
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        with ExitStack() as stack:
            await Fleet(h, stack).start(old=4, new=1)
            if what == "a new task":
                await h.send("thread_sleeper", 30, seconds=0.0)
            else:
                await h.send("sleeper", 30, seconds=0.0)
            await _done(h, 30, 15.0)


async def test_thousands_of_jobs_that_nobody_knows_hold_up_no_other_and_run_once_when_somebody_does(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: who cannot run them puts them off and works on; a new worker takes them all."""
    count = 2_000
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        with ExitStack() as stack:
            fleet = Fleet(h, stack)
            await fleet.start(old=4)
            await h.send("thread_sleeper", count, seconds=0.0)
            await h.until(lambda info: info.scheduled >= count // 2, timeout=60)
            mine = await h.app.asend("tests.apps.ledger_tasks.quick", {"n": count}, queue="ledger")
            await h.ledger.wait(lambda ledger: any(each.id == mine.id for each in ledger.entries("finish")), 30)
            await fleet.start(new=1)
            await _done(h, count + 1, 120.0)


async def test_what_was_put_off_outlives_the_server_and_the_worker_that_takes_it(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: a restart of the server or a killed worker loses none of them."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=2.0) as h:
        with ExitStack() as stack:
            fleet = Fleet(h, stack)
            await fleet.start(old=3, ack_wait=2.0)
            await h.send("thread_sleeper", 60, seconds=0.5)
            await h.until(lambda info: info.scheduled >= 40)
            server.kill()
            server.start()
            await fleet.start(new=1, ack_wait=2.0)
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 5)
            fleet.newest.kill()
            began = time.monotonic()
            await fleet.start(new=2, ack_wait=2.0)
            await h.ledger.wait(lambda ledger: set(ledger.count("finish")) == set(range(60)), 60)
            await h.until_done(60)
            assert time.monotonic() - began < 60
        assert await h.dead() == []
        twice = Counter(each.n for each in h.ledger.entries("finish")).most_common(1)[0][1]
        assert twice <= 2  # a killed server may forget an ack


@pytest.mark.parametrize("dies", ["old", "new"])
async def test_a_kill_at_any_step_of_it_loses_nothing(
    dies: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: neither who puts a job off nor who fetches it can lose one by its death."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        for number in range(1, 9):  # before and after each call of the broker
            h.ledger = Ledger(tmp_path / f"ledger-{number}")
            where = f"killed at call {number}"
            with ExitStack() as stack:
                start = functools.partial(_start, stack, h)
                first = start(OLD, number if dies == "old" else 0)
                await h.send("thread_sleeper", 2, seconds=0.0)
                if dies == "old":
                    await asyncio.to_thread(first.process.wait, 60)
                else:
                    await h.until(lambda info: info.scheduled == 2)
                    await h.until(functools.partial(_is_over_or_killed, start(NEW, number)))
                start(NEW, 0)
                await h.until(_is_over, 60)
            finishes = h.ledger.count("finish")
            assert set(finishes) == {0, 1}, where
            assert sum(finishes.values()) <= 3, where
            assert await h.dead() == [], where


def _start(stack: ExitStack, h: Harness, modules: str, kill_at: int) -> WorkerProcess:
    env = {"JETQ_TEST_KILL_AT": str(kill_at)}
    return stack.enter_context(WorkerProcess(h.url, h.ledger, modules=modules, ack_wait=1.0, concurrency=1, env=env))


def _is_over(info: QueueInfo) -> bool:
    return info.ready == info.running == info.scheduled == 0


def _is_over_or_killed(worker: WorkerProcess, info: QueueInfo) -> bool:
    return _is_over(info) or worker.process.poll() is not None
