"""Deployments: workers that are replaced one after another while jobs come in."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.noting import whole_lines
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

RESTARTS = 100
LEASE = 120.0
"""Seconds, many more than a busy machine takes for anything else here."""


async def test_rolling_restarts_under_load(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    """Guarantee: a worker that is replaced loses no job, charges none with an attempt, and what it had not started
    runs elsewhere at once."""
    server = nats_server()
    stamps = tmp_path / "stamps"
    with ExitStack() as stack:

        def start() -> WorkerProcess:
            env = {"JETQ_TEST_STAMPS": str(stamps)}
            return stack.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=LEASE, env=env))

        async with harness(server.url, tmp_path, ack_wait=LEASE) as h:
            workers = [start() for _ in range(3)]
            for worker in workers:
                await _serves(worker)
            ending = asyncio.Event()
            producer = asyncio.create_task(_produce(h, ending))
            for turn in range(RESTARTS):
                leaving = workers.pop(0)
                leaving.stop()
                assert await asyncio.to_thread(leaving.wait) == 0, f"restart {turn}"
                workers.append(start())
                await _serves(workers[-1])
            ending.set()
            stored = await producer
            await h.until_done()
            for worker in workers:
                worker.stop()
                assert await asyncio.to_thread(worker.wait) == 0

            starts, finishes = h.ledger.entries("start"), h.ledger.entries("finish")
            assert sorted(entry.id for entry in finishes) == sorted(stored)
            assert sorted(entry.id for entry in starts) == sorted(stored)
            assert {entry.attempt for entry in starts} == {1}
            assert await h.dead() == []

    started = {entry.id: entry.at for entry in starts}
    given_back = {id: times[-1] for id, times in _stored_at(stamps).items() if len(times) > 1}
    assert given_back, "no job was given back, so nothing was shown of them"
    assert max(started[id] - at for id, at in given_back.items()) < LEASE / 3
    enqueued = {id: times[0] for id, times in _stored_at(stamps).items()}
    assert max(started[id] - at for id, at in enqueued.items()) < LEASE / 3  # also of those in line for the limit


async def _produce(h: Harness, ending: asyncio.Event) -> list[str]:
    """Bursts of jobs, short, longer and waiting in their worker for each other, about half of what three workers can
    do, until `ending`; their ids."""
    stored: list[str] = []
    while not ending.is_set():
        calls = [h.app.call("tests.apps.ledger_tasks.quick", {"n": n}, queue=QUEUE) for n in range(20)]
        calls += [
            h.app.call("tests.apps.ledger_tasks.sleeper", {"n": n, "seconds": 0.05 + n % 4 * 0.1}, queue=QUEUE)
            for n in range(8)
        ]
        calls += [h.app.call("tests.apps.ledger_tasks.single", {"n": n}, queue=QUEUE) for n in range(3)]
        stored += [job.id for job in await h.app.adelay_many(calls)]
        await asyncio.sleep(0.1)
    return stored


async def _serves(worker: WorkerProcess) -> None:
    async with asyncio.timeout(30.0):
        while " serves " not in worker.log.read_text():
            await asyncio.sleep(0.02)


def _stored_at(stamps: Path) -> dict[str, list[float]]:
    """The server's times at which the deliveries of each job were stored: more than one if it was given back."""
    found: dict[str, set[float]] = defaultdict(set)
    for line in whole_lines(stamps):
        id, at = line.split()
        found[id].add(float(at))
    return {id: sorted(times) for id, times in found.items()}
