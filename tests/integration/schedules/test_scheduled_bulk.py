"""A hundred thousand jobs scheduled over one minute, with a worker restarted meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.apps.harness import QUEUE, harness
from tests.apps.noting import whole_lines
from tests.apps.workers import WorkerProcess
from tests.apps.working import seconds_to_store
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(400)]

JOBS = 100_000
MINUTE = 60.0


def _resident(pid: int) -> int:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


async def test_none_is_early_lost_or_doubled_and_memory_does_not_grow_with_them(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        spread = random.Random(1)
        begin = time.time() + 10.0 + 2 * await seconds_to_store(h.app, JOBS)
        due = {n: begin + spread.random() * MINUTE for n in range(JOBS)}
        name = "tests.apps.ledger_tasks.mark"
        calls = (h.app.call(name, {"n": n}, queue=QUEUE, at=datetime.fromtimestamp(at, UTC)) for n, at in due.items())
        ids = {job.id: n for n, job in enumerate(await h.app.adelay_many(calls))}
        assert time.time() < begin, "the machine got three times slower meanwhile"
        stamps = tmp_path / "stamps"
        env = {"JETQ_TEST_STAMPS": str(stamps)}
        with WorkerProcess(server.url, h.ledger, concurrency=200, env=env) as first:
            await h.ledger.wait(lambda ledger: ledger.size() > 0, timeout=60)
            before = _resident(first.pid)
            await asyncio.sleep(MINUTE / 3)
            during = _resident(first.pid)
            first.stop()
            assert first.wait() == 0
        with WorkerProcess(server.url, h.ledger, concurrency=200, env=env):
            await h.until_done(timeout=200)
        ran = [entry.id for entry in h.ledger.entries("mark")]
    assert sorted(ran) == sorted(ids)
    assert during - before < 30, (before, during)
    stored = dict(line.split() for line in whole_lines(stamps))
    early = [id for id, at in stored.items() if float(at) < due[ids[id]] - 1e-6]
    assert len(stored) == JOBS
    assert not early
