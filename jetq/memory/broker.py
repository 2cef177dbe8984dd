"""The memory broker: jetq's verbs on a `MemoryStore`, and feeds that deliver on their own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from jetq.errors import BrokerUnavailable, PayloadTooLarge
from jetq.failures import fit
from jetq.memory.clock import FakeClock
from jetq.memory.store import MemoryStore, QueueStore, found
from jetq.model import (
    DeadEntry,
    DeadLetter,
    Delivery,
    Drift,
    Found,
    JobRecord,
    QueueInfo,
    ResultRecord,
    Stored,
)
from jetq.wire import job_headers, letter_header, read_letter

__all__ = ["MemoryBroker", "MemoryFeed"]

_MAX_PAYLOAD = 1024 * 1024
"""nats-server's default limit of one message."""

_HEADROOM = 32 * 1024
"""Bytes a job stays under the limit, so that its retry and its dead letter fit too."""

_LETTER_LIMIT = 24 * 1024

_encode = msgspec.json.Encoder().encode
_decode_result = msgspec.json.Decoder(ResultRecord).decode


class MemoryFeed:
    """A flow of deliveries from one queue, on the loop it was made on. See `jetq.broker.Feed`."""

    def __init__(self, store: MemoryStore, queue: str, deliver: Callable[[Delivery], None]) -> None:
        self._store = store
        self._queue = queue
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._under_way = 0
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        with store.lock:
            store.queue(queue).takers.append(self)
            if store.clock is None:
                store.wakers.append(self._wake)
        self._arm()

    def ask(self, slots: int) -> None:
        """See `jetq.broker.Feed.ask`."""
        with self._store.lock:
            if not self._stopped:
                self._asked = max(self._asked, slots)
                self._store.run_due()
                self._store.queue(self._queue).hand_out()

    @property
    def asked(self) -> int:
        """Deliveries asked for and not yet arrived."""
        return self._asked

    async def stop(self) -> None:
        """See `jetq.broker.Feed.stop`."""
        with self._store.lock:
            self._stopped = True
            takers = self._store.queue(self._queue).takers
            if self in takers:
                takers.remove(self)
            if self._wake in self._store.wakers:
                self._store.wakers.remove(self._wake)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # the loop calls in order, so what was under way has arrived after this

    @property
    def wants(self) -> int:
        """How many deliveries more may be sent on their way."""
        return self._asked - self._under_way

    def take(self, delivery: Delivery) -> bool:
        """Send `delivery` to the feed's loop. False if that loop has ended without `stop`."""
        try:
            self._loop.call_soon_threadsafe(self._arrive, delivery)
        except RuntimeError:  # the loop is closed
            return False
        self._under_way += 1
        return True

    def _arrive(self, delivery: Delivery) -> None:
        with self._store.lock:
            self._under_way -= 1
            self._asked -= 1
        self._deliver(delivery)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arm)
        except RuntimeError:  # the loop is closed
            self._stopped = True

    def _arm(self) -> None:
        """On the real clock: be called when something is due next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._stopped or self._store.clock is not None else self._store.next_due()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._store.now()), self._on_due)

    def _on_due(self) -> None:
        self._store.run_due()
        self._arm()


class MemoryBroker:
    """See `jetq.broker.Broker`. Brokers on one store see the same queues, also from several threads and loops.

    store: what to work on; None makes one of its own, whose time is that of `clock` or the real one.
    A clock moves what the store does, not how long a caller of `wait_result` waits.
    """

    def __init__(self, store: MemoryStore | None = None, *, clock: FakeClock | None = None) -> None:
        if store is not None and clock is not None:
            raise TypeError("the store has its clock already")
        self.store = MemoryStore(clock) if store is None else store
        self._feeds: list[MemoryFeed] = []
        self._waiting: set[asyncio.Future[ResultRecord | None]] = set()
        self._closed = False

    @property
    def lease(self) -> float:
        return self.store.lease

    async def confirm(self) -> None:
        pass  # a `finish` has held when it returns

    async def close(self) -> None:
        self._closed = True
        for feed in self._feeds:
            await feed.stop()
        for waiting in self._waiting:
            _settle(waiting, None)

    def _queue(self, name: str) -> QueueStore:
        self._use()
        return self.store.queue(name)

    def _use(self) -> None:
        if self._closed:
            raise BrokerUnavailable("this broker is closed")
        self.store.run_due()

    # --- producing

    async def setup(self, queue: str) -> Sequence[Drift]:
        with self.store.lock:
            self._queue(queue)
        return ()

    async def enqueue(self, job: JobRecord, *, due: float | None = None, timeout: float | None = None) -> Stored:
        limit = _MAX_PAYLOAD - _HEADROOM
        if len(job.body) > limit:
            raise PayloadTooLarge(
                f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; the limit is {limit:,}",
                hint="store the data elsewhere and pass its id or path",
                job_ids=(job.id,),
            )
        _check_size(job)
        with self.store.lock:
            return self._queue(job.queue).add_once(job.id, job, due)

    async def enqueue_many(
        self, jobs: Sequence[JobRecord], *, due: float | None = None, timeout: float | None = None
    ) -> Sequence[Stored | Exception]:
        answers: list[Stored | Exception] = []
        for job in jobs:
            try:
                answers.append(await self.enqueue(job, due=due, timeout=timeout))
            except Exception as error:
                answers.append(error)
        return answers

    # --- working

    async def feed(self, queue: str, deliver: Callable[[Delivery], None]) -> MemoryFeed:
        self._use()
        feed = MemoryFeed(self.store, queue, deliver)
        self._feeds.append(feed)
        return feed

    def finish(self, delivery: Delivery) -> None:
        with self.store.lock:
            self._queue(delivery.queue).remove(delivery.sequence)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        _check_size(job)
        with self.store.lock:
            queue = self._queue(delivery.queue)
            if not queue.is_newest(delivery):
                return False
            queue.add(job, due, alone=True)
            return True

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        with self.store.lock:
            queue = self._queue(delivery.queue)
            if queue.is_newest(delivery):
                queue.add(replace(job, body=delivery.body), None, alone=True)

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        room = _MAX_PAYLOAD - len(delivery.body) - 1024
        letter = read_letter(letter_header(fit(letter, min(_LETTER_LIMIT, room))))
        with self.store.lock:
            self._queue(delivery.queue).bury(delivery, letter)

    async def superseded(self, delivery: Delivery) -> bool:
        if not delivery.task:
            return False
        with self.store.lock:
            queue = self._queue(delivery.queue)
            if not queue.is_newest(delivery):
                return True
            if any(_is_about(entry.letter, delivery) for entry in queue.dead.values()):
                return True
            result = self.store.result(delivery.id)
            return result is not None and result.queue == delivery.queue and result.sequence == delivery.sequence

    async def starts(self, delivery: Delivery) -> int:
        with self.store.lock:
            self._use()
            sequence, starts = self.store.starts.get((delivery.queue, delivery.id), (0, 0))
            return starts if sequence == delivery.sequence else 0

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        with self.store.lock:
            self._use()
            self.store.starts[delivery.queue, delivery.id] = (delivery.sequence, starts)

    async def erase_starts(self, delivery: Delivery) -> None:
        with self.store.lock:
            self._use()
            self.store.starts.pop((delivery.queue, delivery.id), None)

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        with self.store.lock:
            for delivery in deliveries:
                self._queue(delivery.queue).extend(delivery.sequence)

    # --- results

    async def put_result(self, result: ResultRecord, ttl: float) -> None:
        encoded = _encode(result)
        if len(encoded) > _MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"the result of job {result.id} has {len(encoded):,} bytes, the limit is {_MAX_PAYLOAD:,}"
            )
        record = _decode_result(encoded)
        with self.store.lock:
            self._use()
            self.store.put_result(record, max(1.0, ttl))

    async def get_result(self, id: str) -> ResultRecord | None:
        with self.store.lock:
            self._use()
            return self.store.result(id)

    async def wait_result(self, id: str, timeout: float) -> ResultRecord | None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[ResultRecord | None] = loop.create_future()

        def on_result(record: ResultRecord) -> None:
            loop.call_soon_threadsafe(_settle, arrived, record)

        with self.store.lock:
            self._use()
            stored = self.store.result(id)
            if stored is not None:
                return stored
            stop_listening = self.store.listen(id, on_result)
        self._waiting.add(arrived)
        try:
            async with asyncio.timeout(timeout):
                return await arrived
        except TimeoutError:
            return None
        finally:
            self._waiting.discard(arrived)
            stop_listening()

    # --- looking and mending

    async def find(self, queue: str, id: str) -> Found | None:
        with self.store.lock:
            self._use()
            message = self.store.queue(queue).newest(id) if queue in self.store.queues else None
            return None if message is None else found(message)

    async def queues(self) -> Sequence[QueueInfo]:
        with self.store.lock:
            self._use()
            return [_info(queue) for _, queue in sorted(self.store.queues.items())]

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        with self.store.lock:
            self._use()
            return self._dead(queue, id, task)[:limit]

    def _dead(self, queue: str, id: str | None, task: str | None) -> list[DeadEntry]:
        if queue not in self.store.queues:
            return []
        entries = self.store.queue(queue).dead.values()
        return [
            entry
            for entry in entries
            if (id is None or entry.letter.id == id) and (task is None or entry.letter.task == task)
        ]

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        _check_size(job)
        with self.store.lock:
            queue = self._queue(job.queue)
            if queue.newest(job.id) is not None:
                return False
            self.store.results.pop(job.id, None)
            queue.dead.pop(entry.sequence, None)
            queue.add_once(f"{job.id}.r{entry.sequence}", job, None)
            return True

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        with self.store.lock:
            self._use()
            entries = self._dead(queue, id, task)
            for entry in entries:
                del self.store.queue(queue).dead[entry.sequence]
            return len(entries)


def _check_size(job: JobRecord) -> None:
    size = len(job.body) + sum(len(name) + len(value.encode()) + 4 for name, value in job_headers(job).items())
    if size > _MAX_PAYLOAD:
        raise PayloadTooLarge(
            f"job {job.id} of {job.task} has {size:,} bytes with its headers, the limit is {_MAX_PAYLOAD:,}",
            job_ids=(job.id,),
        )


def _is_about(letter: DeadLetter, delivery: Delivery) -> bool:
    return letter.id == delivery.id and letter.sequence == delivery.sequence


def _settle(future: asyncio.Future[ResultRecord | None], record: ResultRecord | None) -> None:
    if not future.done():
        future.set_result(record)


def _info(queue: QueueStore) -> QueueInfo:
    messages = queue.messages.values()
    scheduled = sum(each.due is not None for each in messages)
    running = sum(each.held_until is not None for each in messages)
    return QueueInfo(
        name=queue.name,
        ready=len(messages) - scheduled - running,
        running=running,
        scheduled=scheduled,
        dead=len(queue.dead),
        waiting=sum(taker.wants > 0 for taker in queue.takers),
    )
