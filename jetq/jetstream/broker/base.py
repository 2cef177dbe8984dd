"""The base of every part of the broker: the connection, subjects, the API, the clock, and queues made at first use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial

from jetq.broker.numbers import FIRING, HEADROOM
from jetq.encoding.headers import read_result
from jetq.errors import BrokerError, Denied, PayloadTooLarge
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.api import EXPECTED, Api, StoredMessage
from jetq.jetstream.streams.payload_limit import PayloadLimit
from jetq.jetstream.streams.publisher import PubAck, Publisher
from jetq.jetstream.streams.reading import at_once, each_message
from jetq.jetstream.streams.room import OPEN_TO_ALL, Room
from jetq.jetstream.streams.subjects import Subjects
from jetq.jetstream.streams.topology import DELETED_WITHIN, QueueTopology, Topology
from jetq.jetstream.transport.connection import Connection
from jetq.model.job import Delivery, JobRecord, Level, Stored
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
    "stored",
]

_log = logging.getLogger("jetq.jetstream")

MSG_ID = "Nats-Msg-Id"
EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"

OVERDUE = 30.0
"""Seconds after its due time from which a scheduled job counts as forgotten. Of 20,000 due at once the last is ready
0.8 s later (2.15.1)."""

WRITE_WITHIN = 15.0
"""A worker's own writes ride out a leader's loss, about 5 s (nats-server 2.15, three nodes), with room to spare."""

_CLOSE_WITHIN = 2.0
_CLOCK_EVERY = 60.0
_ROUNDED = 0.5
"""Seconds between what is measured here and at the server: a way there and back."""


class Base:
    """What the parts share, and the role `jetq.broker.clock.Clock`. Belongs to the event loop it was made on."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.subjects = Subjects(settings.namespace)
        self.api = Api(connection, settings.connect_timeout, settings.jetstream_domain)
        self.topology = Topology(connection, self.api, self.subjects, settings)
        self.payload_limit = PayloadLimit(connection)
        self.publisher = Publisher(
            connection, settings.publish_timeout, self._restore, self.trace, self.payload_limit.doubt
        )
        self.known_queues: dict[str, QueueTopology] = {}  # those that `ensure` was called for
        self.rooms: dict[str, Room] = {}  # of queues with a bound, for new jobs
        self.reserves: dict[str, Room] = {}  # of the same queues, for what workers store
        self.unbounded: set[str] = set()
        self.has_shared = self._has_records = False
        self._making = asyncio.Lock()
        self.levelled: set[str] = set()  # queues whose levels exist
        self.acks: dict[str, Acks] = {}  # by consumer
        self._clock_due: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the inboxes. To be called once."""
        await self.publisher.start()
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
            with contextlib.suppress(Denied):  # then this machine's has to do
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
        """Make what `queue` needs where it is missing, once; return what is known of it."""
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
        """Ask the server for its time every minute, and when another server may have been connected to."""
        if self._clock_due is not None and (self._learning is None or self._learning.done()):
            self._clock_due.cancel()
            self._clock_due = self.connection.loop.call_later(_CLOCK_EVERY, self._look_at_the_clock)
            if self.connection.connected:
                self._learning = self.connection.loop.create_task(self._learn_time(), name="jetq-clock")

    async def _learn_time(self) -> None:
        with contextlib.suppress(BrokerError):  # the next answer tells
            await self.api.stream_info(self.subjects.jobs(next(iter(self.known_queues))))

    def is_far(self, due: float | None) -> bool:
        """Return whether a schedule for `due` is surely not fired by the server in this moment."""
        return due is not None and due > self.now() + FIRING

    async def take_room(self, job: JobRecord) -> None:
        """Take room for a new job of a queue that `ensure` was called for. Raises Rejected if there is none."""
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
        """Make the consumers of the levels, which most queues do without."""
        if queue in self.levelled:
            return
        async with self._making:
            for drift in await self.topology.levels(queue):
                _log.warning("drift: %s", drift)
            self.levelled.add(queue)

    async def ensure_shared(self) -> None:
        """Make, once, the streams that all queues share: results and state."""
        if not self.has_shared:
            async with self._making:
                if not self.has_shared:
                    for drift in await self.topology.shared():
                        _log.warning("drift: %s", drift)
                    self.has_shared = True

    async def ensure_records(self) -> None:
        """Make, once, the stream of records."""
        if not self._has_records:
            async with self._making:
                if not self._has_records:
                    for drift in await self.topology.records():
                        _log.warning("drift: %s", drift)
                    self._has_records = True

    def too_large(self, job: JobRecord) -> PayloadTooLarge:
        """Return what to raise for more arguments than may be enqueued."""
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
        """Yield the messages on `where`, which may be all of the stream, as a replica has them; see `each_message`."""
        together = at_once(self.connection.max_payload)
        return each_message(self.api, stream, where, at_once=together, after=after, limit=limit)

    async def few_messages(
        self, stream: str, where: str, *, after: int = 0, limit: float = math.inf
    ) -> list[StoredMessage]:
        """Return the messages on `where`, which names an id or a key, as some replica has them."""
        found: list[StoredMessage] = []
        while len(found) < limit and (message := await self.api.next_message(stream, where, after + 1)):
            found.append(message)
            after = message.sequence
        return found

    async def subject_counts(self, stream: str, where: str) -> Mapping[str, int]:
        """Return the subjects that match, with the number of messages of each."""
        # Never for jobs, of which there may be a million.
        info = await self.api.request(f"STREAM.INFO.{stream}", {"subjects_filter": where})
        return info["state"].get("subjects") or {}

    def fence_subject(self, job: Delivery) -> str:
        """Return the subject on which nothing newer may be stored if the job is to be stored anew."""
        # Not that of any job of its key: when two of a key are stored, which producers prevent and what was stored by
        # hand need not, neither may be lost for the other.
        return self.subjects.of_job(job.queue, job.task, job.key, job.id) if job.task else job.address

    async def handed_out(self, queue: str, level: Level) -> int:
        """Return the sequence up to which messages of that level were handed out."""
        consumer = await self.api.consumer_info(self.subjects.jobs(queue), self.subjects.consumer(queue, level))
        return int(consumer["delivered"]["stream_seq"]) if consumer else 0

    async def trace(self, job: JobRecord, within: float) -> PubAck | None:
        """Return what shows that `job`, sent at most `within` seconds ago, was stored: it is still there, or it has
        ended since and left its result or its dead letter. None if nothing shows it: also when the job left nothing.
        """
        # The server alone does not know it any more: when it starts, it forgets the ids of messages that are gone.
        standing = await self.api.last_message(self.subjects.jobs(job.queue), self.subjects.by_id(job.queue, job.id))
        if standing is not None:
            return PubAck(seq=standing.sequence, duplicate=True)
        with contextlib.suppress(Denied):  # then that is not known either
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
        """Return whether a result or dead letter is of the job that was sent at most `within` seconds ago."""
        # Of an id that was not made for one enqueue alone, something may be left of an earlier job.
        if job.fresh:
            return True
        info = await self.api.stream_info(self.subjects.jobs(job.queue))
        now = self.now() if info is None else datetime.fromisoformat(info["ts"]).timestamp()  # the server's
        return now - left.stored_at <= within + _ROUNDED

    async def _restore(self, subject: str) -> None:
        """Make again what `subject` needs: its stream may have been deleted since."""
        queue = subject.split(".")[1]
        if queue == "_record":
            await self.topology.records()
        elif queue.startswith("_"):
            await self.topology.shared()
        else:
            await self.restore_queue(queue)

    async def restore_queue(self, queue: str) -> None:
        """Make again what was deleted of it. What stood is believed meanwhile, and nobody waits for this: a stream that
        only has no leader answers nothing, and what is written to it waits for one as well."""
        if await self.api.stream_info(self.subjects.jobs(queue)) is None:
            await asyncio.sleep(DELETED_WITHIN)
        self.known_queues[queue] = await self.topology.queue(queue)
        if queue in self.levelled:
            await self.topology.levels(queue)


def stored(job: JobRecord, ack: PubAck) -> Stored:
    """Return what became of `job`, for which the stream answered `ack`."""
    # A fresh id that is known already is this very enqueue's: an earlier try of it was stored and not confirmed.
    return Stored(ack.seq, job.id, "existing" if ack.duplicate and not job.fresh else "new")


def schedule_headers(due: float, target: str) -> dict[str, str]:
    """Return the headers of a message that the server publishes on `target` when it is `due` (unix seconds)."""
    return {"Nats-Schedule": f"@at {rfc3339(due)}", "Nats-Schedule-Target": target}


def rfc3339(due: float) -> str:
    """Return unix seconds as the server reads them."""
    # Rounded up to the microsecond, because a job must not be early.
    return datetime.fromtimestamp(math.ceil(due * 1e6) / 1e6, UTC).isoformat(timespec="microseconds")


def expecting(sequence: int, where: str) -> dict[str, str]:
    """Return the headers by which a message is stored only if the newest on `where` has that sequence."""
    return {EXPECTED: str(sequence), EXPECTED_ON: where}


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are not the server's: what a message keeps when it is stored anew."""
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}


def is_overdue(due: float | None, now: float) -> bool:
    """Return whether the server should have started a schedule long ago."""
    return due is not None and due < now - OVERDUE


def due_of(headers: Mapping[str, str]) -> float | None:
    """Return when a stored schedule is due, in unix seconds; None for another message, or for a time of no date."""
    pattern = headers.get("Nats-Schedule", "")
    try:
        return datetime.fromisoformat(pattern[4:]).timestamp() if pattern.startswith("@at ") else None
    except (ValueError, OverflowError):  # the server takes the year 0
        return None
