"""The floor: what nats-py does by hand for the same subjects and headers, with none of jetq's care.

Publishing: one inbox for all acknowledgements, as many under way as there are callers. Draining: one long pull, a task
per job, an ack per job.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from jetq.names import new_job_id

BATCH = 200


class Floor:
    """A bare connection to the stream of one queue of the default namespace."""

    def __init__(self, client: Client, queue: str, task: str) -> None:
        self._client = client
        self._queue = queue
        self._stream = f"{queue.upper()}_JOBS"
        self._subject = f"jetq.{queue}.run.{task.replace('.', ':')}.-."

    @classmethod
    async def connect(cls, url: str, queue: str, task: str) -> Floor:
        return cls(await nats.connect(url), queue, task)

    async def close(self) -> None:
        await self._client.close()

    async def publish(self, count: int, callers: int, body: bytes) -> float:
        """Store `count` jobs with `callers` under way at a time; jobs per second."""
        waiting: dict[str, asyncio.Future[None]] = {}
        inbox = self._client.new_inbox()
        numbers = itertools.count()
        left = iter(range(count))

        async def on_ack(msg: Msg) -> None:
            assert b'"error"' not in msg.data, msg.data
            waiting.pop(msg.subject.rpartition(".")[2]).set_result(None)

        async def caller() -> None:
            for _ in left:
                id, token = new_job_id(), str(next(numbers))
                waiting[token] = asyncio.get_running_loop().create_future()
                future = waiting[token]
                await self._client.publish(self._subject + id, body, f"{inbox}.{token}", {"Nats-Msg-Id": id})
                await future

        subscription = await self._client.subscribe(f"{inbox}.*", cb=on_ack)
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        took = time.perf_counter() - began
        await subscription.unsubscribe()
        return count / took

    async def drain(self, count: int) -> float:
        """Run `count` no-op jobs, a task each, and ack them; jobs per second."""
        done = asyncio.Event()
        finished = outstanding = 0
        inbox = self._client.new_inbox()
        tasks: set[asyncio.Task[None]] = set()

        async def run(msg: Msg) -> None:
            nonlocal finished
            json.loads(msg.data)
            await self._client.publish(msg.reply, b"+ACK")
            finished += 1
            if finished == count:
                done.set()

        async def ask() -> None:
            nonlocal outstanding
            outstanding += BATCH
            request = json.dumps({"batch": BATCH, "expires": 30_000_000_000}).encode()
            await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._queue}", request, inbox)

        async def on_job(msg: Msg) -> None:
            nonlocal outstanding
            if not msg.reply.startswith("$JS.ACK."):
                return
            task = asyncio.create_task(run(msg))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            outstanding -= 1
            if outstanding <= BATCH // 2:
                await ask()

        subscription = await self._client.subscribe(inbox, cb=on_job, pending_msgs_limit=0, pending_bytes_limit=0)
        began = time.perf_counter()
        await ask()
        await done.wait()
        took = time.perf_counter() - began
        await subscription.unsubscribe()
        await self._client.flush()
        assert finished == count, f"{count} jobs stored, {finished} runs"
        return count / took
