"""Messages on a connection: their order, their headers, their handlers, and requests."""

from __future__ import annotations

import asyncio

import pytest

from jetq.jetstream.transport.connection import NoReply, NoResponders
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from tests.apps.staying import stays_so_for
from tests.integration.connection.watched import Watched, watched
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


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
            await stays_so_for(0.2, lambda: not draining.done())
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
