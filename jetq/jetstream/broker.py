"""The broker on NATS JetStream: jetq's verbs in terms of streams, subjects and headers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from jetq.errors import BrokerError, PayloadTooLarge
from jetq.failures import fit
from jetq.jetstream.acks import Acks
from jetq.jetstream.api import Api, StoredMessage
from jetq.jetstream.connection import Connection, NoReply, NoResponders
from jetq.jetstream.publisher import PubAck, Publisher, WrongSequence
from jetq.jetstream.pull import REPLACES, Pull
from jetq.jetstream.subjects import Names, job_tokens
from jetq.jetstream.topology import QueueTopology, Topology
from jetq.model import (
    DEFAULT_META,
    DeadEntry,
    DeadLetter,
    Delivery,
    Drift,
    Failure,
    Found,
    JobRecord,
    QueueInfo,
    ResultRecord,
    Stored,
)
from jetq.names import NO_KEY
from jetq.settings import Settings
from jetq.wire import LETTER_HEADER, BadHeader, job_headers, letter_header, read_letter

__all__ = ["JetStreamBroker"]

_log = logging.getLogger("jetq.jetstream")

_MSG_ID = "Nats-Msg-Id"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
_TTL = "Nats-TTL"

HEADROOM = 32 * 1024
"""Bytes a job stays under the payload limit, so that its retry and its dead letter fit too."""

_LETTER_LIMIT = 24 * 1024
_WRITE_WITHIN = 15.0
"""A worker's own writes ride out a leader's loss, about 5 s (nats-server 2.15, three nodes), with room to spare."""

_EXTEND_WITHIN = 5.0
_CLOSE_WITHIN = 2.0
_STARTS_TTL = 7 * 86400
_encode = msgspec.json.Encoder().encode
_decode_result = msgspec.json.Decoder(ResultRecord).decode


class JetStreamBroker:
    """See `jetq.broker.Broker`. Belongs to the event loop it was made on."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._names = Names(settings.namespace)
        self._api = Api(connection, settings.connect_timeout)
        self._topology = Topology(self._api, self._names, settings)
        self._publisher = Publisher(connection, settings.publish_timeout, self._restore)
        self._queues: dict[str, QueueTopology] = {}
        self._shared = False
        self._making = asyncio.Lock()
        self._acks: dict[str, Acks] = {}
        self._pulls: list[Pull] = []

    async def start(self) -> None:
        """Open the inboxes. To be called once."""
        await self._publisher.start()

    @property
    def lease(self) -> float:
        return min((queue.ack_wait for queue in self._queues.values()), default=self._settings.ack_wait)

    async def confirm(self) -> None:
        for acks in self._acks.values():
            await acks.confirm(_CLOSE_WITHIN)

    async def close(self) -> None:
        await self.confirm()
        for acks in self._acks.values():
            acks.stop()
        self._publisher.stop()
        await self._connection.close()

    # --- topology

    async def setup(self, queue: str) -> Sequence[Drift]:
        self._queues.pop(queue, None)
        self._shared = False
        standing = await self._ensure(queue)
        return (*standing.drift, *await self._topology.shared())

    async def _ensure(self, queue: str) -> QueueTopology:
        standing = self._queues.get(queue)
        if standing is not None:
            return standing
        async with self._making:
            if queue not in self._queues:
                standing = await self._topology.queue(queue)
                for drift in standing.drift:
                    _log.warning("drift: %s", drift)
                self._queues[queue] = standing
        return self._queues[queue]

    async def _ensure_shared(self) -> None:
        if not self._shared:
            async with self._making:
                if not self._shared:
                    for drift in await self._topology.shared():
                        _log.warning("drift: %s", drift)
                    self._shared = True

    async def _restore(self, subject: str) -> None:
        """Make again what `subject` needs: its stream may have been deleted since."""
        queue = subject.split(".")[1]
        if queue.startswith("_"):
            self._shared = False
            await self._ensure_shared()
        else:
            self._queues.pop(queue, None)
            await self._ensure(queue)

    # --- producing

    async def enqueue(self, job: JobRecord, *, due: float | None = None, timeout: float | None = None) -> Stored:
        ack = await (await self._begin(job, due, timeout))
        return Stored(sequence=ack.seq, duplicate=ack.duplicate)

    async def enqueue_many(
        self, jobs: Sequence[JobRecord], *, due: float | None = None, timeout: float | None = None
    ) -> Sequence[Stored | Exception]:
        under_way: list[asyncio.Future[PubAck] | Exception] = []
        for job in jobs:  # all written first, then waited for: no task per job
            try:
                under_way.append(await self._begin(job, due, timeout))
            except (BrokerError, ValueError) as error:
                under_way.append(error)
        return [await _answer(each) for each in under_way]

    async def _begin(self, job: JobRecord, due: float | None, timeout: float | None) -> asyncio.Future[PubAck]:
        if job.queue not in self._queues:
            await self._ensure(job.queue)
        if len(job.body) > self._connection.max_payload - HEADROOM:
            raise PayloadTooLarge(
                f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; "
                f"the limit is {self._connection.max_payload - HEADROOM:,}",
                hint="store the data elsewhere and pass its id or path, or raise max_payload of the server",
                job_ids=(job.id,),
            )
        headers = {_MSG_ID: job.id} if job.meta is DEFAULT_META else {_MSG_ID: job.id, **job_headers(job)}
        if due is None:
            subject = self._names.run(job.queue, job.task, job.key, job.id)
        else:
            subject = self._names.later(job.queue, job.task, job.key, job.id)
            headers.update(self._schedule(job, due))
        return await self._publisher.begin(subject, job.body, headers, timeout=timeout)

    def _schedule(self, job: JobRecord, due: float) -> dict[str, str]:
        return {
            "Nats-Schedule": f"@at {_rfc3339(due)}",
            "Nats-Schedule-Target": self._names.run(job.queue, job.task, job.key, job.id),
        }

    # --- working

    async def feed(self, queue: str, deliver: Callable[[Delivery], None]) -> Pull:
        standing = await self._ensure(queue)
        acks = self._acks.get(queue)
        if acks is None:
            acks = await self._start_acks(queue, standing)

        def settled(delivery: Delivery) -> bool:
            if not acks.has_settled(delivery):
                return False
            acks.add(delivery)
            return True

        async def restore() -> None:
            self._queues.pop(queue, None)
            await self._ensure(queue)

        async def remove(sequence: int) -> None:
            await self._api.delete(self._names.jobs(queue), sequence)

        pull = Pull(self._connection, queue, self._names.jobs(queue), deliver, settled, remove, restore)
        await pull.start()
        return pull

    async def _start_acks(self, queue: str, standing: QueueTopology) -> Acks:
        stream = self._names.jobs(queue)

        async def remove(sequence: int) -> None:
            await self._api.delete(stream, sequence)

        async def identity() -> str:
            info = await self._api.stream_info(stream)
            return str(info["created"]) if info else ""

        acks = self._acks[queue] = Acks(self._connection, remove, identity, standing.created)
        await acks.start()
        return acks

    def finish(self, delivery: Delivery) -> None:
        self._acks[delivery.queue].add(delivery)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        headers = {**job_headers(job), **self._succeed(delivery)}
        if due <= time.time():  # a schedule fires up to 250 ms late (nats-server 2.15)
            subject = delivery.address
        else:
            subject = self._names.later(job.queue, job.task, job.key, job.id)
            headers.update(self._schedule(job, due))
        return await self._store_successor(subject, job.body, headers)

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        # As a new message, because a nak would leave its mark in the delivery count and make the job a suspect.
        headers = {**job_headers(job), **self._succeed(delivery)}
        await self._store_successor(delivery.address, delivery.body, headers)
        self.finish(delivery)

    async def _store_successor(self, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            await self._publisher.publish(subject, body, headers, timeout=_WRITE_WITHIN)
        except WrongSequence:
            return False  # stored already by a repeat of this publish, or the job was cancelled
        return True

    def _succeed(self, delivery: Delivery) -> dict[str, str]:
        """The headers that make a message the successor of `delivery`'s, once, and have that one removed before it is
        handed out.

        Not by a rollup, which would do it in one step: after a rollup or purge of the message that was handed out last,
        the consumer never redelivers what else it had handed out (nats-server 2.15.1, pinned by
        tests/integration/test_server_facts.py). Removal by sequence does no such harm.
        """
        return {
            _EXPECTED: str(delivery.sequence),
            _EXPECTED_ON: self._names.anywhere(delivery.queue, delivery.task, delivery.key, delivery.id)
            if delivery.task
            else delivery.address,
            REPLACES: str(delivery.sequence),
        }

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        room = self._connection.max_payload - len(delivery.body) - 1024
        headers = {
            LETTER_HEADER: letter_header(fit(letter, min(_LETTER_LIMIT, room))),
            _MSG_ID: f"{delivery.id}.{delivery.sequence}",
        }
        subject = self._names.dead(delivery.queue, delivery.task, delivery.id)
        await self._publisher.publish(subject, delivery.body, headers, timeout=_WRITE_WITHIN)

    async def superseded(self, delivery: Delivery) -> bool:
        names = self._names
        if not delivery.task:
            return False
        where = names.anywhere(delivery.queue, delivery.task, delivery.key, delivery.id)
        newest = await self._api.last_message(names.jobs(delivery.queue), where)
        if newest is None or newest.sequence > delivery.sequence:
            return True
        dead = await self._api.last_message(
            names.dead_letters(delivery.queue), names.dead(delivery.queue, delivery.task, delivery.id)
        )
        if dead is not None and _letter(dead, delivery.queue).sequence == delivery.sequence:
            return True
        result = await self.get_result(delivery.id)
        return result is not None and result.queue == delivery.queue and result.sequence == delivery.sequence

    async def starts(self, delivery: Delivery) -> int:
        await self._ensure_shared()
        message = await self._api.last_message(self._names.state, self._names.start(delivery.queue, delivery.id))
        if message is None:
            return 0
        sequence, _, starts = message.data.partition(b" ")
        return int(starts) if sequence == b"%d" % delivery.sequence else 0

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        await self._ensure_shared()
        subject = self._names.start(delivery.queue, delivery.id)
        # The sequence is that of the message started: a retry is another message, and starts from nothing.
        await self._publisher.publish(subject, b"%d %d" % (delivery.sequence, starts), {_TTL: str(_STARTS_TTL)})

    async def erase_starts(self, delivery: Delivery) -> None:
        await self._api.purge(self._names.state, self._names.start(delivery.queue, delivery.id))

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        for held in by_queue.values():
            for delivery in held[:-1]:
                await self._connection.publish(delivery.token, b"+WPI")
            try:
                await self._connection.request(held[-1].token, b"+WPI", timeout=_EXTEND_WITHIN)
            except (NoReply, NoResponders):
                raise BrokerError(f"{len(held)} leases of queue {held[0].queue} could not be renewed") from None

    # --- results

    async def put_result(self, result: ResultRecord, ttl: float) -> None:
        await self._ensure_shared()
        headers = {_TTL: str(max(1, math.ceil(ttl)))}
        await self._publisher.publish(self._names.result(result.id), _encode(result), headers, timeout=_WRITE_WITHIN)

    async def get_result(self, id: str) -> ResultRecord | None:
        message = await self._api.last_message(self._names.results, self._names.result(id))
        return None if message is None else _result(message.data)

    async def wait_result(self, id: str, timeout: float) -> ResultRecord | None:
        arrived: asyncio.Future[ResultRecord] = asyncio.get_running_loop().create_future()

        def on_push(msg: Msg) -> None:
            record = _result(msg.data)
            if record is not None and not arrived.done():
                arrived.set_result(record)

        subscription = await self._connection.subscribe(self._names.result(id), on_push)
        try:
            # In this order: once the server knows the subscription, a result is either stored already or still pushed.
            async with asyncio.timeout(timeout):
                await self._connection.ping(timeout)
                stored = await self.get_result(id)
                return stored if stored is not None else await arrived
        except (TimeoutError, NoReply):
            return None
        finally:
            await subscription.unsubscribe()

    # --- looking and mending

    async def find(self, queue: str, id: str) -> Found | None:
        stream = self._names.jobs(queue)
        message = await self._api.last_message(stream, self._names.by_id(queue, id))
        if message is None:
            return None
        kind, task, key, id = job_tokens(message.subject, message.sequence)
        delivery = Delivery(
            queue=queue,
            task=task,
            key=key,
            id=id,
            body=message.data,
            headers=message.headers,
            sequence=message.sequence,
            count=0,
            stored_at=message.stored_at,
            since=0.0,
            token="",
            address=message.subject,
        )
        if kind == "later":
            return Found(delivery, "scheduled", due=_due(message.headers))
        consumer = await self._api.consumer_info(stream, queue)
        handed_out = int(consumer["delivered"]["stream_seq"]) if consumer else 0
        return Found(delivery, "queued", in_flight=message.sequence <= handed_out)

    async def queues(self) -> Sequence[QueueInfo]:
        names = self._names
        streams: list[dict[str, object]] = []
        while True:
            page = await self._api.request(
                "STREAM.LIST", {"subject": f"{names.namespace}.*.run.>", "offset": len(streams)}
            )
            streams += page.get("streams") or []
            if len(streams) >= int(page.get("total", 0)):
                break
        found = []
        for info in streams:
            config = info["config"]
            assert isinstance(config, dict)
            queue = str(config["subjects"][0]).split(".")[1]
            if config["name"] == names.jobs(queue):
                found.append(await self._queue_info(queue, info))
        return sorted(found, key=lambda info: info.name)

    async def _queue_info(self, queue: str, stream: Mapping[str, object]) -> QueueInfo:
        names = self._names
        consumer = await self._api.consumer_info(names.jobs(queue), queue)
        dead = await self._api.stream_info(names.dead_letters(queue))
        state = stream["state"]
        assert isinstance(state, dict)
        ready = int(consumer["num_pending"]) if consumer else 0
        running = int(consumer["num_ack_pending"]) if consumer else 0
        return QueueInfo(
            name=queue,
            ready=ready,
            running=running,
            scheduled=max(0, int(state["messages"]) - ready - running) if consumer else 0,
            dead=int(dead["state"]["messages"]) if dead else 0,
            waiting=int(consumer["num_waiting"]) if consumer else 0,
        )

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        entries: list[DeadEntry] = []
        where = self._names.dead_filter(queue, task, id)
        sequence = 1
        while limit is None or len(entries) < limit:
            message = await self._api.next_message(self._names.dead_letters(queue), where, sequence)
            if message is None:
                break
            entries.append(DeadEntry(letter=_letter(message, queue), body=message.data, sequence=message.sequence))
            sequence = message.sequence + 1
        return entries

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        await self._ensure(job.queue)
        old_result = await self._api.last_message(self._names.results, self._names.result(job.id))
        headers = {
            **job_headers(job),
            _MSG_ID: f"{job.id}.r{entry.sequence}",
            _EXPECTED: "0",
            _EXPECTED_ON: self._names.anywhere(job.queue, job.task, job.key, job.id),
        }
        subject = self._names.run(job.queue, job.task, job.key, job.id)
        try:
            await self._publisher.publish(subject, job.body, headers)
        except WrongSequence:
            return False
        if old_result is not None:  # by sequence: a fast worker may have stored the new one already
            await self._api.delete(self._names.results, old_result.sequence)
        await self._api.delete(self._names.dead_letters(job.queue), entry.sequence)
        return True

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        return await self._api.purge(self._names.dead_letters(queue), self._names.dead_filter(queue, task, id))


async def _answer(under_way: asyncio.Future[PubAck] | Exception) -> Stored | Exception:
    if isinstance(under_way, Exception):
        return under_way
    try:
        ack = await under_way
    except Exception as error:  # the answer to this job, whatever it is; the others have theirs
        return error
    return Stored(sequence=ack.seq, duplicate=ack.duplicate)


def _rfc3339(due: float) -> str:
    # Rounded up to the microsecond, because a job must not be early.
    return datetime.fromtimestamp(math.ceil(due * 1e6) / 1e6, UTC).isoformat(timespec="microseconds")


def _due(headers: Mapping[str, str]) -> float | None:
    pattern = headers.get("Nats-Schedule", "")
    return datetime.fromisoformat(pattern[4:]).timestamp() if pattern.startswith("@at ") else None


def _result(data: bytes) -> ResultRecord | None:
    try:
        return _decode_result(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # not jetq's: anyone with the permission may publish there


def _letter(message: StoredMessage, queue: str) -> DeadLetter:
    try:
        return read_letter(message.headers.get(LETTER_HEADER, ""))
    except BadHeader as error:  # somebody else's, or a newer jetq's: shown with its bytes like any other
        tokens = message.subject.split(".")
        return DeadLetter(
            id=tokens[-1],
            task=tokens[-2].replace(":", "."),
            queue=queue,
            key=NO_KEY,
            reason="undecodable",
            failure=Failure(type="jetq.BadHeader", message=f"the dead letter is unreadable: {error}"),
            attempt=1,
            at=message.stored_at,
            enqueued=message.stored_at,
            address=message.subject,
            sequence=0,
            headers=dict(message.headers),
        )
