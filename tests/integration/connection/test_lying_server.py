"""A server whose words are changed on the way: the connection is given up and made anew, and never hangs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jetq import Jetq
from jetq.errors import BrokerError
from jetq.jetstream.transport import connection as connecting
from jetq.jetstream.transport.connection import Connection, NoReply
from jetq.settings import Settings
from tests.apps.working import fresh_app, until, working
from tests.faults.chaos.proxy import Proxy

pytestmark = pytest.mark.anyio

SEEDS = [20261123, 1, 2]


class Liar:
    """Changes, leaves out, doubles and puts in bytes, from a seed, in about one of `every` chunks."""

    def __init__(self, seed: int, *, every: int) -> None:
        self._random = random.Random(seed)
        self._every = every
        self.lies = 0

    def __call__(self, data: bytes) -> bytes:
        chance = self._random
        if chance.randrange(self._every):
            return data
        self.lies += 1
        lie = bytearray(data)
        for _ in range(chance.choice([1, 1, 3])):
            # Most of them near the beginning, where the numbers of the first control line are.
            at = chance.randrange(min(len(lie), chance.choice([20, 120, 1_000_000])) + 1)
            match chance.randrange(4):
                case 0:
                    lie[at : at + 1] = chance.choice([chance.randbytes(1), b"9", b"\r", b" ", b"0"])
                case 1:
                    del lie[at : at + chance.choice([1, 2, 40])]
                case 2:
                    lie[at:at] = lie[max(0, at - 5) : at]
                case _:
                    lie[at:at] = chance.choice([chance.randbytes(3), b"9", b"\r\n", b"MSG a 1 999\r\n", b"INFO {}\r\n"])
        return bytes(lie)


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(int(url.rpartition(":")[2]))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


@pytest.fixture
def soon_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed after 2 s, with a ping each second, and not after 11."""
    monkeypatch.setattr(connecting, "_SILENT_TICKS", 2)
    monkeypatch.setattr("jetq.jetstream.transport.handshake.PING_INTERVAL", 1)


async def _chatter(connection: Connection, seconds: float) -> None:
    """Ask and be answered for so long; most of it fails."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await connection.ping(0.2)
        except (NoReply, BrokerError):
            await asyncio.sleep(0.05)


async def _answers(connection: Connection, within: float) -> None:
    """Until the connection is one that an answer comes over."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await connection.ping(0.5)
            except (NoReply, BrokerError):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_connection_that_was_lied_to_works_again(nats_url: str, seed: int, soon_noticed: None) -> None:
    """Guarantee: a connection that cannot make out what the server says is given up within seconds, also one over
    which bytes still come."""
    async with proxy_to(nats_url) as proxy:
        connection = await Connection.open(Settings(servers=(proxy.url,), connect_timeout=1.0), name="test")
        liar = Liar(seed, every=4)
        try:
            proxy.lie(liar)
            await _chatter(connection, 1.5)
            proxy.heal()
            await _answers(connection, 12.0)
        finally:
            await connection.close()
        assert liar.lies > 0


LIES: dict[str, Callable[[bytes], bytes]] = {
    "a size too large": lambda data: data.replace(b" 2\r\nhi", b" 2000\r\nhi"),
    "a size beyond all bounds": lambda data: data.replace(b" 2\r\nhi", b" 99999999999\r\nhi"),
    "a size too small": lambda data: data.replace(b" 2\r\nhi", b" 1\r\nhi"),
    "no size": lambda data: data.replace(b" 2\r\nhi", b"\r\nhi"),
    "a word without an end": lambda data: data.replace(b"MSG ", b"MSX" + b"x" * 2_000_000),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_lie_costs_its_connection(nats_url: str, lie: Callable[[bytes], bytes], soon_noticed: None) -> None:
    async with proxy_to(nats_url) as proxy:
        connection = await Connection.open(Settings(servers=(proxy.url,), connect_timeout=1.0), name="test")
        try:
            lost = asyncio.Event()
            connection.on_down(lost.set)
            subject = connection.new_inbox()
            await connection.subscribe(subject, lambda msg: None)
            proxy.lie(lie)
            connection.send(subject, b"hi")
            async with asyncio.timeout(12.0):
                await lost.wait()
            proxy.heal()
            await _answers(connection, 12.0)
        finally:
            await connection.close()


async def test_a_size_near_the_bound_is_not_believed_because_bytes_still_come(
    nats_url: str, soon_noticed: None
) -> None:
    async with proxy_to(nats_url) as proxy:
        connection = await Connection.open(Settings(servers=(proxy.url,), connect_timeout=1.0), name="test")
        try:
            lost = asyncio.Event()
            connection.on_down(lost.set)
            subject = connection.new_inbox()
            await connection.subscribe(subject, lambda msg: None)
            proxy.lie(lambda data: data.replace(b" 2\r\nhi", b" 100000000\r\nhi"))
            connection.send(subject, b"hi")
            async with asyncio.timeout(12.0):
                while not lost.is_set():
                    connection.send(subject, bytes(10_000))
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_worker_that_was_lied_to_takes_jobs_again(nats_url: str, seed: int) -> None:
    """Guarantee: no answer of the server's, however wrong, leaves a worker that is connected and takes no jobs."""
    async with proxy_to(nats_url) as proxy:
        workers = fresh_app(proxy.url, connect_timeout=1.0, ack_wait=5.0)
        producers = Jetq(nats_url, namespace=workers.settings.namespace)
        ran: list[object] = []

        @workers.task(name="good", queue="lied", wait=0.0)
        async def good(n: Any) -> Any:
            ran.append(n)
            return n

        liar = Liar(seed, every=6)
        try:
            async with working(workers, concurrency=4) as worker:
                await until(lambda: worker.not_ready_reason is None)  # one that cannot start may end
                for round in range(3):
                    proxy.lie(liar)
                    async with asyncio.timeout(60.0):  # while it waits to connect again there is nothing to lie about
                        while liar.lies < 7 * (round + 1):
                            await producers.asend("good", {"n": f"{round}-{liar.lies}"}, queue="lied")
                            await asyncio.sleep(0.03)
                    proxy.heal()
                    await producers.asend("good", {"n": round}, queue="lied")
                    await until(lambda round=round: round in ran, 60.0)  # type: ignore[misc]
        finally:
            await producers.session.aclose()
