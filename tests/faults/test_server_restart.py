"""The server goes away under load and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.harness import harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_work_goes_on_after_a_restart_and_nothing_is_lost(
    how: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("sleeper", 1500, seconds=0.01)
        with WorkerProcess(server.url, h.ledger, concurrency=5) as worker:
            await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= 100)
            getattr(server, how)()
            before = len(h.ledger.entries("finish"))
            assert before < 1500
            server.start()
            await h.ledger.wait(lambda ledger: set(ledger.count("finish")) == set(range(1500)), timeout=50)
            await h.until_done()
            worker.stop()
            assert worker.wait() == 0
        doubled = [n for n, times in h.ledger.count("finish").items() if times > 1]
        # A killed single server forgets up to 100 ms of deliveries; a stopped one forgets none. What the worker held
        # when the server went is settled by the very same worker, so no more than its slots can run again.
        assert len(doubled) <= 10, doubled
        assert await h.dead() == []


async def test_a_producer_rides_out_a_restart_under_one_id(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("quick", 10)
        server.kill()
        server.start()
        await h.send("quick", 10)
        info = await h.info()
        assert info.ready == 20
