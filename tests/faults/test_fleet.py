"""Several worker processes on one queue."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import nats
import pytest

from tests.apps.harness import harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

JOBS = 10_000


async def test_ten_thousand_jobs_run_once_on_three_workers_and_nothing_replays(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        with ExitStack() as workers:
            fleet = [workers.enter_context(WorkerProcess(server.url, h.ledger, concurrency=50)) for _ in range(3)]
            await h.until(lambda info: info.waiting >= 3)
            await h.send("quick", JOBS)
            await h.until_done(timeout=50)
            for worker in fleet:
                worker.stop()
            assert [worker.wait() for worker in fleet] == [0, 0, 0]
        assert h.ledger.count("finish") == {n: 1 for n in range(JOBS)}
        by_worker = Counter(entry.pid for entry in h.ledger.entries("finish"))
        assert len(by_worker) == 3, by_worker  # the load was shared

        server.stop()
        server.start()
        with WorkerProcess(server.url, h.ledger) as worker:
            await h.until(lambda info: info.waiting >= 1)
            await h.send("sleeper", 1, seconds=0.0)  # a job behind whatever might come again
            await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) > JOBS)
            worker.stop()
            assert worker.wait() == 0
        assert len(h.ledger.entries("start")) == JOBS + 1


async def test_a_killed_workers_jobs_run_elsewhere_when_their_lease_lapses(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        await h.send("sleeper", 20, seconds=0.3)
        with WorkerProcess(server.url, h.ledger, ack_wait=1.0, concurrency=10) as first:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 10)
            first.kill()
        with WorkerProcess(server.url, h.ledger, ack_wait=1.0, concurrency=10):
            await h.until_done()
        finished = h.ledger.count("finish")
        assert set(finished) == set(range(20))
        assert {entry.attempt for entry in h.ledger.entries()} == {1}
        assert await h.dead() == []


async def test_the_streams_stand_as_promised(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.broker.setup("email")
        client = await nats.connect(server.url)
        try:
            js = client.jetstream()
            jobs = (await js.stream_info("EMAIL_JOBS")).config
            dead = (await js.stream_info("EMAIL_DLQ")).config
        finally:
            await client.close()
        assert (jobs.retention, dead.retention) == ("workqueue", "limits")
        assert dead.max_age == 30 * 86400
