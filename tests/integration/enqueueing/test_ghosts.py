"""Ghosts: what was reported as failed must not be stored, removed or changed later."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from secrets import token_hex
from typing import Any

import pytest

from jetq import Jetq
from jetq.broker import Broker
from jetq.errors import BrokerError, BrokerUnavailable, NotSent, NotStored, Rejected
from jetq.jetstream.broker.enqueueing import Enqueueing
from tests.apps.working import working
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsServer, NatsServerFactory

WITHIN = 1.0
"""Seconds that an enqueue may take here."""

MOMENT = 10.0


class Shop:
    """An app whose connections stand, and its server behind a proxy."""

    def __init__(self, server: NatsServer, url: str) -> None:
        self.server = server
        self.app = Jetq(url, namespace=f"t{token_hex(4)}", publish_timeout=WITHIN, connect_timeout=WITHIN)

        @self.app.task(name="charge", result_ttl=60)
        def charge(n: int) -> int:
            return n

        self.charge = charge

    def on_broker(self, work: Callable[[Broker], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            return await work(await self.app.session.broker())

        return self.app.session.run(run)

    def connected(self) -> bool:
        async def look(broker: Any) -> bool:
            return bool(broker.connection.connected)

        return bool(self.on_broker(look))

    def stored_jobs(self) -> list[str]:
        """The ids of all that stands, once the connection is back and what it had to say was said."""

        async def look(broker: Any) -> list[str]:
            async with asyncio.timeout(MOMENT):
                while not broker.connection.connected:
                    await asyncio.sleep(0.02)
                await broker.connection.ping(MOMENT)
                await asyncio.sleep(0.1)
                await broker.connection.ping(MOMENT)
            return [found.delivery.id for found in await broker.stored_jobs("default")]

        return list(self.on_broker(look))

    def lose(self) -> None:
        """End the server, and return when the connection knows."""
        self.server.kill()
        until = time.monotonic() + MOMENT
        while self.connected():
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def server(nats_server: NatsServerFactory) -> NatsServer:
    return nats_server()


@pytest.fixture
def shop(server: NatsServer) -> Iterator[Shop]:
    shop = Shop(server, server.url)
    shop.charge.delay(0)
    yield shop
    shop.app.session.close()


# --- the connection is known to be gone


async def later(task: Any) -> Any:
    return await task.adelay(1)


ENQUEUES: dict[str, Callable[[Shop], object]] = {
    "delay": lambda shop: shop.charge.delay(1),
    "adelay": lambda shop: shop.app.session.run(lambda: later(shop.charge)),
    "send": lambda shop: shop.app.send("charge", {"n": 1}),
    "id": lambda shop: shop.charge.options(id="order-1").delay(1),
    "key": lambda shop: shop.charge.options(key="k").delay(1),
    "delayed": lambda shop: shop.charge.options(delay=60).delay(1),
    "throttled": lambda shop: shop.charge.options(key="t", throttle=60).delay(1),
    "replacing": lambda shop: shop.charge.options(key="r", replace=True, delay=60).delay(1),
    "many": lambda shop: shop.charge.delay_many(shop.charge.bind(n) for n in range(3)),
    "many with ids": lambda shop: shop.charge.delay_many(shop.charge.options(id=f"o-{n}").bind(n) for n in range(3)),
}


@pytest.mark.parametrize("way", ENQUEUES)
def test_without_a_connection_nothing_is_sent_and_that_is_said(shop: Shop, way: str) -> None:
    """Guarantee: what an enqueue reported as surely not stored is not stored later."""
    before = shop.stored_jobs()
    shop.lose()
    began = time.monotonic()
    with pytest.raises(NotSent) as caught:
        ENQUEUES[way](shop)
    assert time.monotonic() - began < 5 * WITHIN + 5  # within its timeout, and this machine's
    assert isinstance(caught.value, Rejected)
    assert isinstance(caught.value, BrokerUnavailable)
    assert caught.value.job_ids
    assert "connection refused" in str(caught.value)
    shop.server.start()
    assert shop.stored_jobs() == before
    assert shop.charge.delay(2).disposition == "new"


def test_an_enqueue_waits_for_the_connection_and_is_stored_once(server: NatsServer) -> None:
    shop = Shop(server, server.url)
    shop.app = Jetq(server.url, namespace=shop.app.settings.namespace, publish_timeout=20)
    task = shop.app.task(name="charge")(_charge)
    task.delay(0)
    shop.lose()
    jobs: list[Any] = []
    thread = threading.Thread(target=lambda: jobs.append(task.delay(1)))
    thread.start()
    time.sleep(0.05)
    server.start()
    thread.join(20)
    assert [job.disposition for job in jobs] == ["new"]
    assert shop.stored_jobs().count(jobs[0].id) == 1
    shop.app.session.close()


def _charge(n: int) -> int:
    return n


def test_what_else_failed_without_a_connection_does_not_happen_later(shop: Shop) -> None:
    """A cancel, a schedule, a purge, a pause: who was told that it failed may have done something else meanwhile."""
    job = shop.charge.options(id="keep").delay(1)
    shop.lose()
    for act in (
        lambda: job.cancel(timeout=1),
        lambda: shop.app.schedule("digest", shop.charge.bind(1), every=3600),
        lambda: shop.on_broker(lambda broker: broker.purge("default")),
        lambda: shop.on_broker(lambda broker: broker.remove("default", 2)),
        lambda: shop.on_broker(lambda broker: broker.pause("default")),
    ):
        with pytest.raises(BrokerError):
            act()
    shop.server.start()
    assert "keep" in shop.stored_jobs()
    assert shop.app.schedules() == []
    (info,) = shop.on_broker(lambda broker: broker.queues())
    assert info.paused_until is None


@pytest.mark.parametrize("many", [False, True])
def test_who_gave_up_waiting_has_stored_nothing_either(server: NatsServer, many: bool) -> None:
    shop = Shop(server, server.url)
    shop.app = Jetq(server.url, namespace=shop.app.settings.namespace, publish_timeout=30)
    task = shop.app.task(name="charge")(_charge)
    task.delay(0)
    before = shop.stored_jobs()

    async def enqueue() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await (task.adelay_many(task.bind(n) for n in range(5)) if many else task.adelay(1))

    shop.lose()
    shop.app.session.run(enqueue)
    server.start()
    assert shop.stored_jobs() == before
    shop.app.session.close()


# --- what was sent, and not confirmed


class Loop:
    """A loop on a thread, for the proxy: the test itself is not async."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, act: Callable[..., None], **how: bool) -> None:
        async def run() -> None:
            act(**how)

        self.run(run())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def held(server: NatsServer) -> Iterator[tuple[Shop, Proxy, Loop]]:
    """A shop whose server's answers can be held back."""
    loop = Loop()
    proxy = Proxy(server.port)
    loop.run(proxy.start())
    shop = Shop(server, proxy.url)
    shop.charge.delay(0)
    yield shop, proxy, loop
    loop.call(proxy.heal)
    shop.app.session.close()
    loop.run(proxy.stop())
    loop.close()


@pytest.mark.parametrize("way", ["delay", "id", "key", "delayed"])
def test_what_was_sent_and_not_confirmed_is_said_to_be_unsure_and_its_repeat_is_safe(
    held: tuple[Shop, Proxy, Loop], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, proxy, loop = held
    # As on a connection that has stood for two minutes: on a new one an id that was given is looked for first.
    monkeypatch.setattr(Enqueueing, "_may_have_forgotten", False)
    loop.call(proxy.hold, up=False, down=True)
    with pytest.raises(NotStored) as caught:
        ENQUEUES[way](shop)
    (id,) = caught.value.job_ids
    assert f'charge.options(id="{id}").delay(...)' in str(caught.value.hint)
    assert not isinstance(caught.value, Rejected)
    loop.call(proxy.heal)
    options: dict[str, Any] = {"id": id}
    options |= {"key": "k"} if way == "key" else {"delay": 60} if way == "delayed" else {}
    repeated = shop.charge.options(**options).delay(1)
    assert (repeated.id, repeated.disposition) == (id, "existing")
    assert shop.stored_jobs().count(id) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("way", ["delay", "adelay", "id", "delayed", "repeat"])
async def test_a_confirmation_that_was_lost_with_a_restart_is_found_in_what_the_job_left(
    server: NatsServer, end: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: the repeat of an enqueue stores no job anew that has ended meanwhile and left a result or letter."""
    namespace = f"t{token_hex(4)}"
    there = Jetq(server.url, namespace=namespace)
    ran: list[int] = []
    two_ran = asyncio.Event()

    @there.task(name="charge", result_ttl=60)
    async def charge(n: int) -> int:
        ran.append(n)
        if n == 1:
            two_ran.set()
        return n

    proxy = Proxy(server.port)
    await proxy.start()
    app = Jetq(proxy.url, namespace=namespace, publish_timeout=30)
    task = app.task(name="charge", result_ttl=60)(_charge)

    async def enqueue() -> Any:
        if way == "adelay":
            return await task.adelay(1)
        options: dict[str, Any] = {"id": "order-1"} if way in ("id", "repeat") else {}
        if way == "delayed":
            options["delay"] = 0.05
        return await asyncio.to_thread(task.options(**options).delay if options else task.delay, 1)

    if way == "id":  # as on a connection that has stood for two minutes
        monkeypatch.setattr(Enqueueing, "_may_have_forgotten", False)
    async with asyncio.timeout(45):
        async with working(there):
            await task.adelay(5)
            for n in (2, 3):  # the second opens a line
                await asyncio.to_thread(task.delay, n)
            proxy.hold(up=False, down=True)
            enqueueing: asyncio.Task[Any] | None = None
            if way == "repeat":  # another process was told that it is not known
                await charge.options(id="order-1").adelay(1)
            else:
                enqueueing = asyncio.create_task(enqueue())
            await two_ran.wait()
            while not await _is_over(there, len(ran)):
                await asyncio.sleep(0.05)
            getattr(server, end)()
            server.start()
            proxy.reset()  # the answers that are held back are lost
            proxy.heal()
            job = await (enqueueing or enqueue())
            assert await job.aresult(timeout=30) == 1
            assert await (await charge.adelay(4)).aresult(timeout=30) == 4
            assert ran.count(1) == 1
            assert job.disposition == ("existing" if way in ("id", "repeat") else "new")
    await app.session.aclose()
    await there.session.aclose()
    app.session.close()
    await proxy.stop()


async def _is_over(app: Jetq, results: int) -> bool:
    """Whether so many results are kept and nothing stands any more."""
    broker: Any = await app.session.broker()
    info = await broker.api.stream_info(broker.subjects.results)
    return bool(info["state"]["messages"] >= results) and not await broker.stored_jobs("default")
