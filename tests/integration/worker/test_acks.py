"""Acks that do not arrive are made good: a settled job is removed all the same, and does not run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest

from jetq import Jetq, current_job
from jetq.broker import Broker
from jetq.model.job import Delivery
from tests.apps.working import until, working
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

QUEUE = "acks"
JOBS = 20


@asynccontextmanager
async def held(url: str) -> AsyncIterator[tuple[Broker, list[Delivery]]]:
    """A broker that holds some jobs, and asks for no more."""
    app = Jetq(url)
    broker = await app.session.broker()
    got: list[Delivery] = []
    try:
        for n in range(JOBS):
            await app.asend("acks.task", {"n": n}, queue=QUEUE)
        feed = await broker.feed(QUEUE, got.append)
        feed.ask(JOBS)
        await until(lambda: len(got) == JOBS)
        await feed.stop()
        yield broker, got
    finally:
        await app.session.aclose()


async def until_removed(server: NatsServer) -> None:
    client = await nats.connect(server.url)
    try:
        async with asyncio.timeout(10.0):
            while (await client.jetstream().stream_info("ACKS_JOBS")).state.messages > 1:  # the first one stays
                await asyncio.sleep(0.02)
    finally:
        await client.close()


async def test_acks_that_nobody_hears(nats_server: NatsServerFactory) -> None:
    """The answer "no responders" confirms nothing: so it comes while a consumer has no leader, or was deleted."""
    server = nats_server()
    async with held(server.url) as (broker, got):
        client = await nats.connect(server.url)
        await client.jetstream().delete_consumer("ACKS_JOBS", QUEUE)
        await client.close()
        for delivery in got:
            broker.finish(delivery)
        await until_removed(server)


@pytest.mark.parametrize("way", ["up", "down", "both"])
async def test_acks_that_a_lost_connection_took_along(nats_server: NatsServerFactory, way: str) -> None:
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with held(proxy.url) as (broker, got):
            proxy.hold(up=way != "down", down=way != "up")
            for delivery in got[: JOBS // 2]:
                broker.finish(delivery)
            await asyncio.sleep(0)  # they are written at the end of this turn of the loop
            await asyncio.sleep(0)
            for delivery in got[JOBS // 2 :]:
                broker.finish(delivery)
            await asyncio.sleep(0.05)
            proxy.reset()
            proxy.heal()
            await until_removed(server)
    finally:
        await proxy.stop()


async def test_a_stream_made_anew_keeps_its_jobs(nats_server: NatsServerFactory) -> None:
    """Sequences count from one again, so a removal from the old one must not hit a job of the new one."""
    server = nats_server()
    async with held(server.url) as (broker, got):
        client = await nats.connect(server.url)
        try:
            await client.jetstream().delete_stream("ACKS_JOBS")
            for delivery in got:
                broker.finish(delivery)
            await broker.setup(QUEUE)
            app = Jetq(server.url)
            for n in range(JOBS):
                await app.asend("acks.task", {"n": n}, queue=QUEUE)
            await app.session.aclose()
            await asyncio.sleep(3.0)  # past the two seconds after which acks count as lost
            info = await client.jetstream().stream_info("ACKS_JOBS")
            assert (info.state.first_seq, info.state.messages) == (1, 1 + JOBS)
        finally:
            await client.close()


async def test_an_id_that_comes_again_under_its_sequence_in_a_stream_made_anew_is_run(
    nats_server: NatsServerFactory,
) -> None:
    app = Jetq(nats_server().url)
    ran: list[str] = []

    @app.task(name="again")
    async def again() -> None:
        ran.append(current_job().id)

    async with working(app):
        await again.options(id="daily").adelay()
        await until(lambda: ran == ["daily"])
        broker: Any = await app.session.broker()
        await broker.confirm()
        await broker.api.request("STREAM.DELETE.DEFAULT_JOBS")
        await again.options(id="daily").adelay()
        await until(lambda: ran == ["daily", "daily"])
