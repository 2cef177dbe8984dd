"""Async jobs that swallow their cancellation: given up like threads, once, and never run beside themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from jetq import JobContext, JobTimeout, TaskFailed, Worker, current_job
from jetq.operations.dead_letters import replay
from jetq.worker import attempt as attempt_module
from jetq.worker import stopping as stopping_module
from jetq.worker.attempts import lost as lost_module
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio

LONG = 30.0


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "INSIST_AFTER", 0.1)
    monkeypatch.setattr(lost_module, "_AGAIN_AFTER", 0.2)


class Deaf:
    """A task's code that swallows every cancellation until it is let go."""

    def __init__(self) -> None:
        self.starts = 0
        self.running = 0
        self.most = 0
        self.swallowed = 0
        self.go = asyncio.Event()

    async def __call__(self) -> None:
        self.starts += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    self.swallowed += 1
        finally:
            self.running -= 1


@asynccontextmanager
async def let_go(deaf: Deaf) -> AsyncIterator[None]:
    try:
        yield
    finally:
        deaf.go.set()


async def test_it_is_dead_once_and_its_slot_is_free(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: an async job that swallows its cancellation is dead, once, and costs its worker no slot."""
    app, deaf = fresh_app(nats_url), Deaf()

    @app.task(name="deaf", timeout=0.1, max_attempts=3, result_ttl=60.0)
    async def task() -> None:
        await deaf()

    @app.task(name="quick")
    async def quick() -> int:
        return 5

    async with working(app, concurrency=1) as worker, let_go(deaf):
        with pytest.raises(TaskFailed) as caught:
            await (await task.adelay()).aresult(timeout=LONG)
        assert caught.value.type == "jetq.TaskLost"
        assert "ignores its cancellation and is given up" in caplog.text
        assert await (await quick.adelay()).aresult(timeout=LONG) == 5
        assert deaf.running == 1 and deaf.swallowed == 2
        assert worker.running == 0 and worker.has_lost
        deaf.go.set()
        await until(lambda: not worker.has_lost)
        assert await (await quick.adelay()).aresult(timeout=LONG) == 5
    assert deaf.starts == 1
    assert "has ended at last" in caplog.text


async def test_a_replay_does_not_run_beside_it(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: one worker never runs a job beside itself, also when its code goes on after it was given up."""
    app, deaf = fresh_app(nats_url), Deaf()

    @app.task(name="deaf", timeout=0.1, max_attempts=1, result_ttl=60.0)
    async def task() -> int:
        await deaf()
        return current_job().attempt

    caplog.set_level(logging.INFO, "jetq.worker")
    async with working(app, concurrency=2), let_go(deaf):
        job = await task.adelay()
        with pytest.raises(TaskFailed):
            await job.aresult(timeout=LONG)
        broker = await app.session.broker()
        (entry,) = await broker.dead("default")
        await replay(broker, [entry])
        await until(lambda: "is put off" in caplog.text, LONG)
        assert deaf.starts == 1
        deaf.go.set()
        await until(lambda: deaf.starts == 2, LONG)
    assert deaf.most == 1


async def test_a_cancel_that_is_swallowed_ends_as_cancelled(nats_url: str) -> None:
    app, deaf = fresh_app(nats_url), Deaf()

    @app.task(name="deaf", timeout=None)
    async def task() -> None:
        await deaf()

    async with working(app, concurrency=1), let_go(deaf):
        job = await task.adelay()
        await until(lambda: deaf.running)
        assert await job.acancel(timeout=LONG) == "stopped"
        assert await job.astatus() == "cancelled"
        assert deaf.running == 1


async def test_middleware_that_swallows_is_given_up_too(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "_POOL_TAKES", 0.1)
    deaf = Deaf()

    async def middleware(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        with suppress(JobTimeout):  # if it has not even begun
            await call_next()
        await deaf()

    app = fresh_app(nats_url, middleware=[middleware])

    @app.task(name="thread", timeout=0.1, max_attempts=1, result_ttl=60.0)
    def task() -> None: ...

    async with working(app, concurrency=1), let_go(deaf):
        with pytest.raises(TaskFailed) as caught:
            await (await task.adelay()).aresult(timeout=LONG)
        assert caught.value.type == "jetq.TaskLost"


async def test_its_slot_of_a_limit_is_free_too(nats_url: str) -> None:
    app, deaf = fresh_app(nats_url), Deaf()

    @app.task(name="deaf", timeout=0.1, max_attempts=1, limit=1)
    async def task(n: int) -> int:
        if n == 1:
            await deaf()
        return n

    async with working(app, concurrency=1), let_go(deaf):
        await task.adelay(1)
        assert await (await task.adelay(2)).aresult(timeout=LONG) == 2
        assert deaf.running == 1


async def test_a_worker_in_a_program_of_its_own_leaves_it_to_its_lease(
    nats_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: `Worker.run` returns also when a job does not end, and says what becomes of it."""
    monkeypatch.setattr(stopping_module, "_UNWINDING", 0.1)
    app, deaf = fresh_app(nats_url, ack_wait=2.0), Deaf()

    @app.task(name="deaf", timeout=None)
    async def task() -> None:
        await deaf()

    async with let_go(deaf):
        worker = Worker(app, grace=0.0)
        working = asyncio.create_task(worker.run())
        job = await task.adelay()
        await until(lambda: deaf.running)
        worker.stop()
        await asyncio.wait_for(working, LONG)
        assert "its code goes on in this process, and it runs again elsewhere when its lease ends" in caplog.text
        assert await job.astatus() == "running"
        again = Worker(app, grace=0.0)
        working = asyncio.create_task(again.run())
        await until(lambda: deaf.starts == 2, LONG)
        deaf.go.set()
        again.stop()
        await asyncio.wait_for(working, LONG)
