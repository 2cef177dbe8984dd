"""The store of memory brokers: queues of messages, dead letters, results, starts. No event loop and no waiting here.

The store does what JetStream does with jetq's streams, with sequences, fences and leases, so that code which works on
one broker works on the other.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from msgspec import Struct

from jetq.broker.numbers import DEDUP_WINDOW, FIRE_WINDOW
from jetq.encoding.headers import job_headers, meta_to_rewrite
from jetq.memory.clock import FakeClock, Timers
from jetq.memory.dead_letter_store import DeadLetterStore
from jetq.memory.ledger_store import LedgerStore
from jetq.memory.schedule_store import JobOfTick, RecurringStore
from jetq.model.cell import Cell, StoredRecord
from jetq.model.debouncing import debounced
from jetq.model.job import LEVELS, Debounce, Delivery, EnqueueReceipt, JobRecord, Level, StoredJob
from jetq.model.names import NO_KEY
from jetq.model.result import ResultRecord
from jetq.runtime.clock import steady

__all__ = ["MemoryStore", "Message", "QueueStore", "Taker", "found"]


class Taker(Protocol):
    """A feed, as its queue sees it: something that takes deliveries."""

    @property
    def level(self) -> Level:
        """The level of the jobs that the taker takes."""
        ...

    @property
    def wants(self) -> int:
        """How many more deliveries the taker takes now."""
        ...

    def take(self, delivery: Delivery) -> bool:
        """Send the delivery on its way. Return False if nothing takes deliveries here any more."""
        ...


class Message(Struct, eq=False):
    """One stored job or tick.

    due: when the job is due; None once it is ready. held_until: when the lease of its holder ends; None while no worker
    holds the message. alone: when the message becomes ready, all other messages of its id are removed.
    """

    sequence: int
    queue: str
    task: str
    key: str
    id: str
    body: bytes
    headers: Mapping[str, str]
    stored_at: float
    due: float | None = None
    alone: bool = False
    count: int = 0
    held_until: float | None = None
    schedule: str = ""
    next_at: float | None = None
    level: Level = "normal"

    @property
    def address(self) -> str:
        """The subject under which JetStream would store the message."""
        if self.schedule:
            return f"jetq.{self.queue}.tick.{self.schedule.replace('.', ':')}"
        kind = "later" if self.due is not None else "run" if self.level == "normal" else f"run-{self.level}"
        return f"jetq.{self.queue}.{kind}.{self.task.replace('.', ':')}.{self.key}.{self.id}"

    def delivery(self) -> Delivery:
        """Return this message as a delivery, as it is handed out."""
        return Delivery(
            queue=self.queue,
            task=self.task,
            key=self.key,
            id=self.id,
            body=self.body,
            headers=self.headers,
            sequence=self.sequence,
            count=self.count,
            stored_at=self.stored_at,
            since=steady(),
            token=f"{self.queue}/{self.sequence}/{self.count}",
            address=self.address,
            schedule=self.schedule,
            next_at=self.next_at,
            level=self.level,
        )


class QueueStore:
    """One queue: its jobs and ticks, the feeds that take them, its dead letters and its recurring schedules."""

    def __init__(self, name: str, store: MemoryStore) -> None:
        self.name = name
        self.messages: dict[int, Message] = {}
        self.takers: list[Taker] = []
        self.dead = DeadLetterStore()
        self.paused_until: float | None = None
        self._store = store
        self._by_id: dict[str, list[Message]] = {}
        self.levels = False
        self._ready: dict[Level, list[int]] = {level: [] for level in LEVELS}
        self._sequence = 0
        self._recent: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.recurring = RecurringStore(self, store.now, store.at, store.job_of_tick)

    # --- storing

    def add_once(self, message_id: str, job: JobRecord, due: float | None) -> EnqueueReceipt:
        """Store `job`, unless a job of its id is stored, or a job was stored under `message_id` in the dedup window."""
        now = self._store.now()
        # The id of a member of a workflow is fresh, but several may store the member.
        alone = not job.fresh or job.meta.flow is not None
        if alone and (existing := self.newest(job.id)) is not None:
            return EnqueueReceipt(existing.sequence, job.id, "existing")
        while self._recent and next(iter(self._recent.values()))[0] <= now:
            self._recent.popitem(last=False)
        if message_id in self._recent and not job.again:
            return EnqueueReceipt(self._recent[message_id][1], job.id, "new" if job.fresh else "existing")
        message = self.add(job, due)
        self._recent[message_id] = (now + DEDUP_WINDOW, message.sequence)
        return EnqueueReceipt(message.sequence, job.id)

    def add_keyed(
        self, job: JobRecord, due: float | None, debounce: Debounce | None, *, started: Collection[int] = ()
    ) -> EnqueueReceipt:
        """Store `job`, or find or replace the stored job of the same task and key.

        started: the sequences of stored jobs that do not count, because they run or may run. debounce: replace the
        stored job if its due time may still be changed; None never replaces.
        """
        existing = next((each for each in self.of_key(job.task, job.key) if each.sequence not in started), None)
        if existing is None:
            return self.add_once(job.id, job, due)
        if existing.id == job.id or debounce is None or not self.is_movable(existing):
            return EnqueueReceipt(existing.sequence, existing.id, "existing")
        before, now = meta_to_rewrite(existing.headers), self._store.now()
        took, when = debounced(job, due, debounce, before=before, stored_at=existing.stored_at, now=now)
        moved = self.put_again(existing, when, body=job.body, headers=job_headers(took))
        return EnqueueReceipt(moved.sequence, existing.id, "replaced")

    def of_key(self, task: str, key: str) -> list[Message]:
        """Return the messages of a task's key, newest first. Empty for `NO_KEY`."""
        if key == NO_KEY:
            return []
        existing = [each for each in self.messages.values() if each.key == key and each.task == task]
        return sorted(existing, key=lambda each: -each.sequence)

    def is_movable(self, message: Message) -> bool:
        """Return whether the due time of `message` may still be changed."""
        return message.due is not None and message.due > self._store.now() + FIRE_WINDOW

    def put_again(
        self,
        message: Message,
        due: float | None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Store a scheduled message anew with the due time `due`, in place of the old message.

        due: None makes the message ready. body, headers: replace the old body and headers; None keeps the old ones.
        """
        self.remove(message.sequence)
        job = JobRecord(
            message.id,
            message.task,
            self.name,
            message.body if body is None else body,
            message.key,
            level=message.level,
        )
        return self.add(job, due, alone=message.alone, headers=message.headers if headers is None else headers)

    def add(
        self,
        job: JobRecord,
        due: float | None,
        *,
        alone: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Store `job`, ready at once or from `due` on, and return its message.

        alone: see `Message`. headers: replace the headers that `job` would have.
        """
        now = self._store.now()
        self._sequence += 1
        message = Message(
            sequence=self._sequence,
            queue=self.name,
            task=job.task,
            key=job.key,
            id=job.id,
            body=job.body,
            headers=job_headers(job) if headers is None else headers,
            stored_at=now,
            alone=alone,
            level=job.level,
        )
        self.levels = self.levels or job.level != "normal"
        if due is not None and due > now:
            message.due = due
            self._remove_all(job.id, lambda other: other.due is not None)  # a job has one schedule at most
            self._store.at(due, lambda: self._fire(message))
            self._insert(message)
        else:
            self._insert(message)
            self._make_ready(message)
        return message

    def next_sequence(self) -> int:
        """Return a sequence that no other message of this queue has."""
        self._sequence += 1
        return self._sequence

    def stands(self, job: JobRecord) -> bool:
        """Return whether a job of the same id, or of the same task and key, is stored."""
        return self.newest(job.id) is not None or bool(self.of_key(job.task, job.key))

    def add_tick(self, name: str, next_at: float, body: bytes, headers: dict[str, str]) -> int:
        """Store a tick of a recurring schedule, which workers get like a job. Return the sequence of the tick.

        name: the name of the schedule. next_at: when the schedule ticks next.
        """
        sequence = self.next_sequence()
        message = Message(
            sequence=sequence,
            queue=self.name,
            task="",
            key=NO_KEY,
            id=f"stray-{sequence}",
            body=body,
            headers=headers,
            stored_at=self._store.now(),
            schedule=name,
            next_at=next_at,
        )
        self._insert(message)
        self._make_ready(message)
        return sequence

    def remove_ticks(self, name: str) -> None:
        """Remove all ticks of a schedule, waiting or held."""
        for message in [each for each in self.messages.values() if each.schedule == name]:
            self.remove(message.sequence)

    def remove(self, sequence: int) -> None:
        """Remove a message, whether or not the caller holds it: JetStream does not fence acks either."""
        message = self.messages.pop(sequence, None)
        if message is not None:
            existing = self._by_id[message.id]
            existing.remove(message)
            if not existing:
                del self._by_id[message.id]

    def newest(self, id: str) -> Message | None:
        """Return the newest message of job `id`, scheduled or ready; None if there is none."""
        existing = self._by_id.get(id)
        return existing[-1] if existing else None

    def is_newest(self, delivery: Delivery) -> bool:
        """Return whether the delivery's message is stored, and no newer message of its job is."""
        newest = self.newest(delivery.id)
        return newest is not None and newest.sequence == delivery.sequence

    def _insert(self, message: Message) -> None:
        self.messages[message.sequence] = message
        self._by_id.setdefault(message.id, []).append(message)

    def _remove_all(self, id: str, which: Callable[[Message], bool]) -> None:
        for message in [each for each in self._by_id.get(id, ()) if which(each)]:
            self.remove(message.sequence)

    def _fire(self, message: Message) -> None:
        """Make a scheduled message ready, as a message with a new sequence."""
        if self.messages.get(message.sequence) is not message:
            return
        self.remove(message.sequence)
        self._sequence += 1
        message.sequence = self._sequence
        message.stored_at = self._store.now()
        message.due = None
        self._insert(message)
        self._make_ready(message)

    def _make_ready(self, message: Message) -> None:
        if message.alone:
            self._remove_all(message.id, lambda other: other is not message)
        self._queue_up(message)
        self.hand_out()

    def _queue_up(self, message: Message) -> None:
        heapq.heappush(self._ready[message.level], message.sequence)

    def left(self, level: Level) -> int:
        """Return how many ready jobs of a level are not handed out."""
        return sum(sequence in self.messages for sequence in self._ready[level])

    # --- handing out

    def hand_out(self) -> None:
        """Hand ready messages, oldest first, to the takers that want some, in turn."""
        for level, ready in self._ready.items():
            while ready and self.paused_until is None:
                taker = next((each for each in self.takers if each.wants > 0 and each.level == level), None)
                if taker is None:
                    break
                message = self.messages.get(heapq.heappop(ready))
                if message is not None:  # else the message was removed while it waited
                    self._hand_to(taker, message)

    def _hand_to(self, taker: Taker, message: Message) -> None:
        self.takers.remove(taker)
        message.count += 1
        message.held_until = self._store.now() + self._store.lease
        if taker.take(message.delivery()):
            self.takers.append(taker)
            self._store.at(message.held_until, lambda: self._lapse(message))
        else:
            message.count -= 1
            message.held_until = None
            self._queue_up(message)

    def pause(self, until: float | None) -> None:
        """Hand out nothing until the time `until`; `math.inf` is for no end, and None ends a pause."""
        self.paused_until = until
        if until is None:
            self.hand_out()
        elif until != math.inf:
            self._store.at(until, self._end_pause)

    def _end_pause(self) -> None:
        if self.paused_until is not None and self.paused_until <= self._store.now():
            self.pause(None)

    def extend(self, sequence: int) -> None:
        """Let the holder of the message hold it for one lease from now."""
        message = self.messages.get(sequence)
        if message is not None and message.held_until is not None:
            message.held_until = self._store.now() + self._store.lease

    def put_off(self, sequence: int, after: float) -> None:
        """Hand the message out again in `after` seconds, whether or not the caller holds it."""
        message = self.messages.get(sequence)
        if message is not None and message.held_until is not None:
            message.held_until = self._store.now() + after
            self._store.at(message.held_until, lambda: self._lapse(message))

    def _lapse(self, message: Message) -> None:
        if self.messages.get(message.sequence) is not message or message.held_until is None:
            return
        if message.held_until > self._store.now():
            self._store.at(message.held_until, lambda: self._lapse(message))
            return
        message.held_until = None
        self._queue_up(message)
        self.hand_out()


class MemoryStore:
    """The queues, dead letters and results that any number of memory brokers share.

    clock: the clock of the "server"; None takes the real time. lease: seconds for which a delivery stays with its
    holder. job_of_tick: makes the jobs of ticks, so that no worker has to; None leaves ticks to workers.

    Touch the contents of a store only under its `lock`, because brokers of several threads may share the store.
    """

    def __init__(
        self, clock: FakeClock | None = None, *, lease: float = 30.0, job_of_tick: JobOfTick | None = None
    ) -> None:
        self.job_of_tick = job_of_tick
        self.clock = clock
        self.lease = lease
        self.lock = threading.RLock()
        self.queues: dict[str, QueueStore] = {}
        self.results: dict[str, tuple[ResultRecord, float]] = {}
        self.starts: dict[tuple[str, str], tuple[int, int]] = {}
        self.throttled: dict[tuple[str, str, str], tuple[str, float]] = {}
        self.cancelled: dict[str, dict[str, float]] = {}
        self.watchers: dict[str, list[Callable[[str, bool], None]]] = {}
        self.responders: dict[str, list[Callable[[bytes, Callable[[bytes | None], None]], None]]] = {}
        self.cells: dict[str, Cell] = {}
        self.records: dict[str, StoredRecord] = {}
        self.ledger = LedgerStore(self.now, self.at)
        self.cell_watchers: dict[str, list[Callable[[str, bytes], None]]] = {}
        self.signals: dict[str, list[Callable[[bytes], None]]] = {}
        self.versions = itertools.count(1)
        self.wakers: list[Callable[[], None]] = []
        self._listeners: dict[str, list[Callable[[ResultRecord], None]]] = {}
        self._timers = Timers()
        if clock is not None:
            clock.watch(self.next_due, self.run_due)

    def now(self) -> float:
        """Return the time of the store, in unix seconds."""
        return time.time() if self.clock is None else self.clock.now()

    def queue(self, name: str) -> QueueStore:
        """Return the queue of the name. The first use makes the queue."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueStore(name, self)
        return queue

    def stored_jobs(self) -> list[StoredJob]:
        """Return every stored job, scheduled or queued: by queue, in the order in which the jobs were stored."""
        with self.lock:
            self.run_due()
            messages = [each for _, queue in sorted(self.queues.items()) for each in queue.messages.values()]
            return [found(each) for each in messages if not each.schedule]

    def result(self, queue: str | None, id: str) -> ResultRecord | None:
        """Return the kept result of job `id` of `queue`, or of any queue for None; None if there is no such result."""
        record, _ = self.results.get(id, (None, 0.0))
        return record if record is not None and queue in (None, record.queue) else None

    def put_result(self, record: ResultRecord, ttl: float) -> None:
        """Store `record` for `ttl` seconds, and tell the listeners for its job."""
        expires = self.now() + ttl
        self.results[record.id] = (record, expires)
        self.at(expires, lambda: self._expire(record.id))
        for listener in list(self._listeners.get(record.id, ())):
            listener(record)

    def write_cell(self, name: str, value: bytes, ttl: float | None) -> Cell:
        """Store a value under `name` for `ttl` seconds, None for ever, and return the cell."""
        cell = self.cells[name] = Cell(name, value, next(self.versions))
        if ttl is not None:
            self.at(self.now() + ttl, lambda: self._drop_cell(cell))
        return cell

    def _drop_cell(self, cell: Cell) -> None:
        if self.cells.get(cell.name) is cell:
            del self.cells[cell.name]

    def listen(self, id: str, on_result: Callable[[ResultRecord], None]) -> Callable[[], None]:
        """Call `on_result` with every result of job `id` that is stored from now on.

        Return a function that ends this.
        """
        self._listeners.setdefault(id, []).append(on_result)

        def stop() -> None:
            with self.lock:
                self._listeners[id].remove(on_result)
                if not self._listeners[id]:
                    del self._listeners[id]

        return stop

    def _expire(self, id: str) -> None:
        if id in self.results and self.results[id][1] <= self.now():
            del self.results[id]

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run `action` at the time `when`."""
        if self._timers.add(when, action):
            for wake in self.wakers:
                wake()

    def next_due(self) -> float | None:
        """Return when the next action is due, in unix seconds; None if there is none."""
        with self.lock:
            return self._timers.next_due

    def run_due(self) -> None:
        """Run the actions that are due by now."""
        with self.lock:
            self._timers.run(self.now())


def found(message: Message) -> StoredJob:
    """Return the message as it is stored, for callers that look at it and do not hold it."""
    delivery = message.delivery()
    delivery.count, delivery.since, delivery.token = 0, 0.0, ""
    if message.due is not None:
        return StoredJob(delivery, "scheduled", due=message.due)
    return StoredJob(delivery, "queued", in_flight=message.count > 0)
