"""The connection's life: messages, lost servers, paused servers, hostile frames, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jetq.errors import BrokerUnavailable
from jetq.jetstream.transport.connection import Connection, NoReply, NoResponders
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from jetq.settings import Settings
from tests.integration.connection.impostor import impostor, pretend_nats
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


class Watched:
    """A connection, the messages on `test.>`, and how often it was lost and came back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got: list[Message] = []
        self.ups = 0
        self.downs = 0
        self.changed = asyncio.Event()

    @property
    def data(self) -> list[bytes]:
        return [msg.data for msg in self.got]

    async def start(self) -> None:
        self.connection.on_up(self._up)
        self.connection.on_down(self._down)
        await self.connection.subscribe("test.>", self._message)
        await self.connection.ping(5.0)

    async def until(self, holds: Callable[[Watched], bool], within: float) -> None:
        async with asyncio.timeout(within):
            while not holds(self):
                self.changed.clear()
                await self.changed.wait()

    def _up(self) -> None:
        self.ups += 1
        self.changed.set()

    def _down(self) -> None:
        self.downs += 1
        self.changed.set()

    def _message(self, msg: Message) -> None:
        self.got.append(msg)
        self.changed.set()


@asynccontextmanager
async def watched(url: str, *, patient: bool = False, **settings: object) -> AsyncIterator[Watched]:
    """A connection to `url`, closed at the end, in time and without leaving a task behind."""
    before = asyncio.all_tasks()
    all_settings = Settings(servers=(url,), **settings)  # type: ignore[arg-type]
    self = Watched(await Connection.open(all_settings, name="test", patient=patient))
    await self.start()
    try:
        yield self
    finally:
        await self.connection.close()
        assert not [task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task)]


@pytest.fixture
async def shared(nats_url: str) -> AsyncIterator[Watched]:
    async with watched(nats_url) as self:
        yield self


async def tell(url: str, *frames: bytes, login: bytes = b'"user":""') -> None:
    """Write protocol frames as no client library would, and have the server read them."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    hello = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,%s}\r\n' % login
    writer.write(hello + b"".join(frames) + b"PING\r\n")
    while (line := await reader.readline()) != b"PONG\r\n":
        assert line.startswith(b"INFO"), line
    writer.close()
    await writer.wait_closed()


# --- messages


async def test_messages_come_in_order_with_their_headers(shared: Watched) -> None:
    for number in range(3000):
        headers = header_block({"N": str(number), "V": "grün"})
        await shared.connection.publish("test.n", b"%d" % number, "reply.here", headers)
    await shared.connection.ping(5.0)
    assert shared.data == [b"%d" % number for number in range(3000)]
    assert shared.got[7].headers == {"N": "7", "V": "grün"}
    assert shared.got[7].reply == "reply.here"


async def test_send_and_publish_keep_their_order(shared: Watched) -> None:
    shared.connection.send("test.a", b"1")
    await shared.connection.publish("test.a", b"2")
    shared.connection.send("test.a", b"3", block=header_block({"X": "y"}))
    await shared.connection.ping(5.0)
    assert shared.data == [b"1", b"2", b"3"]


async def test_more_than_the_network_takes_at_once(shared: Watched) -> None:
    async def publish(number: int) -> None:
        for _ in range(10):
            await shared.connection.publish(f"test.{number}", bytes(500_000))

    await asyncio.gather(*(publish(number) for number in range(10)))
    await shared.connection.ping(20.0)
    assert [len(data) for data in shared.data] == [500_000] * 100


async def test_a_header_cannot_break_out_of_its_line(shared: Watched) -> None:
    for headers in ({"a": "x\r\nPUB test.b 0\r\n"}, {"a\n": "x"}, {"a": "\r"}):
        with pytest.raises(ValueError, match="line break"):
            header_block(headers)
        with pytest.raises(ValueError, match="line break"):
            await shared.connection.request("test.a", headers=headers, timeout=5.0)
    await shared.connection.ping(5.0)
    assert shared.got == []
    assert header_block({"a": "b", "c": "d"}) == b"NATS/1.0\r\na: b\r\nc: d\r\n\r\n"


async def test_a_coroutine_handler_gets_one_message_after_the_other(shared: Watched) -> None:
    seen: list[tuple[str, bytes]] = []
    done = asyncio.Event()

    async def handle(msg: Message) -> None:
        seen.append(("starts", msg.data))
        await asyncio.sleep(0.001)
        seen.append(("ends", msg.data))
        if msg.data == b"2":
            done.set()

    await shared.connection.subscribe("mine", handle)
    for number in (b"0", b"1", b"2"):
        await shared.connection.publish("mine", number)
    async with asyncio.timeout(5.0):
        await done.wait()
    assert seen == [(what, number) for number in (b"0", b"1", b"2") for what in ("starts", "ends")]


async def test_a_handler_that_fails_is_logged_and_goes_on(shared: Watched, caplog: pytest.LogCaptureFixture) -> None:
    async def fail_later(msg: Message) -> None:
        raise RuntimeError("later")

    def fail(msg: Message) -> None:
        raise RuntimeError("at once")

    await shared.connection.subscribe("test.bad", fail_later)
    await shared.connection.subscribe("test.bad", fail)
    await shared.connection.publish("test.bad", b"1")
    await shared.connection.publish("test.bad", b"2")
    await shared.connection.ping(5.0)
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["the handler of test.bad failed"] * 4
    assert shared.data == [b"1", b"2"]


async def test_unsubscribe_ends_it_at_once(shared: Watched) -> None:
    got: list[bytes] = []

    async def handle(msg: Message) -> None:
        got.append(msg.data)

    subscription = await shared.connection.subscribe("mine", handle)
    await shared.connection.publish("mine", b"1")
    await shared.connection.ping(5.0)
    await asyncio.sleep(0)
    await shared.connection.publish("mine", b"2")
    await subscription.unsubscribe()
    await shared.connection.ping(5.0)
    assert got == [b"1"]
    await subscription.unsubscribe()
    await subscription.drain()


async def test_one_message_to_many_keeps_its_place_among_others(shared: Watched) -> None:
    connection = shared.connection
    connection.send("test.first", b"1")
    connection.send_each([f"test.{n}" for n in range(3)], b"+ACK")
    connection.send_each([], b"+ACK")
    connection.send("test.last", b"2", "reply")
    await connection.ping(5.0)
    assert [(msg.subject, msg.data) for msg in shared.got] == [
        ("test.first", b"1"), ("test.0", b"+ACK"), ("test.1", b"+ACK"), ("test.2", b"+ACK"), ("test.last", b"2"),
    ]  # fmt: skip


async def test_who_sends_much_is_told_when_the_network_is_behind(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        connection = self.connection
        server.pause()
        try:
            assert connection.free
            while not connection.congested:
                connection.send("test.much", bytes(32 * 1024))
            assert not connection.free
            draining = asyncio.create_task(connection.drained())
            await asyncio.sleep(0.2)
            assert not draining.done()
        finally:
            server.resume()
        async with asyncio.timeout(5.0):
            await draining
        assert connection.free


async def test_drain_hands_over_what_was_under_way(shared: Watched) -> None:
    got: list[bytes] = []

    async def handle(msg: Message) -> None:
        await asyncio.sleep(0)
        got.append(msg.data)

    subscription = await shared.connection.subscribe("mine", handle)
    for _ in range(100):
        await shared.connection.publish("mine", b"x")
    await subscription.drain()
    assert len(got) == 100
    await shared.connection.publish("mine", b"late")
    await shared.connection.ping(5.0)
    assert b"late" not in got


async def test_requests(shared: Watched) -> None:
    async def answer(msg: Message) -> None:
        headers = {"Status": "503"} if msg.data == b"s" else None
        await shared.connection.publish(msg.reply, msg.data * 2, block=header_block(headers))

    await shared.connection.subscribe("double", answer)
    replies = await asyncio.gather(
        *(shared.connection.request("double", b"%d" % number, timeout=5.0) for number in range(50))
    )
    assert [reply.data for reply in replies] == [b"%d" % number * 2 for number in range(50)]
    assert (await shared.connection.request("double", b"s", timeout=5.0)).data == b"ss"
    with pytest.raises(NoResponders):
        await shared.connection.request("nobody.there", timeout=5.0)
    with pytest.raises(NoReply, match=r"no reply from test\.silence within 0\.05 s"):
        await shared.connection.request("test.silence", timeout=0.05)


async def test_what_the_server_takes(shared: Watched) -> None:
    assert shared.connection.max_payload == 1024 * 1024
    assert shared.connection.server_version >= (2, 14, 0)
    assert shared.connection.connected and not shared.connection.closed
    assert shared.connection.new_inbox() != shared.connection.new_inbox()


# --- a server that goes and comes back


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
            assert self.connection.trouble is None
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
            while self.connection.trouble is None:
                await asyncio.sleep(0.01)
        assert self.connection.trouble.message == f"cannot connect to NATS at {server.url}: connection refused"
        # What is held back is bounded.
        with pytest.raises(BrokerUnavailable) as caught:
            for _ in range(10):
                await self.connection.publish("test.big", bytes(1_000_000))
        assert caught.value.message == self.connection.trouble.message
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
        await asyncio.sleep(13.0)
        assert self.downs == 0


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


# --- the end


async def test_closing(nats_url: str) -> None:
    async with watched(nats_url) as other, watched(nats_url) as self:
        for _ in range(200):
            self.connection.send("test.last", bytes(1000))
        started = time.monotonic()
        await asyncio.gather(self.connection.close(), self.connection.close())
        assert time.monotonic() - started < 2.0
        assert self.connection.closed and not self.connection.connected
        await other.until(lambda s: len(s.got) == 200, 5.0)
        for use in (
            lambda: self.connection.publish("test.x", b""),
            lambda: self.connection.request("test.x", timeout=1.0),
            lambda: self.connection.subscribe("test.x", lambda msg: None),
            lambda: self.connection.ping(1.0),
        ):
            with pytest.raises(BrokerUnavailable, match="the connection to NATS was closed"):
                await use()


async def test_closing_while_the_server_is_gone(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        server.kill()
        await self.until(lambda s: s.downs == 1, 5.0)
        waiting = asyncio.create_task(self.connection.request("test.x", timeout=30.0))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await self.connection.close()
        assert time.monotonic() - started < 2.0
        with pytest.raises(NoReply, match="the connection was closed"):
            await waiting


async def test_closing_while_the_server_is_paused(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        server.pause()
        await self.connection.publish("test.x", bytes(1_000_000))
        started = time.monotonic()
        await self.connection.close()
        assert time.monotonic() - started < 2.0
        server.resume()


async def test_closing_from_a_handler(nats_url: str) -> None:
    connection = await Connection.open(Settings(servers=(nats_url,)), name="test")
    closed = asyncio.Event()

    async def handle(msg: Message) -> None:
        await connection.close()
        closed.set()

    await connection.subscribe("end", handle)
    await connection.publish("end", b"")
    async with asyncio.timeout(5.0):
        await closed.wait()


async def run(program: str) -> str:
    """What the program printed. It must exit with 0 and without a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err, err.decode()
    return out.decode()


async def test_a_loop_that_ends_without_closing(nats_url: str) -> None:
    said = await run(f"""
        import asyncio
        from jetq.jetstream.transport.connection import Connection
        from jetq.settings import Settings

        async def main():
            connection = await Connection.open(Settings(servers=({nats_url!r},)), name="test")
            async def handle(msg): pass
            await connection.subscribe("x", handle)
            await connection.publish("x", b"")
            return connection

        for _ in range(2):
            kept = asyncio.run(main())
        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(main())
        loop.close()
        print("fine")
    """)
    assert said == "fine\n"


FORK_WITHIN = """
    connection = await Connection.open(Settings(servers=(URL,)), name="test")
    await connection.ping(5.0)
    child = os.fork()
    if child == 0:
        raise SystemExit(0)  # unwinds the child's copy of the loop
    os.waitpid(child, 0)
    await connection.ping(5.0)
    await connection.close()
"""
FORK_BETWEEN = """
with asyncio.Runner() as runner:
    connection = runner.run(Connection.open(Settings(servers=(URL,)), name="test"))
    runner.run(connection.ping(5.0))
    child = os.fork()
    if child == 0:
        raise SystemExit(0)  # closes the child's copy of the loop
    os.waitpid(child, 0)
    runner.run(connection.ping(5.0))
    runner.run(connection.close())
"""
FORKS = {"between": FORK_BETWEEN}
if sys.version_info < (3, 14):  # whose loop never ends in a child of its own: the child has no running loop and no task
    FORKS["within"] = f"async def main():{FORK_WITHIN}\nasyncio.run(main())"


@pytest.mark.parametrize("fork", FORKS)
async def test_a_forked_child_does_not_cut_its_parents_connection(fork: str, nats_url: str) -> None:
    imports = "import asyncio, os\nfrom jetq.jetstream.connection import Connection\nfrom jetq.settings import Settings"
    said = await run(f"{imports}\nURL = {nats_url!r}\n{FORKS[fork]}\nprint('fine')")
    assert said == "fine\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
