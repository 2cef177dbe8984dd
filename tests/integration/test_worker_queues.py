"""One worker on several queues, and its start and end."""

from __future__ import annotations

import asyncio

import pytest

from jetq import Jetq, Worker
from tests.apps.working import fresh_app, working

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

    async def work() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return 1

    queues = [f"q{n}" for n in range(8)]
    for queue in queues:
        app.task(name=queue, queue=queue)(work)
    async with working(app, queues=queues, concurrency=2) as worker:
        for _ in range(3):
            jobs = [await app.asend(queue) for queue in queues]
            assert [await job.aresult(timeout=10) for job in jobs] == [1] * 8
        held = [await app.asend(queue) for queue in queues]
        worker.stop()
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
