"""Limits over several worker processes."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.apps.harness import harness
from tests.apps.ledger import Entry, Ledger
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

WORKERS = 4


def most_at_once(entries: list[Entry]) -> int:
    """How many ran at once at most. The order of the ledger's lines is that of their writes."""
    running = most = 0
    for entry in entries:
        running += {"start": 1, "finish": -1}[entry.event]
        most = max(most, running)
    return most


async def test_never_more_than_the_limit_at_once_over_four_workers(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    jobs = 5_000
    async with harness(server.url, tmp_path) as h:
        with ExitStack() as workers:
            fleet = [workers.enter_context(WorkerProcess(server.url, h.ledger, concurrency=50)) for _ in range(WORKERS)]
            await h.until(lambda info: info.waiting >= WORKERS)
            await h.send("limited", jobs)
            await h.until_done(timeout=120)
            for worker in fleet:
                worker.stop()
            assert [worker.wait() for worker in fleet] == [0] * WORKERS
        entries = h.ledger.entries()
        assert h.ledger.count("finish") == {n: 1 for n in range(jobs)}
        assert most_at_once(entries) == 5
        assert len({entry.pid for entry in entries}) == WORKERS


async def test_a_rate_over_four_workers(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    jobs = 300
    async with harness(server.url, tmp_path) as h:
        with ExitStack() as workers:
            for _ in range(WORKERS):
                workers.enter_context(WorkerProcess(server.url, h.ledger, concurrency=50))
            await h.until(lambda info: info.waiting >= WORKERS)
            await h.send("paced", jobs)
            await h.until_done(timeout=60)
        starts = sorted(entry.at for entry in h.ledger.entries("start"))
        assert h.ledger.count("start") == {n: 1 for n in range(jobs)}
        # By one machine's clock. What a worker was late with counts to a later second: a quarter of one, at most.
        for first, last in zip(starts, starts[75:], strict=False):
            assert last - first > 1.0, "more than 75 in a second, where 50 are allowed"


async def test_a_killed_worker_keeps_its_slots_for_a_lease_and_then_they_are_free(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server, jobs = nats_server(), 120  # some are left when the second worker is up, also on a busy machine
    async with harness(server.url, tmp_path, ack_wait=2.0) as h:
        await h.send("limited", jobs, seconds=0.5)
        with ExitStack() as workers:
            first = workers.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=2.0))
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 5)
            workers.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=2.0))
            await h.ledger.wait(lambda ledger: len({entry.pid for entry in ledger.entries("start")}) == 2)
            first.kill()
            await h.until_done(timeout=120)
        entries = h.ledger.entries()
        # What ran in the killed worker is started again, and never finished there.
        dead = {entry.id for entry in entries if entry.pid == first.pid and entry.event == "start"}
        dead -= {entry.id for entry in entries if entry.pid == first.pid and entry.event == "finish"}
        assert set(h.ledger.count("finish")) == set(range(jobs))
        assert 0 < len(dead) <= 5
        killed_at = max(entry.at for entry in entries if entry.pid == first.pid)
        lost = [
            replace(entry, event="finish", at=killed_at)
            for entry in entries
            if entry.id in dead and entry.pid == first.pid
        ]
        assert most_at_once(sorted([*entries, *lost], key=lambda entry: entry.at)) <= 5
        assert await h.dead() == []


async def test_limits_hold_through_a_restart_of_the_server(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("limited", 200, seconds=0.1)
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(WorkerProcess(server.url, h.ledger))
            await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= 50)
            server.kill()
            server.start()
            await h.until_done(timeout=60)
        assert set(h.ledger.count("finish")) == set(range(200))
        assert most_at_once(h.ledger.entries()) <= 5


async def test_a_hot_key_does_not_keep_others_waiting(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    hot, others = 400, 20
    async with harness(server.url, tmp_path) as h:
        name = "tests.apps.ledger_tasks.limited_each"
        calls = [h.app.call(name, {"n": n, "customer": 0}, queue="ledger") for n in range(hot)]
        calls += [h.app.call(name, {"n": hot + n, "customer": n + 1}, queue="ledger") for n in range(others)]
        await h.app.adelay_many(calls)
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(WorkerProcess(server.url, h.ledger, concurrency=10))
            await h.until_done(timeout=60)
        entries = h.ledger.entries()
        assert h.ledger.count("finish") == {n: 1 for n in range(hot + others)}
        assert most_at_once([entry for entry in entries if entry.n < hot]) <= 2
        finished = [entry.n for entry in entries if entry.event == "finish"]
        last_other = max(place for place, n in enumerate(finished) if n >= hot)
        assert last_other < hot // 2, f"{last_other} jobs had ended before the last of the other keys"


@pytest.mark.parametrize("where", ["after reschedule", "before write_cell", "before release", "after release"])
async def test_a_worker_killed_while_it_lines_up_or_calls_up_loses_no_job(
    where: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    jobs, calls = 40, tmp_path / "calls"
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        await h.send("single", jobs)
        with WorkerProcess(server.url, h.ledger, ack_wait=1.0, env={"JETQ_TEST_CALLS": str(calls)}):
            await h.until_done()
        points = [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]
        # Not the first: by then others stand in line, and run.
        number = [place for place, point in enumerate(points, start=1) if point == where][5]

        h.ledger = Ledger(tmp_path / "ledger-of-the-killed")
        await h.send("single", jobs)
        with WorkerProcess(server.url, h.ledger, ack_wait=1.0, env={"JETQ_TEST_KILL_AT": str(number)}) as worker:
            await asyncio.to_thread(worker.wait)
        with WorkerProcess(server.url, h.ledger, ack_wait=1.0):
            await h.until_done(timeout=60)
        finished = h.ledger.count("finish")
        assert set(finished) == set(range(jobs))
        assert sum(finished.values()) <= jobs + 1
        assert most_at_once([entry for entry in h.ledger.entries() if entry.pid != worker.pid]) == 1


async def test_kills_under_load_make_no_sixth_and_lose_nothing(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    jobs = 500
    async with harness(server.url, tmp_path, ack_wait=2.0) as h:
        await h.send("limited", jobs)
        killed: dict[int, float] = {}
        with ExitStack() as workers:

            def start() -> WorkerProcess:
                return workers.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=2.0, concurrency=20))

            fleet = [start() for _ in range(3)]
            for _ in range(5):
                await asyncio.sleep(1.5)
                victim = fleet.pop(0)
                victim.kill()
                killed[victim.pid] = time.time()
                fleet.append(start())
            await h.until_done(timeout=100)
        entries = h.ledger.entries()
        assert set(h.ledger.count("finish")) == set(range(jobs))
        ended = {(entry.id, entry.pid) for entry in entries if entry.event == "finish"}
        lost = [
            replace(entry, event="finish", at=killed[entry.pid])
            for entry in entries
            if entry.event == "start" and (entry.id, entry.pid) not in ended
        ]
        assert lost  # kills while they ran
        assert most_at_once(sorted([*entries, *lost], key=lambda entry: entry.at)) <= 5
        assert await h.dead() == []
