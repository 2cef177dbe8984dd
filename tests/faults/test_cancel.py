"""A cancel while its worker is killed: the job does not come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.apps.harness import harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

LEASE = 2.0


@pytest.mark.parametrize("after", [0.0, 0.002, 0.05])
async def test_a_cancelled_job_does_not_come_back_when_its_worker_is_killed_at_that_moment(
    nats_server: NatsServerFactory, tmp_path: Path, after: float
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=LEASE) as h:
        with WorkerProcess(server.url, h.ledger, ack_wait=LEASE) as worker:
            (id,) = await h.send("sleeper", seconds=60)
            await h.ledger.wait(lambda ledger: ledger.count("start")[0] == 1)
            job = h.app.job(id, queue="ledger")
            cancelling = asyncio.create_task(job.acancel(timeout=3))
            await asyncio.sleep(after)
            worker.kill()
            assert await cancelling in ("stopped", "removed")
        with WorkerProcess(server.url, h.ledger, ack_wait=LEASE):
            await h.until_done()
            await asyncio.sleep(LEASE * 1.5)
            (_,) = await h.send("quick")
            await h.ledger.wait(lambda ledger: ledger.count("finish")[0] == 1)
        assert [entry.id for entry in h.ledger.entries("start")].count(id) == 1
        assert await job.astatus() == "cancelled"
