"""Another due time: what is scheduled runs once, at its new time, as it was."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jetq import DefinitionError, Job, JobContext, JobNotFound, current_job
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, settled, until_state, working

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_a_scheduled_job_is_put_off_brought_forward_and_run_once_as_it_was(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[tuple[str, str, float, JobContext]] = []

    @app.task(name="notes", key="{what}", max_attempts=4)
    async def notes(what: str) -> str:
        ran.append((what, current_job().id, time.time(), current_job()))
        return what

    before = time.time()
    earlier = await notes.options(delay=3600, max_attempts=7).adelay("earlier")
    later = await notes.options(delay=2.6).adelay("later")
    now = await notes.options(delay=3.2).adelay("now")
    stored_by = time.time()
    at = datetime.now(UTC) + timedelta(seconds=2.5)
    assert await earlier.areschedule(at=at) == "scheduled"
    assert await later.areschedule(delay=7200) == "scheduled"
    due = (await earlier.ainfo()).due
    assert due is not None and abs(due - at.timestamp()) < 0.001
    assert await now.arun_now() == "queued"
    assert (await now.ainfo()).due is None
    assert (await notes.adelay("earlier")).id == earlier.id  # its key stands all the while

    async def later_is_scheduled() -> bool:
        return await later.astatus() == "scheduled"

    async with working(app):
        assert await now.aresult() == "now"
        assert await earlier.aresult() == "earlier"
        await stays_so_for(before + 4.2 - time.time(), later_is_scheduled)  # past every first due time
        assert [what for what, *_ in ran] == ["now", "earlier"]
        assert await later.arun_now() == "queued"
        assert await later.aresult() == "later"
        await settled(app)
    assert [(what, id) for what, id, *_ in ran] == [("now", now.id), ("earlier", earlier.id), ("later", later.id)]
    assert ran[1][2] >= at.timestamp()
    for *_, job in ran:
        assert job.attempt == 1
        assert before - 0.01 <= job.enqueued_at.timestamp() <= stored_by
    assert [job.max_attempts for *_, job in ran] == [4, 7, 4]


@pytest.mark.slow
async def test_a_retry_that_waits_its_turn_is_moved_with_its_history(nats_url: str) -> None:
    app = fresh_app(nats_url)
    runs: list[tuple[str, int, str]] = []

    @app.task(name="fails", key="{what}", wait=3600, max_attempts=3)
    async def fails(what: str) -> str:
        runs.append((what, current_job().attempt, current_job().id))
        if current_job().attempt == 1:
            raise ConnectionError("down")
        return what

    async with working(app):
        now, moved = await fails.adelay("now"), await fails.adelay("moved")
        for job in (now, moved):
            await until_state(job, "scheduled")
            info = await job.ainfo()
            assert (info.attempt, [error.message for error in info.errors]) == (2, ["down"])
        assert await moved.areschedule(delay=2.3) == "scheduled"
        assert [error.message for error in (await moved.ainfo()).errors] == ["down"]
        assert await now.arun_now() == "queued"
        assert await now.aresult() == "now"
        assert await moved.aresult() == "moved"
        await settled(app)
    assert runs == [("now", 1, now.id), ("moved", 1, moved.id), ("now", 2, now.id), ("moved", 2, moved.id)]


@pytest.mark.slow
async def test_of_a_queued_running_or_finished_job_nothing_changes_and_the_state_says_so(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, go_on = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @app.task(name="works")
    async def works() -> int:
        ran.append(1)
        started.set()
        await go_on.wait()
        return 1

    @app.task(name="dies", max_attempts=1)
    async def dies() -> None:
        raise ValueError

    async def states(job: Job[Any]) -> list[str]:
        return [await job.areschedule(delay=60), await job.arun_now()]

    broker = await app.session.broker()
    job = await works.adelay()
    found = await broker.find("default", job.id)
    assert await states(job) == ["queued", "queued"]
    assert await broker.find("default", job.id) == found
    soon = await works.options(delay=1.0).adelay()
    assert await states(soon) == ["queued", "queued"]  # too late to be moved
    assert (await soon.ainfo()).state == "scheduled"
    assert await soon.acancel() == "removed"
    assert await states(soon) == ["cancelled", "cancelled"]
    async with working(app, grace=1):
        await started.wait()
        assert await states(job) == ["running", "running"]
        go_on.set()
        assert await job.aresult() == 1
        await settled(app)
        assert await states(job) == ["succeeded", "succeeded"]
        dead = await dies.adelay()
        await until_state(dead, "dead")
        await settled(app)
        assert await states(dead) == ["dead", "dead"]
        with pytest.raises(JobNotFound):
            await app.job("nobody").arun_now()
    assert ran == [1]


async def test_a_due_time_in_the_past_is_now_and_an_impossible_one_is_refused(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="works")
    async def works() -> int:
        return 1

    past = await works.options(delay=3600).adelay()
    zero = await works.options(delay=3600).adelay()
    wrong: Any
    for wrong in ({}, {"delay": 1, "at": datetime.now(UTC)}, {"at": datetime(2030, 1, 1)}, {"delay": -1}):
        with pytest.raises(DefinitionError):
            await past.areschedule(**wrong)
    assert await past.astatus() == "scheduled"
    assert await past.areschedule(at=datetime.now(UTC) - timedelta(days=1)) == "queued"
    assert await zero.areschedule(delay=0) == "queued"
    async with working(app):
        assert [await past.aresult(), await zero.aresult()] == [1, 1]


async def test_of_twenty_at_once_who_move_one_job_it_runs_once(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[str] = []

    @app.task(name="works")
    async def works() -> int:
        ran.append(current_job().id)
        return 1

    async with working(app):
        jobs = [await works.options(delay=3600).adelay() for _ in range(5)]
        said = await asyncio.gather(
            *(job.arun_now() if n % 2 else job.areschedule(delay=60 + n) for n in range(20) for job in jobs)
        )
        assert set(said) <= {"scheduled", "queued", "running", "succeeded"}
        for job in jobs:
            await job.arun_now()
        for job in jobs:
            assert await job.aresult() == 1
        await settled(app)
    assert sorted(ran) == sorted(job.id for job in jobs)
