"""The connection's life: lost servers, paused servers and hostile frames."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from jetq.errors import BrokerUnavailable
from jetq.jetstream.transport.connection import NoReply
from tests.apps.staying import stays_so_for
from tests.integration.connection.impostor import impostor, pretend_nats
from tests.integration.connection.watched import Watched, tell, watched
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("end", [NatsServer.kill, NatsServer.stop])
async def test_a_restart_of_the_server_is_survived(
    nats_server: NatsServerFactory, caplog: pytest.LogCaptureFixture, end: Callable[[NatsServer], None]
) -> None:
    """Guarantee: after a server restart work goes on without a new connection object or subscription."""
    caplog.set_level(logging.INFO, "jetq")
    server = nats_server()
    async with watched(server.url) as self:
        for round in range(1, 4):
            end(server)
            await self.until(lambda s, n=round: s.downs == n, 5.0)  # type: ignore[misc]
            assert not self.connection.connected
            await self.connection.publish("test.held", b"%d" % round)
            with pytest.raises(NoReply):
                await self.connection.ping(0.05)
            server.start()
            await self.until(lambda s, n=round: s.ups == n, 5.0)  # type: ignore[misc]
            await self.connection.ping(5.0)
            assert self.data == [b"%d" % n for n in range(1, round + 1)]
            assert self.connection.problem is None
        await self.connection.request("$JS.API.INFO", timeout=5.0)
    messages = [record.getMessage() for record in caplog.records]
    assert len([text for text in messages if f"connection to {server.url} lost" in text]) == 3
    assert len([text for text in messages if f"connected to {server.url} again after" in text]) == 3
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_request_does_not_outlive_its_connection(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        request = asyncio.create_task(self.connection.request("test.silence", timeout=30.0))
        await self.until(lambda s: len(s.got) == 1, 5.0)
        server.kill()
        started = time.monotonic()
        with pytest.raises(NoReply, match="the connection was lost"):
            await request
        assert time.monotonic() - started < 5.0


async def test_why_there_is_no_connection(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        server.kill()
        await self.until(lambda s: s.downs == 1, 5.0)
        async with asyncio.timeout(5.0):
            while self.connection.problem is None:
                await asyncio.sleep(0.01)
        assert self.connection.problem.message == f"cannot connect to NATS at {server.url}: connection refused"
        # What is held back is bounded.
        with pytest.raises(BrokerUnavailable) as caught:
            for _ in range(10):
                await self.connection.publish("test.big", bytes(1_000_000))
        assert caught.value.message == self.connection.problem.message
        assert caught.value.hint == "8 MiB wait to be sent; no more is taken until it is back"


async def test_a_connection_the_server_closes_is_made_anew(nats_server: NatsServerFactory) -> None:
    """nats-py closes for good when the server ends a connection with an error; jetq does not."""
    server = nats_server()
    async with watched(server.url) as self:
        await self.connection.publish("test.big", bytes(2_000_000))
        await self.until(lambda s: s.downs == 1 and s.ups == 1, 5.0)
        await self.connection.publish("test.small", b"1")
        await self.connection.ping(5.0)
        assert self.data == [b"1"]


async def test_a_subscription_ended_while_down_stays_ended(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        got: list[bytes] = []
        subscription = await self.connection.subscribe("mine", lambda msg: got.append(msg.data))
        server.kill()
        await self.until(lambda s: s.downs == 1, 5.0)
        await subscription.unsubscribe()
        made_while_down = await self.connection.subscribe("other", lambda msg: got.append(msg.data))
        server.start()
        await self.until(lambda s: s.ups == 1, 5.0)
        await self.connection.publish("mine", b"mine")
        await self.connection.publish("other", b"other")
        await self.connection.ping(5.0)
        assert got == [b"other"]
        await made_while_down.unsubscribe()


async def test_a_callback_that_fails_or_is_taken_back(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        called: list[str] = []

        def fail() -> None:
            called.append("fail")
            raise RuntimeError

        def forgotten() -> None:
            called.append("forgotten")

        self.connection.on_up(fail)
        self.connection.on_up(forgotten)
        self.connection.off_up(forgotten)
        self.connection.off_up(forgotten)
        server.kill()
        server.start()
        await self.until(lambda s: s.ups == 1, 5.0)
        assert called == ["fail"]
        assert self.connection.connected


async def test_a_lame_duck_is_survived(nats_server: NatsServerFactory) -> None:
    server = nats_server('lame_duck_duration: "30s"\nlame_duck_grace_period: "0.5s"')
    async with watched(server.url) as self:
        os.kill(server.pid, signal.SIGUSR2)
        await self.until(lambda s: s.downs == 1, 15.0)
        server.stop()
        server.start()
        await self.until(lambda s: s.ups == 1, 5.0)


@pytest.mark.slow
async def test_another_server_of_the_cluster_is_found(nats_server: NatsServerFactory) -> None:
    """The second server is not configured, the first one tells of it; the credentials go to it as well."""
    ports = [free_port() for _ in range(2)]
    routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
    first, second = (
        nats_server(
            f'server_name: n{port}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
            "authorization { user: bob, password: pw }"
        )
        for port in ports
    )
    async with watched(first.url, patient=True, user="bob", password="pw") as self:
        async with asyncio.timeout(10.0):
            while second.url not in self.connection.servers:
                await asyncio.sleep(0.01)
        first.kill()
        await self.until(lambda s: s.ups == 1, 10.0)
        await self.connection.ping(5.0)
        await tell(second.url, b"PUB test.x 1\r\n1\r\n", login=b'"user":"bob","pass":"pw"')
        await self.until(lambda s: s.data == [b"1"], 5.0)


# --- a server that is there and does not answer


@pytest.mark.slow
async def test_a_paused_server_is_noticed(nats_server: NatsServerFactory) -> None:
    """Guarantee: silence is noticed within 15 s, and the connection is back when the server is."""
    server = nats_server()
    async with watched(server.url, connect_timeout=1.0) as self:
        server.pause()
        started = time.monotonic()
        await self.until(lambda s: s.downs == 1, 15.0)
        assert time.monotonic() - started > 5.0
        await asyncio.sleep(2.5)  # some attempts to connect to the paused server
        server.resume()
        await self.until(lambda s: s.ups == 1, 10.0)
        await self.connection.publish("test.again", b"1")
        await self.connection.ping(5.0)
        assert self.data[-1] == b"1"


@pytest.mark.slow
async def test_silence_without_traffic_and_a_blocked_loop_are_no_loss(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        time.sleep(13.0)  # what is tested: user code that blocks the loop
        await self.connection.ping(5.0)
        await stays_so_for(13.0, lambda: self.downs == 0)


# --- hostile frames


def with_headers(block: bytes) -> bytes:
    return b"HPUB test.x %d %d\r\n%shi\r\n" % (len(block), len(block) + 2, block)


HOSTILE = {
    "an empty header block": with_headers(b"NATS/1.0"),
    "a header block of one line": with_headers(b"NATS/1.0\r\n"),
    "no header block": with_headers(b"x"),
    "a status that is no text": with_headers(b"NATS/1.0 404 \xff\xfe\xfd\xfc\xfb\xfa\r\n\r\n"),
    "headers that are no text": with_headers(b"NATS/1.0\r\n\xff: \xfe\r\n\r\n"),
    "a subject that is no text": b"PUB test.\xff\xfe 2\r\nhi\r\n",
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_messages_are_just_messages(shared: Watched, nats_url: str, frame: bytes) -> None:
    """Guarantee: what any client may store cannot end the read loop (nats-py's ends with the first and the last)."""
    await tell(nats_url, frame)
    await tell(nats_url, b"PUB test.after 5\r\nafter\r\n")
    await shared.until(lambda s: b"after" in s.data, 5.0)
    assert shared.data == [b"hi", b"after"]
    assert shared.downs == 0
    assert shared.got[0].subject.isprintable()


@pytest.mark.parametrize("garbage", [b"-ERR\r\n", b"INFO {\r\n", b"WHAT?\r\n", b"MSG x\r\n", b"\x00\xff\r\n"])
async def test_garbage_from_the_server_costs_one_connection(garbage: bytes) -> None:
    """Guarantee: a read loop that ends is noticed at once, whatever ended it."""
    async with impostor(pretend_nats()) as server:
        async with watched(server.url) as self:
            assert server.visits == 1
            server.writers[0].write(garbage)
            await self.until(lambda s: s.ups == 1, 5.0)
            await self.connection.ping(5.0)


async def test_messages_and_words_keep_their_order_however_they_arrive() -> None:
    """What is short is read where it arrives, and what is long in a task that gathers: neither overtakes the other."""
    dice = random.Random(7)
    async with impostor(pretend_nats()) as server, watched(server.url) as self:
        (sid,) = re.findall(rb"SUB test\.>\s+(\d+)", server.heard)
        await self.connection.ping(5.0)
        self.got.clear()
        pongs = server.heard.count(b"PONG")
        assert self.connection.client is not None
        stream: Any = self.connection.client._transport
        arrive = stream._io_writer.transport.get_protocol().data_received
        datas = [b"%d" % number + bytes(dice.randrange(200)) for number in range(5_000)]
        sent = b"".join(
            b"MSG test.n %s %d\r\n%s\r\n" % (sid, len(data), data) + b"PING\r\n" * (number % 50 == 0)
            for number, data in enumerate(datas)
        )
        while sent:  # handed over as a transport does, where several may come in one loop turn
            size = dice.choice((1, 7, 100, 1000, 1024, 1025, 5_000, 40_000))
            arrive(sent[:size])
            sent = sent[size:]
            if dice.random() < 0.5:
                await asyncio.sleep(0)
        await self.until(lambda s: len(s.got) == 5_000, 10.0)
        await self.connection.ping(5.0)
        assert self.data == datas
        assert server.heard.count(b"PONG") == pongs + 100
        assert self.downs == 0


async def test_an_error_of_the_server_that_ends_nothing(
    nats_server: NatsServerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    server = nats_server(
        "authorization { users: [ { user: bob, password: pw,"
        ' permissions: { publish: { deny: "secret.>" }, subscribe: ">" } } ] }'
    )
    async with watched(server.url, user="bob", password="pw") as self:
        await self.connection.publish("secret.x", b"")
        await self.connection.ping(5.0)
        assert self.downs == 0
    assert 'the NATS server said: permissions violation for publish to "secret.x"' in caplog.text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
