"""The worker that starts the workflows of a schedule is killed before and after each call it makes: each time has one
workflow all the same, and each ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from jetq.client.app import replaced_default
from jetq.encoding.sealer import Sealer
from jetq.operations.workflows.views.viewing import WorkflowLine, list_workflows
from tests.apps.flow_tasks import WORKS
from tests.apps.harness import Harness, harness
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

POINTS = 24
"""More calls than the worker makes for the first times of the schedule and the workflow of one."""

WORK = WORKS["chord"]


async def ended(h: Harness, name: str) -> list[WorkflowLine]:
    """The workflows of a schedule, once all of them have their values."""
    async with asyncio.timeout(90):
        while True:
            lines = await list_workflows(h.broker, Sealer(None), limit=1_000)
            lines = [line for line in lines if f"::{name}-" in line.id]
            if lines and all(line.state == "succeeded" for line in lines):
                return lines
            await asyncio.sleep(0.1)


async def test_a_kill_at_any_step_of_a_start_loses_none_and_doubles_none(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        for number in range(1, POINTS + 1):
            h.ledger = Ledger(tmp_path / f"ledger-{number}")
            name, modules = f"beat-{number}", "tests.apps.flow_tasks"
            with replaced_default(h.app):
                await h.app.aschedule(name, WORK.work(), cron="* * * * * *")
            env = {"JETQ_TEST_KILL_AT": str(number), "JETQ_TEST_WATCH": "2"}
            options = {"ack_wait": 1.0, "modules": modules}
            with WorkerProcess(server.url, h.ledger, concurrency=1, env=env, **options) as killed:  # type: ignore[arg-type]
                killed.wait(60)
            with WorkerProcess(server.url, h.ledger, env={"JETQ_TEST_WATCH": "2"}, **options):  # type: ignore[arg-type]
                await h.ledger.wait(lambda ledger: len(ledger.entries("total")) >= 3, 90)
                await h.app.aunschedule(name)
                await h.until(lambda info: info.ready == info.running == 0, 90)
                lines = await ended(h, name)
            times = sorted(datetime.strptime(line.id[-15:], "%Y%m%dT%H%M%S") for line in lines)
            assert times == [times[0] + timedelta(seconds=passed) for passed in range(len(times))], (number, times)
            runs = Counter((each.event, each.n) for each in h.ledger.entries())
            assert set(runs) == set(WORK.runs), (number, runs)
            jobs = Counter(each.id for each in h.ledger.entries())
            assert len(jobs) == len(lines) * sum(WORK.runs.values()), (number, jobs)
            assert max(jobs.values()) <= 2, (number, jobs)
            assert not await h.dead(), number
