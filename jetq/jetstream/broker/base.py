"""The base of every part of the broker: the connection, subjects, the API, the clock, and queues made at first use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial

from jetq.broker.numbers import FIRE_WINDOW, HEADROOM
from jetq.encoding.headers import read_result
from jetq.errors import BrokerError, Denied, PayloadTooLarge
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.api import EXPECTED, Api, StoredMessage
from jetq.jetstream.streams.batches import Batches
from jetq.jetstream.streams.payload_limit import PayloadLimit
from jetq.jetstream.streams.publisher import PubAck, Publisher
from jetq.jetstream.streams.reading import at_once, each_message
from jetq.jetstream.streams.room import OPEN_TO_ALL, Room
from jetq.jetstream.streams.subjects import Subjects
from jetq.jetstream.streams.topology import DELETED_WITHIN, QueueTopology, Topology
from jetq.jetstream.transport.connection import Connection
from jetq.model.job import Delivery, JobRecord, Level
from jetq.settings import Settings

__all__ = [
    "EXPECTED",
    "EXPECTED_ON",
    "MSG_ID",
    "TTL",
    "WRITE_WITHIN",
    "Base",
    "due_of",
    "expecting",
    "is_overdue",
    "own_headers",
    "rfc3339",
    "schedule_headers",
]

_log = logging.getLogger("jetq.jetstream")

MSG_ID = "Nats-Msg-Id"
EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"

OVERDUE = 30.0
"""Seconds after its due time from which a scheduled job counts as forgotten. Of 20,000 jobs due at once, the last is
ready 0.8 s later (nats-server 2.15.1)."""

WRITE_WITHIN = 15.0
"""Seconds for a worker's own writes. They outlast the loss of a leader, about 5 s (nats-server 2.15, three nodes), with
room to spare."""

_LEDGER = ("_plan", "_flow", "_job", "_count")
"""The second tokens of the subjects of the ledger."""

_CLOSE_WITHIN = 2.0
_CLOCK_EVERY = 60.0
_ROUNDED = 0.5
"""Seconds by which times measured here and at the server may differ: the time of one round trip."""


class Base:
    """The common base of all parts, which also has the role `jetq.broker.clock.Clock`.

    Belongs to the event loop it was made on.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.subjects = Subjects(settings.namespace)
        self.api = Api(connection, settings.connect_timeout, settings.jetstream_domain)
        self.topology = Topology(connection, self.api, self.subjects, settings)
        self.payload_limit = PayloadLimit(connection)
        self.publisher = Publisher(
            connection, settings.publish_timeout, self.restore, self.trace, self.payload_limit.doubt
        )
        self.batches = Batches(connection, self.payload_limit.doubt)
        self.known_queues: dict[str, QueueTopology] = {}  # the queues that `ensure` was called for
        self.rooms: dict[str, Room] = {}  # room for new jobs, of queues with a bound
        self.reserves: dict[str, Room] = {}  # room for what workers store, of the same queues
        self.unbounded: set[str] = set()
        self.has_shared = self._has_records = self.has_ledger = False
        self._making = asyncio.Lock()
        self.levelled: set[str] = set()  # queues whose levels exist
        self.acks: dict[str, Acks] = {}  # by consumer
        self._clock_due: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the inboxes. Call this once."""
        await self.publisher.start()
        self.batches.start()
        self.connection.on_up(self._look_at_the_clock)

    def now(self) -> float:
        return self.api.clock.now()

    @property
    def knows_time(self) -> bool:
        return self.api.clock.known

    async def time(self, queue: str, *, make: bool = True) -> float:
        if make:
            await self.ensure(queue)
        elif not self.knows_time:
            with contextlib.suppress(Denied):  # then the time of this machine has to do
                await self.api.stream_info(self.subjects.jobs(queue))
        return self.now()

    async def confirm(self) -> None:
        for acks in self.acks.values():
            await acks.confirm(_CLOSE_WITHIN)

    async def close(self) -> None:
        await self.confirm()
        for acks in self.acks.values():
            acks.stop()
        if self._clock_due is not None:
            self._clock_due.cancel()
        if self._learning is not None:
            self._learning.cancel()
        self.publisher.stop()
        self.payload_limit.stop()
        await self.connection.close()

    async def ensure(self, queue: str) -> QueueTopology:
        """Create what `queue` needs where it is missing, once; return what is known of the queue."""
        known = self.known_queues.get(queue)
        if known is not None:
            return known
        async with self._making:
            if queue not in self.known_queues:
                known = await self.topology.queue(queue)
                for drift in known.drift:
                    _log.warning("drift: %s", drift)
                if known.bounded:
                    look = partial(self.api.stream_info, self.subjects.jobs(queue))
                    self.rooms[queue] = Room(queue, look)
                    self.reserves[queue] = Room(queue, look, OPEN_TO_ALL)
                else:
                    self.unbounded.add(queue)
                self.known_queues[queue] = known
                if self._clock_due is None:
                    self._clock_due = self.connection.loop.call_later(_CLOCK_EVERY, self._look_at_the_clock)
        return self.known_queues[queue]

    def _look_at_the_clock(self) -> None:
        """Ask the server for its time every minute, and when the connection may have moved to another server."""
        if self._clock_due is not None and (self._learning is None or self._learning.done()):
            self._clock_due.cancel()
            self._clock_due = self.connection.loop.call_later(_CLOCK_EVERY, self._look_at_the_clock)
            if self.connection.connected:
                self._learning = self.connection.loop.create_task(self._learn_time(), name="jetq-clock")

    async def _learn_time(self) -> None:
        with contextlib.suppress(BrokerError):  # the next answer tells the time
            await self.api.stream_info(self.subjects.jobs(next(iter(self.known_queues))))

    def is_far(self, due: float | None) -> bool:
        """Return whether the server is surely not firing a schedule for `due` at this moment."""
        return due is not None and due > self.now() + FIRE_WINDOW

    async def take_room(self, job: JobRecord) -> None:
        """Take room for a new job in its queue, which `ensure` has made. Raises Rejected if there is no room."""
        room = self.rooms.get(job.queue)
        if room is not None:
            await room.take(job)

    async def has_levels(self, queue: str) -> bool:
        """Return whether the queue has consumers for jobs of high and low priority."""
        await self.ensure(queue)
        if queue not in self.levelled and await self.topology.has_levels(queue):
            self.levelled.add(queue)
        return queue in self.levelled

    async def ensure_levels(self, queue: str) -> None:
        """Create the consumers of the levels, which most queues do without."""
        if queue in self.levelled:
            return
        async with self._making:
            for drift in await self.topology.levels(queue):
                _log.warning("drift: %s", drift)
            self.levelled.add(queue)

    async def ensure_shared(self) -> None:
        """Create, once, the streams that all queues share: results and state."""
        if not self.has_shared:
            async with self._making:
                if not self.has_shared:
                    for drift in await self.topology.shared():
                        _log.warning("drift: %s", drift)
                    self.has_shared = True

    async def ensure_records(self) -> None:
        """Create, once, the stream of records."""
        if not self._has_records:
            async with self._making:
                if not self._has_records:
                    for drift in await self.topology.records():
                        _log.warning("drift: %s", drift)
                    self._has_records = True

    async def ensure_ledger(self) -> None:
        """Create, once, the streams of the ledger."""
        if not self.has_ledger:
            async with self._making:
                if not self.has_ledger:
                    for drift in await self.topology.ledger():
                        _log.warning("drift: %s", drift)
                    self.has_ledger = True

    def too_large(self, job: JobRecord) -> PayloadTooLarge:
        """Return the error to raise for a job with more bytes of arguments than may be enqueued."""
        limit = self.connection.max_payload - HEADROOM
        self.payload_limit.doubt()
        return PayloadTooLarge(
            f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; the limit is {limit:,}",
            hint="store the data elsewhere and pass its id or path, or raise max_payload of the server",
            job_ids=(job.id,),
        )

    def messages(
        self, stream: str, where: str, *, after: int = 0, limit: float = math.inf
    ) -> AsyncIterator[StoredMessage]:
        """Yield the messages on `where`, which may be the whole stream, as some replica has them; see
        `each_message`."""
        together = at_once(self.connection.max_payload)
        return each_message(self.api, stream, where, at_once=together, after=after, limit=limit)

    async def few_messages(
        self, stream: str, where: str, *, after: int = 0, limit: float = math.inf
    ) -> list[StoredMessage]:
        """Return the messages on `where`, as some replica has them.

        `where` must name an id or a key: few match then.
        """
        found: list[StoredMessage] = []
        while len(found) < limit and (message := await self.api.next_message(stream, where, after + 1)):
            found.append(message)
            after = message.sequence
        return found

    async def subject_counts(self, stream: str, where: str) -> Mapping[str, int]:
        """Return the subjects that match `where`, with the number of messages of each."""
        # Never ask this for jobs: there may be a million of them.
        info = await self.api.request(f"STREAM.INFO.{stream}", {"subjects_filter": where})
        return info["state"].get("subjects") or {}

    def fence_subject(self, job: Delivery) -> str:
        """Return the subject on which nothing newer may be stored if `job` is to be stored anew."""
        # The subject names the job alone, not all jobs of its key. Two jobs of one key may be stored: producers prevent
        # this, but jobs that were stored by hand need not. Then neither job may be lost for the other.
        return self.subjects.of_job(job.queue, job.task, job.key, job.id) if job.task else job.address

    async def handed_out(self, queue: str, level: Level) -> int:
        """Return the sequence up to which the consumer of `level` has handed out messages."""
        consumer = await self.api.consumer_info(self.subjects.jobs(queue), self.subjects.consumer(queue, level))
        return int(consumer["delivered"]["stream_seq"]) if consumer else 0

    async def trace(self, job: JobRecord, within: float) -> PubAck | None:
        """Return an acknowledgement if there is proof that `job`, sent at most `within` seconds ago, was stored.

        Proof is the job itself, if it is still stored, or the result or dead letter that the job left when it ended.
        None means that there is no proof, which is also so if the job left nothing.
        """
        # The server alone cannot tell any more: when it starts, it forgets the ids of messages that are gone.
        existing = await self.api.last_message(self.subjects.jobs(job.queue), self.subjects.by_id(job.queue, job.id))
        if existing is not None:
            return PubAck(seq=existing.sequence, duplicate=True)
        with contextlib.suppress(Denied):  # then the result is not known either
            result = await self.api.last_message(self.subjects.results, self.subjects.result(job.id))
            if result is not None and read_result(result.data, job.queue) and await self._is_of(job, result, within):
                return PubAck(duplicate=True)
        with contextlib.suppress(Denied):
            where, after = self.subjects.dead_filter(job.queue, None, job.id), 0
            while letter := await self.api.next_message(self.subjects.dead_letters(job.queue), where, after + 1):
                if await self._is_of(job, letter, within):
                    return PubAck(duplicate=True)
                after = letter.sequence
        return None

    async def _is_of(self, job: JobRecord, left: StoredMessage, within: float) -> bool:
        """Return whether `left`, a result or dead letter, is of the job that was sent at most `within` seconds ago."""
        # If the id was not made for one enqueue alone, an earlier job of the same id may have left something.
        if job.fresh:
            return True
        info = await self.api.stream_info(self.subjects.jobs(job.queue))
        now = self.now() if info is None else datetime.fromisoformat(info["ts"]).timestamp()  # the server's time
        return now - left.stored_at <= within + _ROUNDED

    async def restore(self, subject: str) -> None:
        """Create again what `subject` needs, because its stream may have been deleted since."""
        queue = subject.split(".")[1]
        if queue == "_record":
            await self.topology.records()
        elif queue in _LEDGER:
            await self._restore_ledger(self.subjects.counts if queue == "_count" else self.subjects.flows)
        elif queue.startswith("_"):
            await self.topology.shared()
        else:
            await self.restore_queue(queue)

    async def _restore_ledger(self, stream: str) -> None:
        if await self.api.stream_info(stream) is None:
            await asyncio.sleep(DELETED_WITHIN)
        await self.topology.ledger()

    async def restore_queue(self, queue: str) -> None:
        """Create again what was deleted of the queue.

        What was known of the queue is believed meanwhile, and nobody waits for this call: a stream that has no leader
        answers nothing, and a write to such a stream waits for a leader as well.
        """
        if await self.api.stream_info(self.subjects.jobs(queue)) is None:
            await asyncio.sleep(DELETED_WITHIN)
        self.known_queues[queue] = await self.topology.queue(queue)
        if queue in self.levelled:
            await self.topology.levels(queue)


def schedule_headers(due: float, target: str) -> dict[str, str]:
    """Return the headers of a message that the server publishes on `target` when `due` (unix seconds) has come."""
    return {"Nats-Schedule": f"@at {rfc3339(due)}", "Nats-Schedule-Target": target}


def rfc3339(due: float) -> str:
    """Return a time in unix seconds as text that the server reads."""
    # Rounded up to the microsecond, because a job must not be early.
    return datetime.fromtimestamp(math.ceil(due * 1e6) / 1e6, UTC).isoformat(timespec="microseconds")


def expecting(sequence: int, where: str) -> dict[str, str]:
    """Return headers by which a message is stored only if the newest message on `where` has the sequence `sequence`."""
    return {EXPECTED: str(sequence), EXPECTED_ON: where}


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are not the server's. A message keeps them when it is stored anew."""
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}


def is_overdue(due: float | None, now: float) -> bool:
    """Return whether the server should have fired a schedule for `due` long before `now`."""
    return due is not None and due < now - OVERDUE


def due_of(headers: Mapping[str, str]) -> float | None:
    """Return when a stored schedule is due, in unix seconds; None for another message, or for an illegal date."""
    pattern = headers.get("Nats-Schedule", "")
    try:
        return datetime.fromisoformat(pattern[4:]).timestamp() if pattern.startswith("@at ") else None
    except (ValueError, OverflowError):  # the server takes the year 0
        return None
