"""What runs around a task: middleware, lifespan, the current job, and enqueueing from inside."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jetq import DefinitionError, Interruption, Jetq, JetqWarning, JobContext, JobTimeout, NoResult, Worker, current_job
from tests.apps.spinning import spin
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


async def test_middleware_wraps_each_attempt_outermost_first(nats_url: str) -> None:
    seen: list[str] = []

    def named(name: str) -> Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]:
        async def middleware(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
            seen.append(f"{name} before {job.task} attempt {job.attempt}")
            try:
                return await call_next()
            finally:
                seen.append(f"{name} after")

        return middleware

    async def doubles(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return 2 * await call_next()

    app = fresh_app(nats_url, middleware=[named("a"), named("b"), doubles])

    @app.task(name="sync", max_attempts=2, wait=0.0)
    def sync(n: int) -> int:
        if current_job().attempt == 1:
            raise ConnectionError
        return n

    async with working(app):
        assert await (await sync.adelay(21)).aresult(timeout=20) == 42
    once = ["b after", "a after"]
    first, second = ([f"{name} before sync attempt {n}" for name in "ab"] for n in (1, 2))
    assert seen == [*first, *once, *second, *once]


async def test_lifespan_is_entered_before_the_first_job_and_left_after_the_last(nats_url: str) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Jetq) -> AsyncIterator[None]:
        events.append("opened")
        yield
        events.append("closed")

    app = fresh_app(nats_url, lifespan=lifespan)

    @app.task(name="job")
    async def job() -> None:
        events.append("ran")
        await asyncio.sleep(0.1)
        events.append("ended")

    await job.adelay()
    await Worker(app, burst=True).run()
    await app.session.aclose()
    assert events == ["opened", "ran", "ended", "closed"]


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_a_task_knows_its_job(kind: str, nats_url: str) -> None:
    app = fresh_app(nats_url)
    contexts: list[JobContext] = []

    @app.task(name="loop", timeout=7.0, max_attempts=5)
    async def on_loop() -> None:
        contexts.append(current_job())

    @app.task(name="thread", timeout=7.0, max_attempts=5)
    def in_thread() -> None:
        contexts.append(current_job())

    before = datetime.now(UTC)
    async with working(app) as worker:
        job = await app.asend(kind, result_ttl=60)
        await job.aresult(timeout=20)
    (context,) = contexts
    assert (context.id, context.attempt, context.max_attempts) == (job.id, 1, 5)
    assert (context.task, context.queue, context.worker) == (kind, "default", worker.name)
    assert before - timedelta(seconds=1) < context.enqueued_at < datetime.now(UTC)
    assert context.deadline is not None
    assert before < context.deadline < datetime.now(UTC) + timedelta(seconds=7)


async def test_tasks_enqueue_from_inside_on_loop_and_in_thread(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[str] = []

    @app.task(name="leaf")
    async def leaf(who: str) -> None:
        ran.append(who)

    @app.task(name="async")
    async def from_async() -> str:
        return (await leaf.adelay("awaited")).id

    @app.task(name="sync")
    def from_thread() -> str:
        return leaf.delay("thread").id

    @app.task(name="blocking")
    async def from_async_without_await() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", JetqWarning)
            return leaf.delay("blocking").id

    async with working(app):
        for name in ("async", "sync", "blocking"):
            await (await app.asend(name)).aresult(timeout=20)
        async with asyncio.timeout(20):
            while len(ran) < 3:
                await asyncio.sleep(0.01)
    app.session.close()
    assert sorted(ran) == ["awaited", "blocking", "thread"]


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_a_timeout_is_raised_inside_the_task_and_frees_its_slot(kind: str, nats_url: str) -> None:
    app = fresh_app(nats_url)
    ended: list[BaseException] = []

    @app.task(name="loop", timeout=0.2, max_attempts=1)
    async def on_loop() -> int:
        try:
            await asyncio.sleep(30)
        except BaseException as error:
            ended.append(error)
            raise
        return 0

    @app.task(name="thread", timeout=0.2, max_attempts=1)
    def in_thread() -> int:
        try:
            spin(0.01)
        except BaseException as error:
            ended.append(error)
            raise
        return 0

    async with working(app, concurrency=1):
        first, second = await app.asend(kind), await app.asend(kind)
        for job in (first, second):
            with pytest.raises(JobTimeout):
                await job.aresult(timeout=20)
    assert len(ended) == 2
    for error in ended:
        if kind == "loop":
            assert isinstance(error, asyncio.CancelledError)
        else:
            assert isinstance(error, Interruption)
            assert error.error is JobTimeout


async def test_a_task_without_results_says_so_at_once(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="silent")
    async def silent() -> None: ...

    try:
        job = await silent.adelay()
        with pytest.raises(NoResult, match="silent stores no results"):
            await job.aresult()
        assert await job.astatus() == "queued"
    finally:
        await app.session.aclose()


async def test_a_worker_without_tasks_is_refused(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fresh_app(nats_url)
    monkeypatch.setattr(type(app), "tasks", {})
    with pytest.raises(DefinitionError, match="no tasks to run"):
        Worker(app)


async def test_no_argument_value_reaches_a_log_line(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    app = fresh_app(nats_url)
    canary = "canary-7f3a"

    @app.task(name="leaky", max_attempts=2, wait=0.0)
    async def leaky(password: str) -> int:
        raise ValueError(f"bad password {password}")

    with caplog.at_level(logging.DEBUG):
        async with working(app):
            job = await leaky.adelay(canary)
            with pytest.raises(ValueError, match=r"bad password \*\*\*"):
                await job.aresult(timeout=20)
    said = [record.getMessage() for record in caplog.records if f"leaky {job.id}" in record.getMessage()]
    assert f"leaky {job.id} failed: ValueError: bad password ***; attempt 2 is due in 0.0 s" in said
    assert f"leaky {job.id} is dead (failed): ValueError: bad password ***; see `jetq dlq show`" in said
    tracebacks = [each for each in said if "in leaky" in each]
    assert len(tracebacks) == 2 and all(each.endswith("ValueError: bad password ***") for each in tracebacks)
    assert canary not in caplog.text
