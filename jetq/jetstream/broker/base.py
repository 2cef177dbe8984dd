"""What every part of the broker stands on: the connection, the names, the API, and queues made at first use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from jetq.encoding.headers import read_result
from jetq.errors import BrokerError, Denied, PayloadTooLarge
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.api import EXPECTED, Api, StoredMessage
from jetq.jetstream.streams.payload_limit import PayloadLimit
from jetq.jetstream.streams.publisher import PubAck, Publisher
from jetq.jetstream.streams.reading import at_once, each_message
from jetq.jetstream.streams.room import OPEN_TO_ALL, Room
from jetq.jetstream.streams.subjects import Names
from jetq.jetstream.streams.topology import DEDUP_WINDOW, DELETED_WITHIN, QueueTopology, Topology
from jetq.jetstream.transport.connection import Connection
from jetq.model.deployment_facts import Drift
from jetq.model.job import Delivery, JobRecord, Level, Stored
from jetq.settings import Settings

__all__ = [
    "DEDUP_WINDOW",
    "EXPECTED",
    "EXPECTED_ON",
    "FIRING",
    "HEADROOM",
    "MSG_ID",
    "TTL",
    "WRITE_WITHIN",
    "Ground",
    "due_of",
    "is_overdue",
    "rfc3339",
    "schedule_headers",
    "stored",
]

_log = logging.getLogger("jetq.jetstream")

MSG_ID = "Nats-Msg-Id"
EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"

HEADROOM = 32 * 1024
"""Bytes a job stays under the payload limit, so that its retry and its dead letter fit too."""

FIRING = 2.0
"""Seconds around its due time in which a scheduled job is left alone. The server takes what is due in a snapshot and
does not look again: with 20,000 due at once a replacement was purged with the old one up to 0.3 s later (2.15.1)."""

OVERDUE = 30.0
"""Seconds after its due time from which a scheduled job counts as forgotten. Of 20,000 due at once the last is ready
0.8 s later (2.15.1)."""

WRITE_WITHIN = 15.0
"""A worker's own writes ride out a leader's loss, about 5 s (nats-server 2.15, three nodes), with room to spare."""

_CLOSE_WITHIN = 2.0
_CLOCK_EVERY = 60.0
_ROUNDED = 0.5
"""Seconds between what is measured here and at the server: a way there and back."""


class Ground:
    """Belongs to the event loop it was made on."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._names = Names(settings.namespace)
        self._api = Api(connection, settings.connect_timeout, settings.jetstream_domain)
        self._topology = Topology(connection, self._api, self._names, settings)
        self._limit = PayloadLimit(connection)
        self._publisher = Publisher(connection, settings.publish_timeout, self._restore, self._trace, self._limit.doubt)
        self._queues: dict[str, QueueTopology] = {}
        self._rooms: dict[str, Room] = {}
        self._reserves: dict[str, Room] = {}
        self._unbounded: set[str] = set()
        self._shared = self._recording = False
        self._making = asyncio.Lock()
        self._levelled: set[str] = set()
        self._acks: dict[str, Acks] = {}
        self._clock_due: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the inboxes. To be called once."""
        await self._publisher.start()
        self._connection.on_up(self._look_at_the_clock)

    @property
    def lease(self) -> float:
        return min((queue.ack_wait for queue in self._queues.values()), default=self._settings.ack_wait)

    def now(self) -> float:
        return self._api.clock.now()

    @property
    def knows_time(self) -> bool:
        return self._api.clock.known

    async def time(self, queue: str, *, make: bool = True) -> float:
        if make:
            await self._ensure(queue)
        elif not self.knows_time:
            with contextlib.suppress(Denied):  # then this machine's has to do
                await self._api.stream_info(self._names.jobs(queue))
        return self.now()

    async def confirm(self) -> None:
        for acks in self._acks.values():
            await acks.confirm(_CLOSE_WITHIN)

    async def close(self) -> None:
        await self.confirm()
        for acks in self._acks.values():
            acks.stop()
        if self._clock_due is not None:
            self._clock_due.cancel()
        if self._learning is not None:
            self._learning.cancel()
        self._publisher.stop()
        self._limit.stop()
        await self._connection.close()

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        self._queues.pop(queue, None)
        self._shared = False
        standing = await self._ensure(queue)
        drift = await self._topology.levels(queue) if levels or await self.levels(queue) else ()
        return (*standing.drift, *drift, *await self._topology.shared())

    async def _ensure(self, queue: str) -> QueueTopology:
        standing = self._queues.get(queue)
        if standing is not None:
            return standing
        async with self._making:
            if queue not in self._queues:
                standing = await self._topology.queue(queue)
                for drift in standing.drift:
                    _log.warning("drift: %s", drift)
                if standing.bounded:
                    look = partial(self._api.stream_info, self._names.jobs(queue))
                    self._rooms[queue] = Room(queue, look)
                    self._reserves[queue] = Room(queue, look, OPEN_TO_ALL)
                else:
                    self._unbounded.add(queue)
                self._queues[queue] = standing
                if self._clock_due is None:
                    self._clock_due = self._connection.loop.call_later(_CLOCK_EVERY, self._look_at_the_clock)
        return self._queues[queue]

    def _look_at_the_clock(self) -> None:
        """Ask the server for its time every minute, and when another server may have been connected to."""
        if self._clock_due is not None and (self._learning is None or self._learning.done()):
            self._clock_due.cancel()
            self._clock_due = self._connection.loop.call_later(_CLOCK_EVERY, self._look_at_the_clock)
            if self._connection.connected:
                self._learning = self._connection.loop.create_task(self._learn_time(), name="jetq-clock")

    async def _learn_time(self) -> None:
        with contextlib.suppress(BrokerError):  # the next answer tells
            await self._api.stream_info(self._names.jobs(next(iter(self._queues))))

    async def _take_room(self, job: JobRecord) -> None:
        """Take room for a new job of a queue that `_ensure` was called for. Raises Rejected if there is none."""
        room = self._rooms.get(job.queue)
        if room is not None:
            await room.take(job)

    async def levels(self, queue: str) -> bool:
        await self._ensure(queue)
        if queue not in self._levelled and await self._topology.has_levels(queue):
            self._levelled.add(queue)
        return queue in self._levelled

    async def _ensure_levels(self, queue: str) -> None:
        """Make the consumers of the levels, which most queues do without."""
        if queue in self._levelled:
            return
        async with self._making:
            for drift in await self._topology.levels(queue):
                _log.warning("drift: %s", drift)
            self._levelled.add(queue)

    async def _ensure_shared(self) -> None:
        if not self._shared:
            async with self._making:
                if not self._shared:
                    for drift in await self._topology.shared():
                        _log.warning("drift: %s", drift)
                    self._shared = True

    async def _ensure_records(self) -> None:
        if not self._recording:
            async with self._making:
                if not self._recording:
                    for drift in await self._topology.records():
                        _log.warning("drift: %s", drift)
                    self._recording = True

    def _too_large(self, job: JobRecord) -> PayloadTooLarge:
        """What to raise for more arguments than may be enqueued."""
        limit = self._connection.max_payload - HEADROOM
        self._limit.doubt()
        return PayloadTooLarge(
            f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; the limit is {limit:,}",
            hint="store the data elsewhere and pass its id or path, or raise max_payload of the server",
            job_ids=(job.id,),
        )

    def _each(
        self, stream: str, where: str, *, after: int = 0, limit: float = math.inf
    ) -> AsyncIterator[StoredMessage]:
        """The messages on `where`, which may be all of the stream, as some replica has them; see `each_message`."""
        together = at_once(self._connection.max_payload)
        return each_message(self._api, stream, where, at_once=together, after=after, limit=limit)

    async def _few(self, stream: str, where: str, *, after: int = 0, limit: float = math.inf) -> list[StoredMessage]:
        """The messages on `where`, which names an id or a key, as some replica has them."""
        found: list[StoredMessage] = []
        while len(found) < limit and (message := await self._api.next_message(stream, where, after + 1)):
            found.append(message)
            after = message.sequence
        return found

    async def _subjects(self, stream: str, where: str) -> Mapping[str, int]:
        """The subjects that match, and how many messages each has. Never for jobs, of which there may be a million."""
        info = await self._api.request(f"STREAM.INFO.{stream}", {"subjects_filter": where})
        return info["state"].get("subjects") or {}

    def _where(self, job: Delivery) -> str:
        """Where nothing newer may stand if the job is to be stored anew. Not any job of its key: when two of a key
        stand, which producers prevent and what was stored by hand need not, neither may be lost for the other."""
        return self._names.of_job(job.queue, job.task, job.key, job.id) if job.task else job.address

    async def _handed_out(self, queue: str, level: Level) -> int:
        """The sequence up to which messages of that level were handed out."""
        consumer = await self._api.consumer_info(self._names.jobs(queue), self._names.consumer(queue, level))
        return int(consumer["delivered"]["stream_seq"]) if consumer else 0

    async def _trace(self, job: JobRecord, within: float) -> PubAck | None:
        """What shows that `job`, sent at most `within` seconds ago, was stored: it stands, or it has ended since and
        left its result or its dead letter. None if nothing does: also when it left nothing.

        The server alone does not know it any more: when it starts, it forgets the ids of messages that are gone.
        """
        names = self._names
        standing = await self._api.last_message(names.jobs(job.queue), names.by_id(job.queue, job.id))
        if standing is not None:
            return PubAck(seq=standing.sequence, duplicate=True)
        with contextlib.suppress(Denied):  # then that is not known either
            result = await self._api.last_message(names.results, names.result(job.id))
            if result is not None and read_result(result.data, job.queue) and await self._is_of(job, result, within):
                return PubAck(duplicate=True)
        with contextlib.suppress(Denied):
            where, after = names.dead_filter(job.queue, None, job.id), 0
            while letter := await self._api.next_message(names.dead_letters(job.queue), where, after + 1):
                if await self._is_of(job, letter, within):
                    return PubAck(duplicate=True)
                after = letter.sequence
        return None

    async def _is_of(self, job: JobRecord, left: StoredMessage, within: float) -> bool:
        """Whether a result or dead letter is of the job that was sent at most `within` seconds ago: of an id that was
        not made for one enqueue alone, something may be left of an earlier job."""
        if job.fresh:
            return True
        info = await self._api.stream_info(self._names.jobs(job.queue))
        now = self.now() if info is None else datetime.fromisoformat(info["ts"]).timestamp()  # the server's
        return now - left.stored_at <= within + _ROUNDED

    async def _restore(self, subject: str) -> None:
        """Make again what `subject` needs: its stream may have been deleted since."""
        queue = subject.split(".")[1]
        if queue == "_record":
            await self._topology.records()
        elif queue.startswith("_"):
            await self._topology.shared()
        else:
            await self._restore_queue(queue)

    async def _restore_queue(self, queue: str) -> None:
        """Make again what was deleted of it. What stood is believed meanwhile, and nobody waits for this: a stream that
        only has no leader answers nothing, and what is written to it waits for one as well."""
        if await self._api.stream_info(self._names.jobs(queue)) is None:
            await asyncio.sleep(DELETED_WITHIN)
        self._queues[queue] = await self._topology.queue(queue)
        if queue in self._levelled:
            await self._topology.levels(queue)


def stored(job: JobRecord, ack: PubAck) -> Stored:
    """What became of `job`, for which the stream answered `ack`."""
    # A fresh id that is known already is this very enqueue's: an earlier try of it was stored and not confirmed.
    return Stored(ack.seq, job.id, "existing" if ack.duplicate and not job.fresh else "new")


def schedule_headers(due: float, target: str) -> dict[str, str]:
    """What makes a message one that the server publishes on `target` when it is `due`."""
    return {"Nats-Schedule": f"@at {rfc3339(due)}", "Nats-Schedule-Target": target}


def rfc3339(due: float) -> str:
    """Unix seconds as the server reads them."""
    # Rounded up to the microsecond, because a job must not be early.
    return datetime.fromtimestamp(math.ceil(due * 1e6) / 1e6, UTC).isoformat(timespec="microseconds")


def is_overdue(due: float | None, now: float) -> bool:
    """Whether the server should have started a schedule long ago."""
    return due is not None and due < now - OVERDUE


def due_of(headers: Mapping[str, str]) -> float | None:
    """When a stored schedule is due, in unix seconds; None for a message that is none, or for a time of no date."""
    pattern = headers.get("Nats-Schedule", "")
    try:
        return datetime.fromisoformat(pattern[4:]).timestamp() if pattern.startswith("@at ") else None
    except (ValueError, OverflowError):  # the server takes the year 0
        return None
