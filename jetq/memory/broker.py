"""The memory broker: jetq's verbs on a `MemoryStore`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from jetq.broker.wanted import always
from jetq.encoding.headers import meta_or_default, moved_headers
from jetq.errors import BrokerError, PayloadTooLarge
from jetq.memory.clock import FakeClock
from jetq.memory.dead_letters import MemoryLetters
from jetq.memory.feed import MemoryFeed
from jetq.memory.sizes import MAX_PAYLOAD, check_arguments, check_size
from jetq.memory.store import MemoryStore, QueueStore, found
from jetq.model.deployment_facts import ConsumerFacts, Drift, ServerFacts, StreamFacts, Survey
from jetq.model.job import Debounce, Delivery, Found, JobRecord, Level, Stored, Terms
from jetq.model.names import NO_KEY
from jetq.model.oversized import KEPT
from jetq.model.queue_info import QueueInfo
from jetq.model.result import ResultRecord
from jetq.model.schedule import Mark, ScheduleRecord, StoredSchedule, Ticked
from jetq.model.worker_status import StatusQuery, encode, read_answers

__all__ = ["MemoryBroker"]

_ANSWERS_WITHIN = 0.3

_encode = msgspec.json.Encoder().encode
_decode_result = msgspec.json.Decoder(ResultRecord).decode


class MemoryBroker(MemoryLetters):
    """See `jetq.broker.Broker`. Brokers on one store see the same queues, also from several threads and loops.

    store: what to work on; None makes one of its own, whose time is that of `clock` or the real one.
    A clock moves what the store does, not how long a caller of `wait_result` waits.
    """

    def __init__(self, store: MemoryStore | None = None, *, clock: FakeClock | None = None) -> None:
        if store is not None and clock is not None:
            raise TypeError("the store has its clock already")
        super().__init__(MemoryStore(clock) if store is None else store)
        self._feeds: list[MemoryFeed] = []
        self._waiting: set[asyncio.Future[ResultRecord | None]] = set()

    @property
    def lease(self) -> float:
        return self.store.lease

    def now(self) -> float:
        return self.store.now()

    @property
    def knows_time(self) -> bool:
        return True

    async def time(self, queue: str, *, make: bool = True) -> float:
        return self.store.now()

    async def confirm(self) -> None:
        pass  # a `finish` has held when it returns

    async def close(self) -> None:
        self._closed = True
        with self.store.lock:
            for undo in self._undo:
                undo()
            self._undo.clear()
        for feed in self._feeds:
            await feed.stop()
        for waiting in self._waiting:
            _settle(waiting, None)

    # --- producing

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        with self.store.lock:
            self._queue(queue).levels |= levels
        return ()

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Stored:
        check_arguments(job)
        check_size(job)
        started = await self._started(job) if job.meta.unique == "running" else ()
        with self.store.lock:
            queue = self._queue(job.queue)
            if job.key == NO_KEY:
                return queue.add_once(job.id, job, due)
            return queue.add_keyed(job, due, debounce, started=started)

    def send_job(
        self, job: JobRecord, on_done: Callable[[Stored | BrokerError], None], wanted: Callable[[], bool] = always
    ) -> bool:
        if not job.fresh:
            return False
        try:
            check_arguments(job)
            check_size(job)
            with self.store.lock:
                stored = self._queue(job.queue).add_once(job.id, job, None)
        except BrokerError:
            return False
        asyncio.get_running_loop().call_soon(on_done, stored)
        return True

    async def open_direct(self) -> None:
        return None

    async def _started(self, job: JobRecord) -> set[int]:
        """Those of its key that run, or may: by sequence."""
        with self.store.lock:
            handed_out = [
                each
                for each in self._queue(job.queue).of_key(job.task, job.key)
                if each.count and each.id != job.id and meta_or_default(each.headers).unique == "running"
            ]
        started = set()
        for message in handed_out:
            question = encode(StatusQuery(id=message.id, only_holder=True))
            answers = read_answers(await self.ask(job.queue, question, _ANSWERS_WITHIN, enough=1))
            if not any(each.held is not None and each.held.started is None for each in answers):
                started.add(message.sequence)
        return started

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[Stored | Exception]:
        answers: list[Stored | Exception] = []
        for job in jobs:
            try:
                answers.append(await self.enqueue(job, due=due, timeout=timeout, debounce=debounce))
            except Exception as error:
                answers.append(error)
        return answers

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        with self.store.lock:
            self._use()
            now, where = self.store.now(), (job.queue, job.task, job.key)
            holder, until = self.store.throttled.get(where, ("", 0.0))
            if until > now:
                return None if holder == job.id else holder
            self.store.throttled[where] = (job.id, now + max(1, round(period)))
            return None

    async def unthrottle(self, job: JobRecord) -> None:
        with self.store.lock:
            self._use()
            where = (job.queue, job.task, job.key)
            if self.store.throttled.get(where, ("", 0.0))[0] == job.id:
                del self.store.throttled[where]

    async def move(self, found: Found, due: float) -> bool:
        return self._put_again(found, due)

    async def release(self, found: Found) -> bool:
        return self._put_again(found, None)

    def _put_again(self, found: Found, due: float | None) -> bool:
        with self.store.lock:
            queue = self._queue(found.delivery.queue)
            message = queue.messages.get(found.delivery.sequence)
            if message is None or not queue.is_movable(message):
                return False
            headers = message.headers
            if due is not None and message.due is not None:
                headers = moved_headers(headers, message.due, due)
            queue.put_again(message, due, headers=headers)
            return True

    # --- working

    async def levels(self, queue: str) -> bool:
        with self.store.lock:
            return self._queue(queue).levels

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> MemoryFeed:
        self._use()
        feed = MemoryFeed(self.store, queue, deliver, level)
        self._feeds.append(feed)
        return feed

    def finish(self, delivery: Delivery) -> None:
        with self.store.lock:
            self._queue(delivery.queue).remove(delivery.sequence)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        check_size(job)
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
                queue.add(job, None, alone=True)

    async def put_off(self, delivery: Delivery, after: float) -> None:
        with self.store.lock:
            self._queue(delivery.queue).put_off(delivery.sequence, after)

    async def superseded(self, delivery: Delivery) -> bool:
        if not delivery.task:
            return False
        with self.store.lock:
            queue = self._queue(delivery.queue)
            if not queue.is_newest(delivery):
                return True
            if queue.dead.has_buried(delivery):
                return True
            result = self.store.result(delivery.queue, delivery.id)
            return result is not None and result.sequence == delivery.sequence

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

    async def terms(self, queue: str, level: Level) -> Terms | None:
        return Terms(self.store.lease, "memory")

    # --- results

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        return self._keep_result(result, ttl, unless_kept=unless_kept)

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        try:
            self._keep_result(result, ttl)
        except BrokerError:
            return False
        asyncio.get_running_loop().call_soon(on_done, None)
        return True

    def _keep_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        encoded = _encode(result)
        if len(encoded) > MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"the result of job {result.id} has {len(encoded):,} bytes, the limit is {MAX_PAYLOAD:,}"
            )
        record = _decode_result(encoded)
        with self.store.lock:
            self._use()
            if unless_kept and self.store.result(record.queue, record.id) is not None:
                return False
            self.store.put_result(record, max(1.0, ttl))
            return True

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        with self.store.lock:
            self._use()
            return self.store.result(queue, id)

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[ResultRecord | None] = loop.create_future()

        def on_result(record: ResultRecord) -> None:
            if record.queue == queue:
                loop.call_soon_threadsafe(_settle, arrived, record)

        with self.store.lock:
            self._use()
            stored = self.store.result(queue, id)
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

    async def standing(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[Found]:
        with self.store.lock:
            self._use()
            if queue not in self.store.queues:
                return []
            messages = [each for each in self.store.queue(queue).messages.values() if not each.schedule]
            return [found(each) for each in messages if task in (None, each.task) and key in (None, each.key)][:limit]

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[Found], int]:
        return (), 0

    @property
    def firing(self) -> float:
        return 0.0

    async def remove(self, queue: str, sequence: int) -> bool:
        with self.store.lock:
            messages = self._queue(queue)
            stood = sequence in messages.messages
            messages.remove(sequence)
            return stood

    async def purge(self, queue: str) -> int:
        with self.store.lock:
            messages = list(self._queue(queue).messages.values())
            for message in messages:
                self._queue(queue).remove(message.sequence)
            return sum(each.held_until is None for each in messages)

    async def pause(self, queue: str, until: float | None = None) -> None:
        with self.store.lock:
            self._queue(queue).pause(math.inf if until is None else until)

    async def resume(self, queue: str) -> None:
        with self.store.lock:
            self._queue(queue).pause(None)

    async def remove_queue(self, queue: str) -> bool:
        store = self.store
        with store.lock:
            self._use()
            gone = store.queues.get(queue)
            if gone is None:
                return True
            if gone.messages or len(gone.dead):
                return False
            for stored in list(gone.recurring.schedules.values()):
                gone.recurring.remove(stored)
            del store.queues[queue]
            if gone.takers:  # who still takes from it makes it anew
                store.queue(queue).takers = gone.takers
            self._forget(queue)
            return True

    def _forget(self, queue: str) -> None:
        """Remove what is kept of the jobs of `queue`."""
        store = self.store
        store.throttled = {where: held for where, held in store.throttled.items() if where[0] != queue}
        store.starts = {where: starts for where, starts in store.starts.items() if where[0] != queue}
        store.cancelled.pop(queue, None)
        for name in [each for each in store.cells if each.split(".")[:2] in (["off", queue], [KEPT, queue])]:
            del store.cells[name]

    async def queues(self) -> Sequence[QueueInfo]:
        with self.store.lock:
            self._use()
            return [_info(queue) for _, queue in sorted(self.store.queues.items())]

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        infos = await self.queues()
        return Survey(
            ServerFacts("memory", "", MAX_PAYLOAD, True, True, True, False, False, 0.0, 0.0),
            streams=tuple(StreamFacts(info.name, info.name, "jobs", storage="memory") for info in infos),
            consumers=tuple(
                ConsumerFacts(i.name, i.name, i.name, ready=i.ready, running=i.running, waiting=i.waiting)
                for i in infos
            ),
        )

    # --- recurring schedules

    async def put_schedule(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        with self.store.lock:
            return self._queue(record.queue).recurring.put(record, body, expected)

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        return False

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        return next((stored for stored in await self.schedules(queue) if stored.record.name == name), None)

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        with self.store.lock:
            self._use()
            if queue not in self.store.queues:
                return []
            return [stored for _, stored in sorted(self.store.queue(queue).recurring.schedules.items())]

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        with self.store.lock:
            return self._queue(stored.record.queue).recurring.remove(stored)

    async def ticked(self, queue: str, name: str) -> Mark:
        with self.store.lock:
            return self._queue(queue).recurring.ticked(name)

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        with self.store.lock:
            return self._queue(record.queue).recurring.store_tick(record.name, ticked, expected, job, due)


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
        paused_until=queue.paused_until,
    )
