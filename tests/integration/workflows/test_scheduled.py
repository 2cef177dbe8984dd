"""Workflows that a schedule starts on a real server."""

from __future__ import annotations

import asyncio

import pytest

from jetq import Jetq, Work
from jetq.encoding.sealer import Sealer
from jetq.operations.doctor.examination import examine
from jetq.operations.schedules import run_schedule
from jetq.operations.workflows.creating import START, WATCH
from jetq.operations.workflows.views.viewing import WorkflowLine, list_workflows
from tests.apps.fresh import no_app_yet
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    no_app_yet(monkeypatch)


def work_of(app: Jetq, ran: list[int]) -> Work[None]:
    @app.task(name="count", queue="nights")
    async def count() -> int:
        return 3

    @app.task(name="note", queue="nights")
    async def note(n: int) -> None:
        ran.append(n)

    return count.bind() | note


async def lines(app: Jetq) -> list[WorkflowLine]:
    return await list_workflows(await app.session.broker(), Sealer(None))


async def until_ended(app: Jetq) -> None:
    """Until no start of a workflow waits, and no workflow runs."""
    broker = await app.session.broker()
    async with asyncio.timeout(60):
        while any(job.delivery.task != WATCH for job in await broker.stored_jobs("nights")):
            await asyncio.sleep(0.05)
        while any(each.state == "running" for each in await lines(app)):
            await asyncio.sleep(0.05)


async def test_each_time_starts_a_workflow(nats_url: str) -> None:
    app, ran = fresh_app(nats_url), list[int]()
    info = await app.aschedule("nightly", work_of(app, ran), cron="* * * * * *")
    assert (info.queue, info.task, info.steps) == ("nights", START, ("count", "note"))
    async with working(app):
        await until(lambda: len(ran) >= 3, 60)
        await app.aunschedule("nightly")
        await until_ended(app)
    ids = [each.id for each in await lines(app)]
    assert len(ids) == len(set(ids)) == len(ran)
    assert all(id.startswith("nights::nightly-20") for id in ids)


async def test_one_is_started_besides_its_times(nats_url: str) -> None:
    app, ran = fresh_app(nats_url), list[int]()
    await app.aschedule("nightly", work_of(app, ran), cron="0 0 1 1 *")
    async with working(app):
        job = await run_schedule(await app.session.broker(), "nightly")
        await until(lambda: ran, 60)
        assert [each.id for each in await lines(app)] == [f"nights::nightly-{job}"]


async def test_a_worker_says_that_it_knows_the_task_that_starts_them(nats_url: str) -> None:
    app = fresh_app(nats_url)
    await app.aschedule("nightly", work_of(app, []), cron="0 0 1 1 *")
    async with working(app):
        report = await examine(await app.session.broker(), {"nights": ("count", "note")}, replicas=1)
    assert not [each for each in report.findings if each.code == "unknown-task"]
