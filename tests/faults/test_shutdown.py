"""Workers that are told to end, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.harness import harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


async def test_a_stop_under_load_loses_nothing_and_charges_nothing(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("sleeper", 600, seconds=0.02)
        for _ in range(4):
            seen = len(h.ledger.entries("finish"))
            with WorkerProcess(server.url, h.ledger, concurrency=8) as worker:
                await h.ledger.wait(lambda ledger, seen=seen: len(ledger.entries("finish")) >= seen + 40)  # type: ignore[misc]
                worker.stop()
                assert worker.wait() == 0
            assert (await h.info()).running == 0  # at once, not when a lease lapses
        with WorkerProcess(server.url, h.ledger, concurrency=50) as worker:
            await h.until_done()
        assert h.ledger.count("start") == h.ledger.count("finish") == {n: 1 for n in range(600)}
        assert {entry.attempt for entry in h.ledger.entries()} == {1}
        assert await h.dead() == []


@pytest.mark.parametrize("task", ["sleeper", "thread_sleeper"])
async def test_what_outlives_the_grace_is_given_back_uncharged(
    task: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send(task, 3, seconds=2.0 if task == "thread_sleeper" else 60.0)
        with WorkerProcess(server.url, h.ledger, grace=0.2) as worker:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 3)
            worker.stop()
            assert worker.wait() == 0
        info = await h.info()
        assert (info.ready, info.running) == (3, 0)
        with WorkerProcess(server.url, h.ledger) as worker:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 6)
            assert {entry.attempt for entry in h.ledger.entries()} == {1}


async def test_a_second_signal_cuts_the_grace(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("sleeper", 2, seconds=600.0)
        with WorkerProcess(server.url, h.ledger, grace=600.0) as worker:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 2)
            worker.stop()
            await h.until(lambda info: info.waiting == 0)
            worker.stop()
            assert worker.wait() == 0
        info = await h.info()
        assert (info.ready, info.running) == (2, 0)


async def test_redelivered_jobs_that_wait_their_turn_are_given_back_at_once(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        await h.send("sleeper", 3, seconds=600.0)
        with WorkerProcess(server.url, h.ledger, ack_wait=1.5) as first:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 3)
            first.kill()
        with WorkerProcess(server.url, h.ledger, ack_wait=1.5, grace=600.0) as worker:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 4)  # one suspect at a time
            await h.until(lambda info: info.running == 3)
            worker.stop()
            await h.until(lambda info: (info.ready, info.running) == (2, 1))
            worker.stop()
            assert worker.wait() == 0
        assert (await h.info()).ready == 3
