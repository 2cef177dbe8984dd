"""A store that was full leaves scheduled jobs and recurring schedules behind; workers find them and go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jetq import Jetq, Rejected
from jetq.broker import Broker
from jetq.jetstream.broker import base, queues
from jetq.model.job import Delivery
from jetq.model.schedule import ScheduleRecord
from jetq.worker.schedules.overdue import OverdueJobs
from jetq.worker.schedules.ticks import Ticks
from tests.apps.full_store import SMALL_STORE, full_store
from tests.apps.staying import stays_so_for
from tests.servers import NatsServer, NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUEUE = "late"


@asynccontextmanager
async def world(nats_server: NatsServerFactory, tmp_path: Path) -> AsyncIterator[tuple[Jetq, Broker, NatsServer]]:
    """An app on a server whose store is soon full."""
    server = nats_server(SMALL_STORE.format(store=f'"{tmp_path / "small"}"'), jetstream=False)
    app = Jetq(server.url)
    try:
        broker = await app.session.broker()
        await broker.setup(QUEUE)
        yield app, broker, server
    finally:
        await app.session.aclose()


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_job_that_was_due_while_the_store_was_full_is_made_ready_once(
    nats_server: NatsServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: also such a job runs. The server alone would start it only after its next restart (2.15.1)."""
    monkeypatch.setattr(base, "OVERDUE", 0.5)
    monkeypatch.setattr(queues, "_OVERDUE_LOOKS", 7)
    async with world(nats_server, tmp_path) as (app, broker, server):
        got: list[Delivery] = []
        feed = await broker.feed(QUEUE, got.append)
        feed.ask(100)
        for n in range(20):
            await app.asend("t", {"n": n}, queue=QUEUE, delay=600.0)
        for n in range(5):
            await app.asend("t", {"n": n}, queue=QUEUE, delay=1.0, id=f"due-{n}")
        async with full_store(server.url):
            await asyncio.sleep(1.5)
        await app.asend("t", {}, queue=QUEUE, delay=1.0, id="later")
        await until(lambda: "later" in [each.id for each in got])
        assert [each.id for each in got] == ["later"]  # the others are forgotten: this is what it is all for

        overdue = OverdueJobs(broker)
        for _ in range(4):  # each look goes a bit further through what is scheduled
            await overdue.release(QUEUE)
        await until(lambda: len(got) == 6)
        for _ in range(4):
            await overdue.release(QUEUE)
        await app.asend("t", {}, queue=QUEUE, id="last")
        await until(lambda: "last" in [each.id for each in got])
        assert sorted(each.id for each in got) == [*(f"due-{n}" for n in range(5)), "last", "later"]
        info = next(info for info in await broker.queues() if info.name == QUEUE)
        assert info.scheduled == 20
        await feed.stop()


async def test_an_enqueue_into_a_full_store_is_refused_at_once_and_what_is_stored_runs(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: a full store refuses what is new in words, and takes nothing that it has."""
    async with world(nats_server, tmp_path) as (app, broker, server):
        for number in range(10):
            await app.asend("t", {}, queue=QUEUE, id=f"before-{number}")
        got: list[Delivery] = []
        async with full_store(server.url):
            with pytest.raises(Rejected, match="insufficient"):
                await app.asend("t", {"text": "x" * 100_000}, queue=QUEUE)

            def take(delivery: Delivery) -> None:
                got.append(delivery)
                broker.finish(delivery)

            feed = await broker.feed(QUEUE, take)
            feed.ask(100)
            await until(lambda: len(got) == 10)
        await app.asend("t", {"text": "x" * 100_000}, queue=QUEUE, id="after")
        await until(lambda: len(got) == 11)
        assert [each.id for each in got] == [*(f"before-{number}" for number in range(10)), "after"]
        await feed.stop()


async def test_a_schedule_that_ceased_to_tick_is_set_up_anew(
    nats_server: NatsServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(nats_server, tmp_path) as (_, broker, server):
        ticks: list[float] = []

        def on_tick(delivery: Delivery) -> None:
            if delivery.schedule:
                ticks.append(time.time())
            broker.finish(delivery)
            feed.ask(1)

        feed = await broker.feed(QUEUE, on_tick)
        feed.ask(1)
        record = ScheduleRecord("each-second", QUEUE, "t", "* * * * * *", catch_up=0.0, source="runtime")
        assert await broker.put_schedule(record, b"{}", 0)
        await until(lambda: len(ticks) >= 1)
        async with full_store(server.url):
            await asyncio.sleep(2.5)
        before = len(ticks)
        await stays_so_for(2.5, lambda: len(ticks) == before)  # it has ceased

        turning = Ticks(broker)
        monkeypatch.setattr(broker, "now", lambda: time.time() + 12.0)  # a tick counts as missed only after a while
        await turning.catch_up(QUEUE)
        # One missed tick proves nothing: the server may have been down.
        await stays_so_for(1.1, lambda: len(ticks) == before)
        await turning.catch_up(QUEUE)
        await until(lambda: len(ticks) >= before + 2)
        await feed.stop()
