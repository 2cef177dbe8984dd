"""The floor: what nats-py does by hand for the same subjects, headers and bodies, with none of jetq's care.

Publishing: one inbox for all acknowledgements, as many under way as there are callers; for many at once a window.
Working: one long pull per queue, a task per job, an ack per job. Bodies are encoded and decoded, without types, by the
same library that jetq uses. Nothing of jetq is imported here, so that the floor's worker process, which is
`python -m benchmarks.floor`, is as small as such a program is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks import ledger
from benchmarks.names import OTHER, QUEUE, TEXT

__all__ = ["Floor"]

BATCH = 200
"""Jobs that a long pull asks for; half of it is asked for anew when half have come."""

WINDOW = 1000
"""Publishes under way where one caller has many."""

_encode = msgspec.json.encode
_decode = msgspec.json.decode


def _subject(id: str, kind: str = "run") -> str:
    return f"jetq.{QUEUE}.{kind}.bench:noop.-.{id}"


class Acknowledged:
    """Publishes of one connection whose acknowledgements come to one inbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def start(self) -> None:
        """Listen for acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_ack, pending_msgs_limit=0, pending_bytes_limit=0)

    async def begin(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[None]:
        """Send it; the future is done once it is stored."""
        token = str(next(self._numbers))
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        await self._client.publish(subject, body, f"{self._inbox}.{token}", headers)
        return future

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Return once it is stored."""
        await (await self.begin(subject, body, headers))

    async def publish_many(self, messages: Iterable[tuple[str, bytes, dict[str, str]]]) -> None:
        """Return once all are stored."""
        left = iter(messages)
        while batch := [await self.begin(*message) for message in itertools.islice(left, WINDOW)]:
            for future in batch:
                await future

    async def _on_ack(self, msg: Msg) -> None:
        assert b'"error"' not in msg.data, msg.data
        self._waiting.pop(msg.subject.rpartition(".")[2]).set_result(None)


class Floor:
    """A bare connection to the queues of the benchmarks. new_id: makes ids of jobs."""

    def __init__(self, client: Client, new_id: Callable[[], str]) -> None:
        self._client = client
        self._new_id = new_id
        self._stream = client.jetstream()
        self._publishes = Acknowledged(client)
        self._threads = ThreadPoolExecutor(100)

    @classmethod
    async def connect(cls, url: str, new_id: Callable[[], str] = lambda: uuid4().hex) -> Floor:
        floor = cls(await nats.connect(url), new_id)
        await floor._publishes.start()
        return floor

    async def close(self) -> None:
        self._threads.shutdown()
        await self._client.close()

    # --- producing

    async def store(self, number: int) -> None:
        """Store job `number`: nats-py's own publish, awaited."""
        id = self._new_id()
        await self._stream.publish(_subject(id), _body(number), headers={"Nats-Msg-Id": id})

    async def store_quickly(self, number: int) -> None:
        """Store job `number`, acknowledged to the one inbox."""
        id = self._new_id()
        await self._publishes.publish(_subject(id), _body(number), {"Nats-Msg-Id": id})

    async def store_many(self, numbers: Iterable[int]) -> None:
        """Store these jobs."""
        await self._publishes.publish_many(_message(self._new_id(), number) for number in numbers)

    async def schedule_many(self, numbers: Iterable[int], due: float) -> None:
        """Store these jobs for `due`, in unix seconds."""
        at = f"@at {datetime.fromtimestamp(due, UTC).isoformat(timespec='microseconds')}"
        await self._publishes.publish_many(_scheduled(self._new_id(), number, at) for number in numbers)

    # --- working

    @asynccontextmanager
    async def working(self, queues: Iterable[str] = (QUEUE,), slots: int | None = None) -> AsyncIterator[None]:
        """Run and acknowledge what comes meanwhile. slots: at most so many at once; None sets no bound."""
        free = asyncio.Semaphore(slots) if slots is not None else None
        pulls = [_Pull(self._client, queue, lambda msg: self._run(msg, free)) for queue in queues]
        for pull in pulls:
            await pull.start()
        yield
        for pull in pulls:
            await pull.stop()
        await self._client.flush()

    async def _run(self, msg: Msg, free: asyncio.Semaphore | None) -> None:
        arguments = _decode(msg.data)
        handler = _HANDLERS.get(msg.subject.split(".", 4)[3], _note)
        if free is None:
            await handler(self, msg, arguments)
        else:
            async with free:
                await handler(self, msg, arguments)
        await self._client.publish(msg.reply, b"+ACK")


class _Pull:
    """One long pull from the consumer of a queue, and a task for each job it brings."""

    def __init__(self, client: Client, queue: str, run: Callable[[Msg], Any]) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{queue.upper()}_JOBS.{queue}"
        self._run = run
        self._outstanding = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self._ask(BATCH)

    async def stop(self) -> None:
        await self._subscription.unsubscribe()
        await asyncio.gather(*self._tasks)

    async def _ask(self, batch: int) -> None:
        self._outstanding += batch
        request = json.dumps({"batch": batch, "expires": 600_000_000_000}).encode()
        await self._client.publish(self._next, request, self._inbox)

    async def _on_message(self, msg: Msg) -> None:
        if not msg.reply.startswith("$JS.ACK."):
            return
        task = asyncio.create_task(self._run(msg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._outstanding -= 1
        if self._outstanding <= BATCH // 2:
            await self._ask(BATCH // 2)


def _body(number: int) -> bytes:
    return _encode({"number": number, "text": TEXT})


def _message(id: str, number: int) -> tuple[str, bytes, dict[str, str]]:
    return _subject(id), _body(number), {"Nats-Msg-Id": id}


def _scheduled(id: str, number: int, at: str) -> tuple[str, bytes, dict[str, str]]:
    headers = {"Nats-Msg-Id": id, "Nats-Schedule": at, "Nats-Schedule-Target": _subject(id)}
    return _subject(id, "later"), _body(number), headers


# --- what jobs do


async def _note(floor: Floor, msg: Msg, arguments: dict[str, Any]) -> None:
    ledger.note(arguments["number"])


async def _note_in_thread(floor: Floor, msg: Msg, arguments: dict[str, Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(floor._threads, ledger.note, arguments["number"])


async def _sleep(floor: Floor, msg: Msg, arguments: dict[str, Any]) -> None:
    ledger.start(arguments["number"])
    await asyncio.sleep(arguments["seconds"])
    ledger.end(arguments["number"])


async def _answer(floor: Floor, msg: Msg, arguments: dict[str, Any]) -> None:
    """Store the number as the job's result, for an hour."""
    ledger.note(arguments["number"])
    subject = f"jetq._result.{msg.subject.rpartition('.')[2]}"
    await floor._publishes.publish(subject, _encode({"value": arguments["number"]}), {"Nats-TTL": "3600"})


async def _fail_once(floor: Floor, msg: Msg, arguments: dict[str, Any]) -> None:
    """Store every tenth job again at its first attempt."""
    if arguments["number"] % 10 == 0 and "Jetq" not in (msg.headers or {}):
        await floor._publishes.publish(msg.subject, msg.data, {"Jetq": '{"attempt":2}'})
    else:
        ledger.note(arguments["number"])


_HANDLERS: dict[str, Callable[[Floor, Msg, dict[str, Any]], Awaitable[None]]] = {
    "bench:noop_sync": _note_in_thread,
    "bench:sleep": _sleep,
    "bench:answer": _answer,
    "bench:flaky": _fail_once,
}


# --- a process of its own


async def serve(url: str, queues: Iterable[str]) -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    floor = await Floor.connect(url)
    async with floor.working(queues):
        await stopping.wait()
    await floor.close()


if __name__ == "__main__":
    asyncio.run(serve(os.environ["JETQ_SERVERS"], (QUEUE, OTHER)))
