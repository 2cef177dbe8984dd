"""The same id again, minutes later: while a job of that id stands or runs it is that one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import Jetq, Queue
from jetq.jetstream.broker import enqueueing
from jetq.model.job import JobRecord, Meta, Place
from jetq.model.names import new_life
from tests.apps.working import fresh_app, until_state, working

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(nats_url: str) -> Any:
    """An app whose server knows an id for a tenth of a second, in place of two minutes."""
    app = fresh_app(nats_url)
    await forget_soon(app)
    yield app
    await app.session.aclose()


async def forget_soon(app: Jetq) -> None:
    broker: Any = await app.session.broker()
    await broker.setup("default")
    stream = broker.subjects.jobs("default")
    info = await broker.api.stream_info(stream)
    await broker.api.request(f"STREAM.UPDATE.{stream}", {**info["config"], "duplicate_window": 100_000_000})


async def forgotten(app: Jetq) -> None:
    """Until the server has forgotten the ids of what was stored before."""
    await asyncio.sleep(0.3)


async def bodies(app: Jetq) -> list[bytes]:
    return [found.delivery.body for found in await (await app.session.broker()).stored_jobs("default")]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("first", [{}, {"delay": 60}, {"priority": "high"}], ids=["waiting", "scheduled", "high"])
@pytest.mark.parametrize("again", [{}, {"delay": 30}], ids=["now", "later"])
async def test_one_that_stands_is_the_one(nats_url: str, first: Any, again: Any, many: bool) -> None:
    """Guarantee: an enqueue under an id neither doubles nor changes a job of that id that stands, however old."""
    app = fresh_app(nats_url, queues=[Queue("default", levels="strict")])
    await forget_soon(app)

    @app.task(name="order")
    async def order(n: int) -> int:
        return n

    job = await order.options(id="order-1", **first).adelay(1)
    state = await job.astatus()
    await forgotten(app)
    repeat = order.options(id="order-1", **again)
    (repeated,) = await order.adelay_many([repeat.bind(2)]) if many else [await repeat.adelay(2)]
    assert (repeated.id, repeated.disposition) == ("order-1", "existing")
    assert await bodies(app) == [b'{"n":1}']
    assert await repeated.astatus() == state
    await app.session.aclose()


async def test_one_that_runs_is_the_one(app: Jetq) -> None:
    runs: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="order")
    async def order(n: int) -> int:
        runs.append(n)
        begun.set()
        await go_on.wait()
        return n

    async with working(app):
        job = await order.options(id="order-1").adelay(1)
        await begun.wait()
        await forgotten(app)
        assert (await order.options(id="order-1").adelay(2)).disposition == "existing"
        go_on.set()
        assert await job.aresult(timeout=20) == 1
        await (await order.adelay(3)).aresult(timeout=20)
        assert runs == [1, 3]


async def test_after_it_has_ended_and_two_minutes_the_id_may_be_used_again(
    app: Jetq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueueing, "DEDUP_WINDOW", -1.0)  # so much has passed since its result was stored
    runs: list[int] = []

    @app.task(name="order")
    async def order(n: int) -> int:
        runs.append(n)
        return n

    async with working(app):
        first = await order.options(id="order-1").adelay(1)
        assert await first.aresult(timeout=20) == 1
        await forgotten(app)
        again = await order.options(id="order-1").adelay(2)
        assert again.disposition == "new"
        broker = await app.session.broker()
        async with asyncio.timeout(20):
            while runs != [1, 2] or await broker.stored_jobs("default"):
                await asyncio.sleep(0.02)


async def test_of_another_task_it_is_still_the_same_id(app: Jetq) -> None:
    first = await app.asend("order.one", {}, id="order-1")
    await forgotten(app)
    second = await app.asend("order.two", {}, id="order-1")
    assert (first.disposition, second.disposition) == ("new", "existing")


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("first", ["waits", "runs", "succeeded", "dead", "cancelled"])
async def test_in_another_queue_it_is_another_job(app: Jetq, first: str, many: bool) -> None:
    """Guarantee: a job is never taken for one of the same id in another queue, whatever that one does or left."""
    ran: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="order", max_attempts=1)
    async def order() -> str:
        ran.append("order")
        begun.set()
        if first in ("runs", "cancelled"):
            await go_on.wait()
        assert first != "dead"
        return "ordered"

    @app.task(name="ship", queue="another")
    async def ship() -> str:
        ran.append("ship")
        return "shipped"

    job = await order.options(id="7").adelay()
    async with working(app, queues=["default"] if first != "waits" else ["another"]):
        if first != "waits":
            await begun.wait()
        if first == "cancelled":
            assert await job.acancel() == "stopped"
        elif first in ("succeeded", "dead"):
            await until_state(job, first)
        call = ship.options(id="7")
        (sent,) = await ship.adelay_many([call.bind()]) if many else [await call.adelay()]
        assert sent.disposition == "new"
        if first == "waits":
            assert await sent.aresult(timeout=20) == "shipped"
            assert (await job.astatus(), ran) == ("queued", ["ship"])
            return
        assert await sent.astatus() == "queued"
        assert await sent.acancel() == "removed"
        assert await sent.astatus() == "cancelled"
        if first == "runs":
            assert await job.astatus() == "running"
            go_on.set()
            assert await job.aresult(timeout=20) == "ordered"
        assert ran == ["order"]


async def test_of_many_at_once_one_is_stored_in_a_batch_too(app: Jetq) -> None:
    @app.task(name="order")
    async def order(n: int) -> int:
        return n

    jobs = await order.adelay_many(order.options(id=f"order-{n % 10}").bind(n) for n in range(50))
    assert sorted(job.disposition for job in jobs) == ["existing"] * 40 + ["new"] * 10
    assert await bodies(app) == [b'{"n":%d}' % n for n in range(10)]


async def test_a_member_of_a_workflow_does_not_stand_twice_when_its_id_is_forgotten(app: Jetq) -> None:
    """Guarantee: who stores a member minutes after it was found to be due stores none beside the one that stands."""
    broker = await app.session.broker()
    place = Place("weekly", "default", new_life(), "fetch", 0, 1, 1, 4e9, 0, 1.0)
    member = JobRecord(place.job_id, "tests.fetch", "default", b"{}", meta=Meta(flow=place), fresh=True)
    await broker.enqueue_many([member])
    await forgotten(app)
    await broker.enqueue(member)
    await broker.enqueue_many([member])
    assert len(await bodies(app)) == 1
