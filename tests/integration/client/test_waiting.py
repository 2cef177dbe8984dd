"""Waiting for the end of a job that keeps no result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import Jetq, Worker
from jetq.client import waiting
from jetq.errors import JobCancelled, JobExpired, JobNotFound, ResultTimeout
from jetq.model.job_context import CURRENT
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio


class Told(Exception):
    """What the task raises."""


class World:
    """An app with a task that waits to be let go, and one that fails."""

    def __init__(self, url: str) -> None:
        self.app: Jetq = fresh_app(url)
        self.begun, self.go, self.ended = asyncio.Event(), asyncio.Event(), list[int]()

        @self.app.task(name="slow")
        async def slow(n: int) -> None:
            self.begun.set()
            await self.go.wait()
            self.ended.append(n)

        @self.app.task(name="failing", max_attempts=2, wait=0.1)
        async def failing() -> None:
            raise Told("no such order")

        @self.app.task(name="keeping")
        async def keeping() -> int:
            return 7

        self.slow, self.failing, self.keeping = slow, failing, keeping


async def test_it_returns_when_the_job_has_ended_and_not_before(nats_url: str) -> None:
    """Guarantee: whoever waited for a job goes on after its end."""
    world = World(nats_url)
    async with working(world.app):
        job = await world.slow.adelay(7)
        await world.begun.wait()
        with pytest.raises(ResultTimeout, match=r"is still running after 0\.3 s"):
            await job.await_(0.3)
        waiting = asyncio.create_task(job.await_())
        await asyncio.sleep(0)
        assert not waiting.done()
        world.go.set()
        await waiting
        assert world.ended == [7]
        await job.await_(0)
        await asyncio.to_thread(job.wait)
        await asyncio.to_thread(world.app.session.close)


async def test_it_raises_what_the_task_raised_once_the_job_is_dead(nats_url: str) -> None:
    world = World(nats_url)
    async with working(world.app):
        with pytest.raises(Told, match="no such order"):
            await (await world.failing.adelay()).await_()


async def test_a_job_with_a_result_is_waited_for_too(nats_url: str) -> None:
    world = World(nats_url)
    async with working(world.app):
        job = await world.keeping.adelay()
        await job.await_()
        assert await job.aresult(timeout=0.1) == 7


async def test_it_tells_what_was_cancelled_and_what_expired(nats_url: str) -> None:
    world = World(nats_url)
    cancelled = await world.slow.options(delay=60).adelay(1)
    await cancelled.acancel()
    with pytest.raises(JobCancelled):
        await cancelled.await_()
    late = await world.slow.options(expires=0.01).adelay(2)
    await asyncio.sleep(0.05)
    async with working(world.app):
        with pytest.raises(JobExpired):
            await late.await_()


async def test_of_a_job_that_was_not_enqueued_here_something_must_be_known(nats_url: str) -> None:
    world = World(nats_url)
    async with working(world.app):
        world.go.set()
        job = await world.slow.adelay(7)
        await job.await_()
        with pytest.raises(JobNotFound, match="it never was, or it is done and kept no result"):
            await world.app.job(job.id).await_()


async def test_a_dead_letter_that_is_seen_late_is_no_success(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a copy is asked that is behind its leader."""
    world = World(nats_url)
    async with working(world.app):
        job = await world.failing.adelay()
        with pytest.raises(Told):
            await job.await_()
        broker = await world.app.session.broker()
        looks, dead = 0, broker.dead

        async def behind(*args: Any, **kwargs: Any) -> Any:
            nonlocal looks
            looks += 1
            return [] if looks == 1 else await dead(*args, **kwargs)

        monkeypatch.setattr(broker, "dead", behind)
        with pytest.raises(Told):
            await job.await_()


def nesting(url: str) -> Jetq:
    """An app with tasks that wait for a job of their own queue, on the loop and in a thread."""
    app = fresh_app(url)

    @app.task(name="inner")
    async def inner() -> int:
        return 1

    @app.task(name="outer")
    async def outer() -> int:
        return await (await inner.adelay()).aresult()

    @app.task(name="outer-in-a-thread")
    def in_thread() -> int:
        return inner.delay().result()

    return app


@pytest.mark.parametrize("name", ["outer", "outer-in-a-thread"])
async def test_a_job_that_waits_for_one_that_has_no_slot_but_its_own_is_warned_of(
    nats_url: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "_FIRST_LOOK", 0.1)
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.1)
    app = nesting(nats_url)
    worker = asyncio.create_task((serving := Worker(app, concurrency=1)).run())
    job = await app.tasks[name].adelay()
    await until(lambda: "which may wait for it" in caplog.text)
    serving.kill()
    await worker
    await asyncio.to_thread(app.session.close)
    await app.session.aclose()
    (told,) = [record.getMessage() for record in caplog.records if "which may wait for it" in record.getMessage()]
    assert told.startswith(f"job {job.id} of {name} waits for job ")
    assert "all 1 slots of the workers of queue default are taken" in told


async def test_a_job_that_waits_for_one_that_runs_is_not_warned_of(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "_FIRST_LOOK", 0.02)
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.02)
    app = fresh_app(nats_url)
    asked = asyncio.Event()

    @app.task(name="inner")
    async def inner() -> int:
        await asked.wait()
        return 1

    @app.task(name="outer")
    async def outer() -> int:
        return await (await inner.adelay()).aresult()

    complain = waiting._complain

    async def complaining(*arguments: Any) -> bool:
        done = await complain(*arguments)
        if done and CURRENT.get() is not None:
            asked.set()
        return done

    monkeypatch.setattr(waiting, "_complain", complaining)
    async with working(app, concurrency=2):
        assert await (await outer.adelay()).aresult(timeout=15) == 1
    assert "wait for it" not in caplog.text
