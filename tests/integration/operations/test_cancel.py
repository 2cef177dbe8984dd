"""Cancel: who is told what, and that a cancelled job does not run again."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from jetq import Interruption, JobCancelled, JobContext, JobNotFound, Retry, current_job
from jetq.operations.cancel import cancel_found
from tests.apps.spinning import spin
from tests.apps.working import fresh_app, seconds_to_store, settled, working

pytestmark = pytest.mark.anyio


async def test_a_scheduled_and_a_queued_job_are_removed_and_a_second_cancel_says_so(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[str] = []

    @app.task(name="notes")
    async def notes(what: str) -> None:
        ran.append(what)

    scheduled = await notes.options(delay=3600).adelay("scheduled")
    queued = await notes.adelay("queued")
    for job in (scheduled, queued):
        assert await job.acancel() == "removed"
        assert await job.acancel() == "cancelled"
        assert await job.astatus() == "cancelled"
        assert (await job.ainfo()).state == "cancelled"
    async with working(app):
        await notes.adelay("other")
        await settled(app)
    assert ran == ["other"]


async def test_a_finished_job_and_an_unknown_one_say_so(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="quick")
    async def quick() -> int:
        return 1

    @app.task(name="silent")
    async def silent() -> None: ...

    async with working(app):
        job = await quick.adelay()
        assert await job.aresult() == 1
        await settled(app)
        assert await job.acancel() == "finished"
        assert await job.aresult() == 1
        gone = await silent.adelay()
        await settled(app)
        assert await gone.acancel() == "finished"
        with pytest.raises(JobNotFound):
            await app.job(gone.id).acancel()


async def test_a_running_async_task_is_cancelled_at_its_next_await(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, ended = asyncio.Event(), []

    @app.task(name="sleeps")
    async def sleeps() -> int:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(current_job().cancelled)
        return 1

    async with working(app):
        job = await sleeps.adelay()
        await started.wait()
        assert await job.acancel() == "stopped"
        assert ended == [True]
        with pytest.raises(JobCancelled):
            await job.aresult()
        info = await job.ainfo()
        assert (info.state, bool(info.worker)) == ("cancelled", True)
        assert await job.acancel() == "cancelled"
        await settled(app)
    assert await (await app.session.broker()).dead("default") == []
    await app.session.aclose()


async def test_a_job_of_the_same_id_in_another_queue_runs_on_and_starts(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, ended = asyncio.Semaphore(0), asyncio.Event()
    ran: list[str] = []

    @app.task(name="runs_on", queue="first")
    async def runs_on() -> None:
        started.release()
        await ended.wait()
        ran.append("ran on")

    @app.task(name="sleeps", queue="second")
    async def sleeps() -> None:
        started.release()
        await asyncio.sleep(60)

    @app.task(name="starts", queue="third")
    async def starts() -> None:
        ran.append("started")

    async with working(app):
        await runs_on.options(id="same").adelay()
        await started.acquire()
        job = await sleeps.options(id="same").adelay()
        await started.acquire()
        assert await job.acancel() == "stopped"
        await starts.options(id="same").adelay()
        while not ran:
            await asyncio.sleep(0.01)
        ended.set()
        await settled(app)
    assert ran == ["started", "ran on"]


async def test_a_running_thread_gets_an_exception_or_looks_by_itself(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started = threading.Semaphore(0)
    ended: list[str] = []

    @app.task(name="spins")
    def spins() -> None:
        started.release()
        try:
            spin(0.01)
        except Interruption:
            ended.append("exception")
            raise

    @app.task(name="looks")
    def looks() -> str:
        job = current_job()
        with threading.Lock(), suppress(Interruption):
            look(job)
            spin(0.01)  # the exception comes as well, and not after this
        return "ended by itself"

    def look(job: JobContext) -> None:
        started.release()  # in here, where the exception is expected
        while not job.cancelled:
            pass

    async with working(app):
        spinning = await spins.adelay()
        await asyncio.to_thread(started.acquire)
        assert await spinning.acancel() == "stopped"
        assert ended == ["exception"]
        looking = await looks.adelay()
        await asyncio.to_thread(started.acquire)
        assert await looking.acancel() == "finished"
        assert await looking.aresult() == "ended by itself"


async def test_a_task_that_ignores_its_cancellation_is_unconfirmed_and_does_not_retry(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, let_go = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @app.task(name="stubborn", max_attempts=5, wait=0)
    async def stubborn() -> None:
        runs.append(current_job().attempt)
        started.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        raise Retry(after=0)

    async with working(app):
        job = await stubborn.adelay()
        await started.wait()
        assert await job.acancel(timeout=0.5) == "unconfirmed"
        let_go.set()
        await settled(app)
        async with asyncio.timeout(10):
            while await job.astatus() != "cancelled":
                await asyncio.sleep(0.05)
    assert runs == [1]


async def test_a_retry_that_waits_its_turn_is_removed(nats_url: str) -> None:
    app = fresh_app(nats_url)
    runs: list[int] = []

    @app.task(name="fails", wait=3600)
    async def fails() -> None:
        runs.append(1)
        raise ValueError

    async with working(app):
        job = await fails.adelay()
        async with asyncio.timeout(10):
            while await job.astatus() != "scheduled":
                await asyncio.sleep(0.02)
        assert (await job.ainfo()).errors[0].type == "builtins.ValueError"
        assert await job.acancel() == "removed"
        await settled(app)
    assert runs == [1]


async def test_a_key_is_free_again_after_a_cancel(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="keyed")
    async def keyed() -> None: ...

    first = await keyed.options(key="a", delay=60).adelay()
    assert (await keyed.options(key="a").adelay()).id == first.id
    assert await first.acancel() == "removed"
    second = await keyed.options(key="a").adelay()
    assert (second.disposition, second.id != first.id) == ("new", True)
    await app.session.aclose()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_of_twenty_thousand_due_at_one_instant_the_cancelled_do_not_run(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[str] = []

    @app.task(name="due")
    async def due() -> None:
        ran.append(current_job().id)

    lead = 5.0 + 3 * await seconds_to_store(app, 20_000)
    at = datetime.now(UTC) + timedelta(seconds=lead)
    jobs = await app.adelay_many(due.options(at=at).bind() for _ in range(20_000))
    broker = await app.session.broker()
    chosen = (await broker.stored_jobs("default"))[::10]
    assert datetime.now(UTC) < at - timedelta(seconds=1)
    async with working(app):
        # From just before they fire until after: some are removed, some fire all the same, some run meanwhile.
        await asyncio.sleep((at - datetime.now(UTC)).total_seconds() - 0.1)
        said = await cancel_found(broker, chosen)
        await settled(app, 120)
    cancelled = {each.delivery.id for each, answer in zip(chosen, said, strict=True) if answer != "finished"}
    assert cancelled
    assert not cancelled & set(ran)
    assert sorted([*ran, *cancelled]) == sorted(job.id for job in jobs)
