"""Expiry: what was not started in time is not started any more, and whoever waits hears of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from jetq import JobContext, JobExpired, Retry, Worker, current_job
from tests.apps.working import fresh_app, settled, until_state, working

pytestmark = pytest.mark.anyio


async def test_an_expired_job_never_runs_and_says_so_to_its_caller_its_hook_and_its_worker(nats_url: str) -> None:
    told: list[JobContext] = []

    async def on_expired(job: JobContext) -> None:
        told.append(job)

    app = fresh_app(nats_url, on_expired=on_expired)
    ran: list[str] = []

    @app.task(name="reminds", expires=0.3)
    async def reminds(what: str) -> None:
        ran.append(what)

    @app.task(name="tells", expires=60)
    async def tells(what: str) -> str:
        ran.append(what)
        return what

    silent = await reminds.adelay("late")
    with_result = await tells.options(expires=0.3).adelay("late too")
    lifted = await reminds.options(expires=None).adelay("lifted")
    in_time = await tells.adelay("in time")
    await asyncio.sleep(0.5)  # nobody works meanwhile
    async with working(app) as worker:
        with pytest.raises(JobExpired, match=with_result.id):
            await with_result.aresult()
        await until_state(silent, "expired")  # also of a task without results
        assert (await silent.ainfo()).state == "expired"
        assert await in_time.aresult() == "in time"
        await settled(app)
        assert worker.expired == 2
        assert await lifted.astatus() == "succeeded"
        broker = await app.session.broker()
        assert await broker.dead("default") == []
    assert sorted(ran) == ["in time", "lifted"]
    assert {(job.id, job.task, job.queue, job.attempt) for job in told} == {
        (silent.id, "reminds", "default", 1),
        (with_result.id, "tells", "default", 1),
    }


async def test_the_hook_is_told_of_a_job_whose_task_its_worker_lacks(nats_url: str) -> None:
    told: asyncio.Queue[JobContext] = asyncio.Queue()
    app = fresh_app(nats_url, on_expired=told.put)

    @app.task(name="tells")
    async def tells() -> None: ...

    job = await app.asend("nobodys", {}, queue="default", expires=0.01)
    await asyncio.sleep(0.05)
    async with working(app, queues=["default"]):
        async with asyncio.timeout(20):
            assert (await told.get()).id == job.id
        await until_state(job, "expired")


async def test_a_hook_that_raises_does_no_harm(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def on_expired(job: JobContext) -> None:
        raise RuntimeError("no hook of mine")

    app = fresh_app(nats_url, on_expired=on_expired)

    @app.task(name="tells")
    async def tells(n: int) -> int:
        return n

    late = [await tells.options(expires=0.01).adelay(n) for n in range(3)]
    await asyncio.sleep(0.1)
    with caplog.at_level(logging.ERROR, "jetq.worker"):
        async with working(app, concurrency=1) as worker:
            for job in late:
                with pytest.raises(JobExpired):
                    await job.aresult()
            assert await (await tells.adelay(7)).aresult() == 7
            await settled(app)
            assert worker.expired == 3
    assert sum("hook" in record.message for record in caplog.records) == 3


async def test_expiry_counts_from_the_due_time(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="tells", expires=1.0)
    async def tells() -> str:
        return "in time"

    async with working(app):
        job = await tells.options(delay=1.3).adelay()
        assert await job.aresult() == "in time"


async def test_what_runs_is_not_bounded_and_a_retry_that_comes_too_late_expires(nats_url: str) -> None:
    told: list[tuple[str, int]] = []

    async def on_expired(job: JobContext) -> None:
        told.append((job.id, job.attempt))

    app = fresh_app(nats_url, on_expired=on_expired)
    ran: list[tuple[str, int]] = []

    @app.task(name="long", expires=0.5)
    async def long() -> str:
        await asyncio.sleep(1.0)
        return "done"

    @app.task(name="again", expires=0.8, max_attempts=5)
    async def again(after: float) -> str:
        attempt = current_job().attempt
        ran.append((current_job().id, attempt))
        if attempt == 1:
            raise Retry(after)
        return "done"

    async with working(app) as worker:
        running = await long.adelay()
        late, in_time = await again.adelay(1.2), await again.adelay(0.05)
        assert await in_time.aresult() == "done"
        assert await running.aresult() == "done"
        with pytest.raises(JobExpired):
            await late.aresult()
        assert (await late.ainfo()).attempt == 2
        await settled(app)
        assert worker.expired == 1
    assert told == [(late.id, 2)]
    assert sorted(ran) == sorted([(late.id, 1), (in_time.id, 1), (in_time.id, 2)])


async def test_jobs_that_expired_while_no_worker_was_there_are_gone_at_once(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="reminds")
    async def reminds(n: int) -> None:
        ran.append(n)

    await app.adelay_many(reminds.options(expires=0.2).bind(n) for n in range(200))
    await app.adelay_many(reminds.bind(n) for n in range(1000, 1005))
    await asyncio.sleep(0.4)
    worker = Worker(app, burst=True)
    async with asyncio.timeout(30):
        await worker.run()
    assert sorted(ran) == list(range(1000, 1005))
    assert worker.expired == 200
    await app.session.aclose()
