"""Where the contract is tested: a broker's queues, its time, and feeds whose deliveries are kept.

Both worlds are used through the same words. Time passes by `sleep`: really with JetStream, by the fake clock in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from secrets import token_hex

from jetq.broker import Broker
from jetq.broker.consuming import Feed
from jetq.jetstream import connect_broker
from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import DEFAULT_META, Delivery, JobRecord, Meta
from jetq.model.names import new_job_id
from jetq.model.queue_info import QueueInfo
from jetq.settings import Settings

__all__ = ["QUEUE", "Inbox", "JetStreamWorld", "MemoryWorld", "World", "job", "letter", "retry_of"]

QUEUE = "contract"
_STEP = 0.02


class World:
    """One namespace of a broker, empty at first. `lease` in seconds."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._brokers: list[Broker] = []

    async def broker(self) -> Broker:
        """Another connection to the same queues."""
        broker = await self._connect()
        self._brokers.append(broker)
        return broker

    async def unclosed(self) -> Broker:
        """Another connection, for an event loop of the caller's own, who closes it."""
        return await self._connect()

    async def feed(self, broker: Broker, slots: int = 0, queue: str = QUEUE) -> Inbox:
        """A feed that has asked for `slots` deliveries."""
        inbox = Inbox(self, broker)
        inbox.feed = await broker.feed(queue, inbox.arrive)
        inbox.feed.ask(slots)
        return inbox

    async def until(self, holds: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
        """Let time pass until `holds()`; fail after `timeout` seconds."""
        deadline = self.now() + timeout
        while not holds():
            assert self.now() < deadline, f"not within {timeout} s: {what}"
            await self.sleep(_STEP)

    async def info(self, broker: Broker, queue: str = QUEUE) -> QueueInfo:
        """The queue in numbers."""
        return next(info for info in await broker.queues() if info.name == queue)

    async def close(self) -> None:
        for broker in self._brokers:
            await broker.close()

    def now(self) -> float:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def _connect(self) -> Broker:
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self, lease: float) -> None:
        super().__init__(lease)
        self._clock = FakeClock()
        self._store = MemoryStore(self._clock, lease=lease)

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        self._clock.advance(seconds)
        await asyncio.sleep(0)

    async def _connect(self) -> Broker:
        return MemoryBroker(self._store)


class JetStreamWorld(World):
    def __init__(self, lease: float, url: str) -> None:
        super().__init__(lease)
        self._settings = Settings(servers=(url,), namespace=f"contract-{token_hex(4)}", ack_wait=lease)

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _connect(self) -> Broker:
        return await connect_broker(self._settings, name="contract")


class Inbox:
    """What one feed delivered, in order, and when."""

    feed: Feed

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self.broker = broker
        self.deliveries: list[Delivery] = []
        self.arrived_at: list[float] = []

    def arrive(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.arrived_at.append(self._world.now())

    @property
    def ids(self) -> list[str]:
        return [delivery.id for delivery in self.deliveries]

    async def collect(self, count: int, timeout: float = 10.0) -> list[Delivery]:
        """The first `count` deliveries; fails if they do not come within `timeout` seconds, or more do."""
        await self._world.until(lambda: len(self.deliveries) >= count, f"{count} deliveries", timeout)
        assert len(self.deliveries) == count, self.ids
        return list(self.deliveries)

    async def next(self, timeout: float = 10.0) -> Delivery:
        """Ask for one delivery and return it."""
        self.feed.ask(1)
        return (await self.collect(len(self.deliveries) + 1, timeout))[-1]

    async def quiet(self, seconds: float = 0.3) -> None:
        """Fail if anything more is delivered within `seconds`."""
        before = len(self.deliveries)
        await self._world.sleep(seconds)
        assert len(self.deliveries) == before, self.ids[before:]


_numbers = itertools.count(1)


def job(
    id: str | None = None,
    *,
    task: str = "tests.mail",
    queue: str = QUEUE,
    body: bytes | None = None,
    meta: Meta = DEFAULT_META,
    fresh: bool = False,
) -> JobRecord:
    """A job; its body differs from every other one's."""
    return JobRecord(
        id=id or new_job_id(),
        task=task,
        queue=queue,
        body=b'{"n":%d}' % next(_numbers) if body is None else body,
        meta=meta,
        fresh=fresh,
    )


def retry_of(delivery: Delivery, attempt: int = 2) -> JobRecord:
    """The next attempt of a delivered job."""
    return JobRecord(
        id=delivery.id,
        task=delivery.task,
        queue=delivery.queue,
        body=delivery.body,
        key=delivery.key,
        meta=Meta(attempt=attempt, enqueued=delivery.stored_at),
    )


def letter(delivery: Delivery, *, traceback: str = "Traceback ...", at: float = 0.0) -> DeadLetter:
    """A dead letter of a delivered job."""
    return DeadLetter(
        id=delivery.id,
        task=delivery.task,
        queue=delivery.queue,
        key=delivery.key,
        reason="failed",
        failure=Failure(type="builtins.ValueError", message="no such mailbox", traceback=traceback),
        attempt=3,
        at=at,
        enqueued=delivery.stored_at,
        address=delivery.address,
        sequence=delivery.sequence,
        count=delivery.count,
        worker="tests-1",
        headers=dict(delivery.headers),
    )
