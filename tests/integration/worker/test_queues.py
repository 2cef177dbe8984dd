"""One worker on several queues, and its start and end."""

from __future__ import annotations

import asyncio
import time

import pytest

from jetq import Jetq, Worker
from jetq.encoding.headers import read_meta
from jetq.model.failure import AttemptError
from jetq.model.job import JobRecord, Meta
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio


async def test_a_queue_is_served_while_others_are_busy_or_were(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="busy", queue="busy")
    async def busy(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 1

    @app.task(name="rare", queue="rare")
    async def rare(n: int) -> int:
        return n

    async with working(app, concurrency=10):
        await (await busy.adelay(0.0)).aresult(timeout=20)
        for n in range(3):  # each takes the quiet queue's only request
            assert await (await rare.adelay(n)).aresult(timeout=5) == n
        held = [await busy.adelay(3.0) for _ in range(6)]
        for n in range(3):
            assert await (await rare.adelay(n)).aresult(timeout=2.5) == n
        for job in held:
            assert await job.aresult(timeout=20) == 1


async def test_never_more_than_concurrency_run_over_all_queues(nats_url: str) -> None:
    app = fresh_app(nats_url)
    running: set[int] = set()
    most = 0

    async def count(n: int) -> None:
        nonlocal most
        running.add(n)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.discard(n)

    app.task(name="a", queue="a")(count)
    app.task(name="b", queue="b")(count)
    app.task(name="c", queue="c")(count)
    for queue in "abc":
        calls = [app.call(queue, {"n": n}, queue=queue) for n in range(ord(queue) * 1000, ord(queue) * 1000 + 100)]
        await app.adelay_many(calls)
    await Worker(app, concurrency=7, burst=True).run()
    broker = await app.session.broker()
    assert all(info.ready == info.running == 0 for info in await broker.queues())
    await app.session.aclose()
    assert 1 < most <= 7


async def test_more_queues_than_slots_are_all_served(nats_url: str) -> None:
    app = fresh_app(nats_url)
    running, most = 0, 0
    go_on = asyncio.Event()
    go_on.set()

    async def work() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        await go_on.wait()
        running -= 1
        return 1

    queues = [f"q{n}" for n in range(8)]
    for queue in queues:
        app.task(name=queue, queue=queue)(work)
    async with working(app, queues=queues, concurrency=2) as worker:
        for _ in range(3):
            jobs = [await app.asend(queue) for queue in queues]
            assert [await job.aresult(timeout=10) for job in jobs] == [1] * 8
        go_on.clear()
        held = [await app.asend(queue) for queue in queues]
        worker.stop()
        go_on.set()
    assert most == 2
    broker = await app.session.broker()
    infos = {info.name: info for info in await broker.queues() if info.name in queues}
    assert all(info.running == 0 for info in infos.values())  # what waited for a slot was given back
    assert sum(info.ready for info in infos.values()) >= len(held) - 2
    await app.session.aclose()


async def test_a_worker_is_stopped_while_it_waits_for_its_server() -> None:
    app = Jetq("nats://127.0.0.1:9", connect_timeout=0.2)
    app.task(name="waits")(nothing)
    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    worker.stop()
    async with asyncio.timeout(10):
        await running


def nothing() -> None:
    """A task of no interest."""


async def test_what_is_given_back_unread_is_as_it_was(nats_url: str) -> None:
    """Guarantee: a stop costs no attempt and gives none: a job that was handed out and not begun keeps its attempt, its
    history, its expiry and its own options."""
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    started = asyncio.Event()

    @app.task(name="holds", queue="holds")
    async def holds() -> None:
        started.set()
        await asyncio.sleep(30.0)

    @app.task(name="waits", queue="waits")
    async def waits() -> None:
        raise AssertionError("there was no slot for it")

    error = AttemptError(attempt=2, type="builtins.ConnectionError", message="not yet", at=time.time(), worker="w")
    before = Meta(attempt=3, errors=(error,), max_attempts=6, timeout=7.0, expires=time.time() + 600.0, enqueued=1.5e9)
    job = JobRecord(id="w1", task="waits", queue="waits", body=b"{}", key="-", meta=before, level="normal")
    worker = Worker(app, queues=["holds", "waits"], concurrency=1, grace=0.1)
    running = asyncio.create_task(worker.run())
    try:
        await app.asend("holds")
        await asyncio.wait_for(started.wait(), 15.0)
        await broker.enqueue(job)
        await until(lambda: worker.running == 2)  # it was handed out, and waits for the only slot
    finally:
        worker.stop()
        await running
    broker = await app.session.broker()
    found = await broker.find("waits", "w1")
    assert found is not None and found.state == "queued" and not found.in_flight
    assert read_meta(found.delivery.headers) == before
    await app.session.aclose()
