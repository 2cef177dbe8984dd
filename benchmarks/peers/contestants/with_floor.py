"""The floor: what nats-py does by hand, with none of jetq's care. One stream in a file, a Msg-Id and an ack per job.

Publishing: one inbox for all acknowledgements, as many under way as there are callers. Draining: one long pull that is
asked again at half, a task per job.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
from _protocol import BODY, Options, Store, note, run
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

STREAM, SUBJECT, DURABLE = "FLOOR", "floor.run.noop.-.", "floor"
BATCH = 200


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Client]:
    client = await nats.connect(options.url)
    await client.jetstream().add_stream(
        StreamConfig(STREAM, subjects=[SUBJECT + ">"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE)
    )
    await client.jetstream().add_consumer(STREAM, ConsumerConfig(durable_name=DURABLE, max_ack_pending=-1))
    yield client
    await client.close()


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    waiting: dict[str, asyncio.Future[None]] = {}
    numbers = itertools.count()

    async def on_ack(msg: Msg) -> None:
        assert b'"error"' not in msg.data, msg.data
        waiting.pop(msg.subject.rpartition(".")[2]).set_result(None)

    async with connected(options) as client:
        inbox = client.new_inbox()
        await client.subscribe(f"{inbox}.*", cb=on_ack)

        async def store(number: int, sent: float) -> None:
            token = str(next(numbers))
            future = waiting[token] = asyncio.get_running_loop().create_future()
            body = json.dumps({"number": number, "sent": sent, "payload": BODY}).encode()
            id = f"{inbox}-{token}"[7:]
            await client.publish(SUBJECT + id, body, f"{inbox}.{token}", {"Nats-Msg-Id": id})
            await future

        yield store


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    outstanding = 0
    tasks: set[asyncio.Task[None]] = set()

    async def job(msg: Msg) -> None:
        call = json.loads(msg.data)
        note(call["number"], call["sent"])
        await client.publish(msg.reply, b"+ACK")

    async def ask() -> None:
        nonlocal outstanding
        outstanding += BATCH
        request = json.dumps({"batch": BATCH, "expires": 30_000_000_000}).encode()
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{DURABLE}", request, inbox)

    async def on_job(msg: Msg) -> None:
        nonlocal outstanding
        if not msg.reply.startswith("$JS.ACK."):
            return
        task = asyncio.create_task(job(msg))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        outstanding -= 1
        if outstanding <= BATCH // 2:
            await ask()

    async with connected(options) as client:
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=on_job, pending_msgs_limit=0, pending_bytes_limit=0)
        await ask()
        await until()
        await client.flush()


if __name__ == "__main__":
    run(producer=producer, work=work)
