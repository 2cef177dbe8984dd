"""Why a job does not run: each reason, as a person reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jetq import Jetq, Job, JobNotFound, Snooze, current_job
from jetq.operations.why_waiting import diagnose
from tests.apps.working import fresh_app, until_state, working

pytestmark = pytest.mark.anyio


async def _why(job: Job[Any]) -> tuple[str, tuple[str, ...]]:
    """The state of a job, and the reasons why it does not run."""
    broker = await job._session.broker()
    diagnosis = await diagnose(broker, job.id)
    assert diagnosis.job.id == job.id
    return diagnosis.job.state, diagnosis.reasons


async def test_without_a_worker_paused_and_not_due_are_said_together_nearest_first(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="mail", queue="post")
    async def mail() -> None: ...

    queued, scheduled = await mail.adelay(), await mail.options(delay=3599.5).adelay()
    nobody = "no live worker serves queue post; `jetq worker ... -q post` starts one"
    assert await _why(queued) == ("queued", (nobody,))
    state, (due, nobody_again) = await _why(scheduled)
    assert (state, nobody_again) == ("scheduled", nobody)
    assert due.startswith("it is due in 59m ")

    broker = await app.session.broker()
    await broker.pause("post")
    paused = "queue post is paused; `jetq queue resume post` ends that"
    assert await _why(queued) == ("queued", (paused, nobody))
    assert (await _why(scheduled))[1][1:] == (paused, nobody)
    await broker.pause("post", time.time() + 7199)
    assert (await _why(queued))[1][0].startswith("queue post is paused and goes on in 1h 59m")
    with pytest.raises(JobNotFound):
        await diagnose(broker, "nobody")
    await app.session.aclose()


async def test_that_no_worker_knows_the_task_is_said_first_and_names_the_workers(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="known")
    async def known() -> None: ...

    async with working(app) as worker:
        broker = await app.session.broker()
        await broker.pause("default")
        job = await app.asend("unknown", {})
        async with asyncio.timeout(10):
            while "no live worker" in (why := await _why(job))[1][-1]:
                await asyncio.sleep(0.05)
        unknown = (
            "no worker of queue default knows task unknown; `jetq worker MODULE` starts one that imports it"
            f" (there is 1: {worker.name})"
        )
        assert why[1] == (unknown, "queue default is paused; `jetq queue resume default` ends that")
        await broker.resume("default")
        await until_state(job, "scheduled")
        (first, due) = (await _why(job))[1]
        assert first == unknown
        assert due.startswith("it is due in ")


async def test_busy_slots_are_counted_and_a_free_one_means_its_turn(nats_url: str) -> None:
    app = fresh_app(nats_url)
    go_on = asyncio.Event()

    @app.task(name="works")
    async def works() -> None:
        await go_on.wait()

    async with working(app, concurrency=2, grace=1):
        held = [await works.adelay() for _ in range(2)]
        for job in held:
            await until_state(job, "running")
        waiting = [await works.adelay() for _ in range(3)]
        expected = "all 2 slots of the 1 workers are busy, and 3 jobs are ready"
        assert await _why(waiting[-1]) == ("queued", (expected,))
        assert await _why(waiting[0]) == ("queued", (expected,))
        go_on.set()


async def test_its_turn_is_said_when_slots_are_free() -> None:
    from jetq.model.queue_info import QueueInfo
    from jetq.model.worker_status import WorkerStatus
    from jetq.operations.why_waiting import _waits

    info = QueueInfo(name="q", ready=7, running=1, scheduled=0, dead=0, waiting=1)
    workers = [WorkerStatus(worker=f"w{n}", host="h", pid=n, version="", since=0.0, slots=10, busy=n) for n in (1, 2)]
    assert _waits(info, workers) == "it is its turn: 17 of 20 slots are free, and 7 jobs are ready"


async def test_a_running_job_names_its_worker_and_start_and_a_cancel_that_it_ignores(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="works")
    async def works() -> None:
        started.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    async with working(app, grace=1) as worker:
        before = time.time()
        job = await works.adelay()
        await started.wait()
        info = await job.ainfo()
        assert (info.state, info.worker, info.attempt) == ("running", worker.name, 1)
        assert info.started is not None and before <= info.started <= time.time()
        assert info.enqueued is not None and info.enqueued <= info.started + 0.1
        assert await _why(job) == ("running", (f"it is running, on {worker.name}",))
        cancelling = asyncio.create_task(worker_told(job))
        assert await cancelling == f"{worker.name}, and was told to end"
        go_on.set()


async def worker_told(job: Job[Any]) -> str:
    """Tell the worker that the job is cancelled, and what is said of it then."""
    broker = await job._session.broker()
    await broker.mark_cancelled(job.queue, job.id)
    async with asyncio.timeout(10):
        while not (why := (await _why(job))[1][0]).endswith("was told to end"):
            await asyncio.sleep(0.02)
    return why.removeprefix("it is running, on ")


async def test_a_job_of_a_worker_that_is_gone_waits_for_its_lease(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="works")
    async def works() -> None: ...

    other = await Jetq(nats_url, namespace=app.settings.namespace)._connect()
    taken: list[object] = []
    feed = await other.feed("default", taken.append)
    feed.ask(1)
    job = await works.adelay()
    async with asyncio.timeout(10):
        while not taken:
            await asyncio.sleep(0.02)
    state, (why,) = await _why(job)
    assert state == "running"
    assert why.startswith("it was handed to a worker that does not answer")
    await feed.stop()
    await other.close()
    await app.session.aclose()


async def test_a_retry_says_what_failed_and_a_snooze_that_it_was_put_off(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="fails", wait=3600)
    async def fails() -> None:
        raise ConnectionError("the password is x")

    @app.task(name="snoozes")
    async def snoozes() -> None:
        raise Snooze(3600)

    async with working(app):
        failed, snoozed = await fails.adelay(), await snoozes.adelay()
        for job, expected in (
            (failed, ("attempt 2 is due in ", ": attempt 1 failed with builtins.ConnectionError")),
            (snoozed, ("it is due in ", ": it was put off by its task")),
        ):
            await until_state(job, "scheduled")
            state, (why,) = await _why(job)
            assert (state, why.startswith(expected[0]), why.endswith(expected[1])) == ("scheduled", True, True), why
            assert "password" not in why


async def test_of_a_job_that_has_ended_it_is_said_how(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="works")
    async def works(fail: bool = False) -> int:
        if fail:
            raise ValueError
        return current_job().attempt

    async def ended(state: str, make: Callable[[], Awaitable[Job[int]]]) -> tuple[Job[int], str]:
        job = await make()
        await until_state(job, state)
        said_state, (why,) = await _why(job)
        assert said_state == state
        return job, why

    cancelled = await works.options(delay=60).adelay()
    await cancelled.acancel()
    expires = await works.options(expires=0.01).adelay()
    await asyncio.sleep(0.1)
    async with working(app):
        assert (await _why(cancelled)) == ("cancelled", ("it was cancelled",))
        await until_state(expires, "expired")
        assert (await _why(expires)) == ("expired", ("it was not started before it expired",))
        assert (await ended("succeeded", works.adelay))[1] == "it has succeeded"
        dead, why = await ended("dead", lambda: works.options(max_attempts=1).adelay(True))
        assert why == (f"it is dead: `jetq dlq show {dead.id}` says why, and `jetq dlq replay {dead.id}` runs it again")


async def test_the_watch_of_a_workflow_is_run_by_every_worker_and_is_no_step(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="number")
    async def number(n: int) -> int:
        return n

    flow = await (number.bind(1) | number).adelay(id="w")
    async with working(app):
        assert await flow.aresult(20) == 1
        broker = await app.session.broker()
        (watch,) = await broker.stored_jobs("default")
        diagnosis = await diagnose(broker, watch.delivery.id)
        (reason,) = diagnosis.reasons
        assert reason.startswith("it is due in ")
        assert reason.endswith("s: it is no step of workflow w, and looks now and then whether that goes on")


async def test_a_step_that_was_put_off_may_wait_for_a_value(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="snoozes")
    async def snoozes() -> None:
        raise Snooze(3600)

    await snoozes.bind().named("later").adelay(id="w")
    async with working(app):
        broker = await app.session.broker()
        async with asyncio.timeout(20):
            while True:
                found = [job for job in await broker.stored_jobs("default") if job.delivery.id.endswith(":later:0")]
                if found and found[0].state == "scheduled":
                    break
                await asyncio.sleep(0.02)
        reason, place = (await diagnose(broker, found[0].delivery.id)).reasons
    assert reason.endswith(": it was put off by its task, or a value that it takes was not there")
    assert place == "it is member 0 of step later of workflow w; `jetq workflow show w` shows what that waits for"


async def test_a_step_whose_turn_has_not_come_and_one_that_is_none_are_found_in_no_place(
    nats_url: str,
) -> None:
    app = fresh_app(nats_url)

    @app.task(name="number")
    async def number(n: int) -> int:
        return n

    flow = await (number.bind(1).named("first") | number).adelay(id="w")
    broker = await app.session.broker()
    (stored,) = (job for job in await broker.stored_jobs("default") if ":first:" in job.delivery.id)
    life = stored.delivery.id.partition(":")[0]
    with pytest.raises(JobNotFound) as waiting:
        await diagnose(broker, f"{life}:number:0")
    assert waiting.value.hint is not None and "jetq workflow ls" in waiting.value.hint
    async with working(app):
        assert await flow.aresult(20) == 1
        assert await app.job(f"{life}:first:0").aresult(20) == 1
        with pytest.raises(JobNotFound) as done:
            await app.job(f"{life}:first:7").aresult(20)
        assert done.value.hint is not None and "app.workflow(...)" in done.value.hint
