"""The worker that turns a tick is killed before and after each call it makes: one job for each tick all the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.apps.harness import QUEUE, harness
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(200)]

POINTS = 10
"""More calls than the worker makes for its first two ticks and their jobs."""


async def test_a_kill_at_any_step_of_a_tick_loses_none_and_doubles_none(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        call = h.app.call("tests.apps.ledger_tasks.quick", {"n": 0}, queue=QUEUE)
        for number in range(1, POINTS + 1):
            h.ledger = Ledger(tmp_path / f"ledger-{number}")
            name = f"beat-{number}"
            await h.app.aschedule(name, call, cron="* * * * * *")
            env = {"JETQ_TEST_KILL_AT": str(number)}
            with WorkerProcess(server.url, h.ledger, ack_wait=1.0, concurrency=1, env=env) as killed:
                killed.wait(30)
            with WorkerProcess(server.url, h.ledger, ack_wait=1.0):
                await h.ledger.wait(lambda ledger: len({each.id for each in ledger.entries("finish")}) >= 4)
                await h.app.aunschedule(name)
                await h.until_done()
            starts = Counter(each.id for each in h.ledger.entries("start"))
            times = sorted({each.nominal for each in h.ledger.entries("start")})
            assert times == list(range(times[0], times[0] + len(starts))), (number, starts)
            assert sum(starts.values()) <= len(starts) + 1, (number, starts)
