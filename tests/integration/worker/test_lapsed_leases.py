"""Whoever has lost a lease settles nothing, and what a worker holds it does not start again: whatever was done to the
connection or the consumer meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest

from jetq import Jetq
from jetq.worker.attempts.handover import came_back
from tests.apps.working import fresh_app, run_of, until, working
from tests.faults.chaos.proxy import Proxy

pytestmark = pytest.mark.anyio

ACK_WAIT = 3.0
FOR_EVER = 120.0


class Runs:
    """An app whose job runs until the test ends the run, in the way it says."""

    def __init__(self, app: Jetq) -> None:
        self.app = app
        self.started = 0
        self.ends = asyncio.Event()
        self.fails = False

        @app.task(name="lapse.work", max_attempts=1, timeout=FOR_EVER)
        async def work() -> str:
            self.started += 1
            await self.ends.wait()
            if self.fails:
                raise ValueError
            return "done"

        self.work = work


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(int(url.rpartition(":")[2]))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def api(url: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the JetStream API answers to somebody who is not jetq."""
    client = await nats.connect(url)
    try:
        answer = await client.request(f"$JS.API.{name}", b"" if body is None else json.dumps(body).encode())
        decoded: dict[str, Any] = json.loads(answer.data)
        assert "error" not in decoded, decoded
        return decoded
    finally:
        await client.close()


async def consumer(url: str, app: Jetq) -> dict[str, Any]:
    """The consumer of the app's queue: its stream's name, its own, and its configuration."""
    subject = f"{app.settings.namespace}.default.run.>"  # unfiltered, a server gives the first 1,024 names alone
    (stream,) = (await api(url, "STREAM.NAMES", {"subject": subject}))["streams"]
    found: dict[str, Any] = (await api(url, f"CONSUMER.LIST.{stream}"))["consumers"][0]
    return found


async def set_ack_wait(url: str, app: Jetq, seconds: float) -> None:
    info = await consumer(url, app)
    config = {**info["config"], "ack_wait": int(seconds * 1e9)}
    stream = info["stream_name"]
    await api(
        url,
        f"CONSUMER.CREATE.{stream}.{info['name']}",
        {"stream_name": stream, "config": config, "action": "update"},
    )


async def delete_consumer(url: str, app: Jetq) -> None:
    info = await consumer(url, app)
    await api(url, f"CONSUMER.DELETE.{info['stream_name']}.{info['name']}")


@pytest.mark.slow
@pytest.mark.parametrize("fails_in", ["the one cut off", "the other"])
async def test_a_worker_cut_off_before_its_first_renewal_settles_nothing(fails_in: str, nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        cut = Runs(fresh_app(proxy.url, ack_wait=ACK_WAIT))
        other = Runs(Jetq(nats_url, namespace=cut.app.settings.namespace, ack_wait=ACK_WAIT))
        cut.fails, other.fails = fails_in == "the one cut off", fails_in == "the other"
        async with working(cut.app, concurrency=1, queues=["default"]) as worker:
            producer = Jetq(nats_url, namespace=cut.app.settings.namespace)
            job = await producer.asend("lapse.work")
            await until(lambda: cut.started)
            proxy.hold(up=True, down=True)
            held = run_of(worker).leases.held[0]
            async with working(other.app, concurrency=1, queues=["default"]):
                await until(lambda: other.started, FOR_EVER)
                proxy.heal()
                await until(lambda: worker.not_ready_reason is None, FOR_EVER)
                with pytest.raises(TimeoutError):  # it never counts as its own again
                    await until(lambda: run_of(worker).leases.valid(held), 1.5 * ACK_WAIT)
                cut.ends.set()
                await until(lambda: not worker.running)
                assert await job.astatus() == "running"
                other.ends.set()
                expected = "dead" if other.fails else "succeeded"
                async with asyncio.timeout(FOR_EVER):
                    while await job.astatus() != expected:
                        await asyncio.sleep(0.05)
            broker = await producer.session.broker()
            assert len(await broker.dead("default")) == other.fails
            await producer.session.aclose()
        assert (cut.started, other.started) == (1, 1)


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_a_consumer_that_is_deleted_has_nothing_started_beside_itself(
    concurrency: int, nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: also when all slots are taken, so that the worker asks for nothing and hears of nothing."""
    runs = Runs(fresh_app(nats_url, ack_wait=ACK_WAIT))
    async with working(runs.app, concurrency=concurrency, queues=["default"]) as worker:
        job = await runs.app.asend("lapse.work")
        await until(lambda: runs.started)
        with caplog.at_level(logging.WARNING, "jetq.worker"):
            await delete_consumer(nats_url, runs.app)
            await until(lambda: "is handed out here again while it runs" in caplog.text, FOR_EVER)
        runs.ends.set()
        assert await job.aresult(timeout=FOR_EVER) == "done"
        await until(lambda: not worker.running)
        # Once acknowledged for good, it cannot come again.
        broker = await runs.app.session.broker()
        await until_empty(broker)
        assert runs.started == 1


async def test_a_job_whose_lease_is_lost_is_not_started_beside_itself_when_another_worker_gives_it_back(
    nats_url: str,
) -> None:
    """Guarantee: given back it is a new message; still it waits here until the run that lost its lease is over."""
    runs = Runs(fresh_app(nats_url, ack_wait=ACK_WAIT))
    async with working(runs.app, concurrency=10, queues=["default"]) as worker:
        job = await runs.app.asend("lapse.work")
        await until(lambda: runs.started)
        (held,) = run_of(worker).leases.held
        held.since = -math.inf
        await (await runs.app.session.broker()).give_back(held, came_back(held))
        async with asyncio.timeout(FOR_EVER):
            while runs.started == 1 and await job.astatus() != "scheduled":
                await asyncio.sleep(0.05)
        assert runs.started == 1
        runs.ends.set()
        await until(lambda: not worker.running)
        assert await job.aresult(timeout=FOR_EVER) == "done"
        assert runs.started == 2


async def test_of_two_workers_who_run_a_job_because_its_consumer_is_gone_the_holder_settles_it(nats_url: str) -> None:
    """Guarantee: which of them gets it of the new consumer is not said; what becomes of the job is."""
    one = Runs(fresh_app(nats_url, ack_wait=ACK_WAIT))
    two = Runs(Jetq(nats_url, namespace=one.app.settings.namespace, ack_wait=ACK_WAIT))
    one.fails = True
    async with working(one.app, concurrency=1, queues=["default"]) as first:
        job = await one.app.asend("lapse.work")
        await until(lambda: one.started)
        held = run_of(first).leases.held[0]
        token = held.token
        async with working(two.app, concurrency=10, queues=["default"]) as second:
            await delete_consumer(nats_url, one.app)
            await until(lambda: two.started or held.token != token, FOR_EVER)
            await until(lambda: not two.started or not run_of(first).leases.valid(held), FOR_EVER)
            one.ends.set()
            await until(lambda: not first.running, FOR_EVER)
            two.ends.set()
            await until(lambda: not second.running, FOR_EVER)
            async with asyncio.timeout(FOR_EVER):
                while await job.astatus() not in ("dead", "succeeded"):
                    await asyncio.sleep(0.05)
            broker = await two.app.session.broker()
            letters = len(await broker.dead("default"))
            await until_empty(broker)
            assert (await job.astatus(), letters) == (("succeeded", 0) if two.started else ("dead", 1))
    assert one.started + two.started <= 2


async def test_a_consumer_that_others_made_anew_is_noticed(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs(fresh_app(nats_url, ack_wait=ACK_WAIT))
    async with working(runs.app, concurrency=1, queues=["default"]):
        job = await runs.app.asend("lapse.work")
        await until(lambda: runs.started)
        info = await consumer(nats_url, runs.app)
        stream, name = info["stream_name"], info["name"]
        with caplog.at_level(logging.WARNING, "jetq.worker"):
            await api(nats_url, f"CONSUMER.DELETE.{stream}.{name}")
            await api(
                nats_url,
                f"CONSUMER.CREATE.{stream}.{name}",
                {"stream_name": stream, "config": info["config"], "action": "create"},
            )
            await until(lambda: "is handed out here again while it runs" in caplog.text, FOR_EVER)
            # A look between the two requests says "deleted" first, and "made anew" two seconds later.
            await until(lambda: "its consumer was made anew" in caplog.text, FOR_EVER)
        runs.ends.set()
        assert await job.aresult(timeout=FOR_EVER) == "done"
        assert runs.started == 1


async def test_a_shortened_ack_wait_is_followed_within_seconds(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs(fresh_app(nats_url, ack_wait=600.0))
    other = Runs(Jetq(nats_url, namespace=runs.app.settings.namespace))
    async with working(runs.app, concurrency=1, queues=["default"]) as worker:
        job = await runs.app.asend("lapse.work")
        await until(lambda: runs.started)
        held = run_of(worker).leases.held[0]
        first = held.since
        await until(lambda: held.since > first, FOR_EVER)  # a lease of minutes is renewed as well, for this
        with caplog.at_level(logging.WARNING, "jetq.worker"):
            await set_ack_wait(nats_url, runs.app, ACK_WAIT)
            await until(lambda: f"leases last {ACK_WAIT:g} s now, not 600 s" in caplog.text, FOR_EVER)
        async with working(other.app, queues=["default"]):
            renewed = held.since
            await until(lambda: held.since > renewed + 2 * ACK_WAIT, FOR_EVER)
            runs.ends.set()
            assert await job.aresult(timeout=FOR_EVER) == "done"
        assert (runs.started, other.started) == (1, 0)


async def until_empty(broker: Any) -> None:
    async with asyncio.timeout(FOR_EVER):
        while any(info.ready or info.running for info in await broker.queues()):
            await asyncio.sleep(0.05)
