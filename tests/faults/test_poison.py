"""Jobs that kill their worker, and the jobs beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.apps.harness import Harness, harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


async def _keep_a_worker_alive(h: Harness, until: asyncio.Event) -> int:
    """Start a worker again each time it dies, as an init system would; how many died."""
    deaths = 0
    while not until.is_set():
        with WorkerProcess(h.url, h.ledger, concurrency=30, ack_wait=1.5) as worker:
            while worker.process.poll() is None and not until.is_set():
                await asyncio.sleep(0.02)
            deaths += worker.process.poll() is not None
    return deaths


async def test_a_killer_is_dead_after_max_crashes_and_its_neighbours_are_not_charged(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        (killer,) = await h.send("killer")
        await h.send("sleeper", 20, seconds=1.0)
        done = asyncio.Event()
        workers = asyncio.create_task(_keep_a_worker_alive(h, done))
        try:
            await h.until_done(timeout=60)
        finally:
            done.set()
        assert await workers == 3

        (entry,) = await h.dead()
        assert (entry.letter.id, entry.letter.reason) == (killer, "crashed")
        starts = [entry for entry in h.ledger.entries("start") if entry.id == killer]
        assert len(starts) == 3
        finished = [entry for entry in h.ledger.entries("finish")]
        assert {entry.n for entry in finished} == set(range(20))
        assert {entry.attempt for entry in finished} == {1}
