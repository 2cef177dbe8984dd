"""What a worker does with its deliveries: feeds, settlements with their fences, leases and recorded starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from jetq.encoding.headers import IMPORTED_HEADER, LETTER_HEADER, job_headers
from jetq.errors import BrokerError, BrokerUnavailable, NotStored, PayloadTooLarge
from jetq.jetstream.broker.base import EXPECTED, EXPECTED_ON, MSG_ID, TTL, WRITE_WITHIN, Base, schedule_headers
from jetq.jetstream.broker.dead_letters import letter_beside, stored_letter
from jetq.jetstream.broker.results import kept_result
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.api import StoredMessage
from jetq.jetstream.streams.publisher import WrongSequence
from jetq.jetstream.streams.pull import REPLACES, Pull
from jetq.jetstream.streams.subjects import job_tokens
from jetq.jetstream.streams.topology import QueueTopology
from jetq.jetstream.transport.connection import NoReply, NoResponders
from jetq.model.dead_letter import DeadLetter
from jetq.model.job import Delivery, JobRecord, Level, Terms

__all__ = ["Consuming"]

_EXTEND_WITHIN = 5.0
_IN_PROGRESS = b"+WPI"
_NANOSECONDS = 1_000_000_000
_STARTS_TTL = 7 * 86400
_CATCHING_UP = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between looks at a leader that lags behind, usually by some milliseconds."""


class Consuming(Base):
    """See `jetq.broker.consuming.Consuming`."""

    @property
    def lease(self) -> float:
        return min((queue.ack_wait for queue in self.known_queues.values()), default=self.settings.ack_wait)

    async def levels(self, queue: str) -> bool:
        return await self.has_levels(queue)

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> Pull:
        topology = await self.ensure(queue)
        if level != "normal":
            await self.ensure_levels(queue)
        stream, consumer = self.subjects.jobs(queue), self.subjects.consumer(queue, level)
        acks = self.acks.get(_consumer(queue, level))
        if acks is None:
            acks = await self._start_acks(queue, level, topology)

        async def made() -> str:
            terms = await self.terms(queue, level)
            return "" if terms is None else terms.by

        async def restore() -> str:
            await self.restore_queue(queue)
            return await made()

        async def pending() -> int | None:
            info = await self.api.consumer_info(stream, consumer)
            return None if info is None else int(info["num_pending"])

        async def remove(successor: Delivery, sequence: int) -> None:
            # Remove only a message of the same job: the header may name any sequence, and the successor may come from
            # another stream.
            earlier = await self.api.message(stream, sequence)
            if earlier is not None and job_tokens(earlier.subject, sequence)[1:] == _tokens(successor):
                await self.api.delete(stream, sequence)

        pull = Pull(
            self.connection,
            queue,
            level,
            f"{self.api.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            deliver,
            acks=acks,
            remove=remove,
            restore=restore,
            made=await made(),
            pending=pending if on_clear is not None else None,
            on_clear=on_clear,
        )
        await pull.start()
        return pull

    async def _start_acks(self, queue: str, level: Level, topology: QueueTopology) -> Acks:
        stream = self.subjects.jobs(queue)

        async def remove(sequence: int) -> None:
            await self.api.delete(stream, sequence)

        async def identity() -> str:
            info = await self.api.stream_info(stream)
            return str(info["created"]) if info else ""

        acks = self.acks[_consumer(queue, level)] = Acks(self.connection, remove, identity, topology.created)
        await acks.start()
        return acks

    def finish(self, delivery: Delivery) -> None:
        consumer = delivery.queue if delivery.level == "normal" else _consumer(delivery.queue, delivery.level)
        self.acks[consumer].add(delivery)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        headers = {**_headers(job), **self._succeed(delivery)}
        if due <= self.now():  # stored ready, because a schedule fires up to 250 ms late (nats-server 2.15)
            subject = delivery.address
        else:
            subject = self.subjects.later(job.queue, job.task, job.key, job.id)
            headers.update(schedule_headers(due, self.subjects.run(job.queue, job.task, job.key, job.id, job.level)))
        return await self._store_successor(delivery, subject, job.body, headers)

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        # As a new message, because a nak would raise the delivery count, which makes the job a suspect.
        headers = {**_headers(job), **self._succeed(delivery)}
        await self._store_successor(delivery, delivery.address, job.body, headers)
        self.finish(delivery)

    async def _store_successor(self, delivery: Delivery, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        """Store the successor of `delivery`'s message.

        Returns False if the job is gone, or has a successor already because this publish was repeated. A refusal alone
        does not prove either of them: see `_newest`.

        Guarantee: tests/integration/server/test_lagging_leader.py, and on three nodes
        tests/faults/test_cluster.py::test_a_job_that_the_leader_has_not_seen_yet_is_retried_all_the_same.
        """
        if (reserve := self.reserves.get(delivery.queue)) is not None:
            await reserve.take(delivery)
        for pause in _CATCHING_UP:
            try:
                await self.publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
                return True
            except WrongSequence:
                newest = await self._newest(delivery)
            if newest is None or newest.sequence > delivery.sequence:
                return False
            await asyncio.sleep(pause)
        raise NotStored(f"job {delivery.id} stands, and its next attempt is refused as if it did not")

    async def _newest(self, delivery: Delivery) -> StoredMessage | None:
        """Return the newest message of the job, as a leader has it that has stored the delivery itself; None if the job
        is gone.

        On three nodes the stream's leader may run on another node than the consumer's, and may not have applied yet
        what the consumer hands out. Such a leader refuses a successor, and says that no message of the job is stored
        (nats-server 2.15.1: up to 17 of 5,000 jobs on busy nodes). Raises BrokerUnavailable if the leader does not
        catch up.
        """
        stream, where = self.subjects.jobs(delivery.queue), self.fence_subject(delivery)
        for pause in _CATCHING_UP:
            newest = await self.api.last_message(stream, where)
            if newest is not None:
                return newest
            info = await self.api.stream_info(stream)
            if info is None or int(info["state"]["last_seq"]) >= delivery.sequence:
                return await self.api.last_message(stream, where)
            await asyncio.sleep(pause)
        raise BrokerUnavailable(f"the leader of stream {stream} lags behind: it does not have {delivery.id} yet")

    def _succeed(self, delivery: Delivery) -> dict[str, str]:
        """Return the headers that make a message the one successor of `delivery`'s message.

        The headers also have `delivery`'s message removed before the successor is handed out. A rollup would do this in
        one step, but is not used: after a rollup or purge of the message that was handed out last, the consumer never
        redelivers the other messages it had handed out (nats-server 2.15.1, pinned by
        tests/integration/server/test_server_facts.py). Removal by sequence does no such harm.
        """
        return {
            EXPECTED: str(delivery.sequence),
            EXPECTED_ON: self.fence_subject(delivery),
            REPLACES: str(delivery.sequence),
        }

    async def put_off(self, delivery: Delivery, after: float) -> None:
        word = b'-NAK {"delay":%d}' % int(after * 1e9) if after > 0 else b"-NAK"
        await self.connection.publish(delivery.token, word)

    async def store_dead(self, delivery: Delivery, letter: DeadLetter) -> None:
        once = {MSG_ID: f"{delivery.id}.{delivery.sequence}"}
        story = {LETTER_HEADER: letter_beside(delivery.body, letter, self.connection.max_payload)}
        subject = self.subjects.dead(delivery.queue, delivery.task, delivery.id)
        try:
            await self.publisher.publish(subject, delivery.body, {**story, **once}, timeout=WRITE_WITHIN)
        except PayloadTooLarge:  # `.delay` leaves room for the story; others may fill a message up to its last byte
            await self._store_dead_bare(subject, delivery.body, once)

    async def _store_dead_bare(self, subject: str, body: bytes, once: dict[str, str]) -> None:
        """Store the bytes of the job alone, because they leave no room for a story beside them."""
        try:
            await self.publisher.publish(subject, body, once, timeout=WRITE_WITHIN)
        except PayloadTooLarge:
            await self.publisher.publish(subject, body, None, timeout=WRITE_WITHIN)

    async def is_superseded(self, delivery: Delivery) -> bool:
        if not delivery.task:
            return False
        newest = await self._newest(delivery)
        if newest is None or newest.sequence > delivery.sequence:
            return True
        dead = await self.api.last_message(
            self.subjects.dead_letters(delivery.queue), self.subjects.dead(delivery.queue, delivery.task, delivery.id)
        )
        if dead is not None and IMPORTED_HEADER not in dead.headers:  # an imported letter has a sequence of elsewhere
            if stored_letter(dead, delivery.queue).sequence == delivery.sequence:
                return True
        result = await kept_result(self, delivery.queue, delivery.id)
        return result is not None and result.sequence == delivery.sequence

    async def recorded_starts(self, delivery: Delivery) -> int:
        await self.ensure_shared()
        message = await self.api.last_message(self.subjects.state, self.subjects.start(delivery.queue, delivery.id))
        if message is None:
            return 0
        sequence, _, starts = message.data.partition(b" ")
        ours = sequence == b"%d" % delivery.sequence and starts.isdigit() and len(starts) < 10
        return int(starts) if ours else 0

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        await self.ensure_shared()
        subject = self.subjects.start(delivery.queue, delivery.id)
        # The sequence is that of the started message: a retry is another message, and counts its starts from 0.
        await self.publisher.publish(subject, b"%d %d" % (delivery.sequence, starts), {TTL: str(_STARTS_TTL)})

    async def erase_starts(self, delivery: Delivery) -> None:
        await self.api.purge(self.subjects.state, self.subjects.start(delivery.queue, delivery.id))

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        # The server reads the renewals of one consumer in order, so an answer to the last one confirms all of them, as
        # long as all went over one connection.
        by_consumer: dict[tuple[str, Level], list[Delivery]] = {}
        for delivery in deliveries:
            by_consumer.setdefault((delivery.queue, delivery.level), []).append(delivery)
        for held in by_consumer.values():
            await self._extend(held)

    async def _extend(self, held: Sequence[Delivery]) -> None:
        connection, line = self.connection, self.connection.client
        if line is None or not connection.connected:
            raise BrokerUnavailable(f"queue {held[0].queue}: there is no connection")
        try:
            for delivery in held[:-1]:
                await connection.publish(delivery.token, _IN_PROGRESS)
            await connection.request(held[-1].token, _IN_PROGRESS, timeout=_EXTEND_WITHIN)
        except (NoReply, NoResponders):
            raise BrokerError(f"queue {held[0].queue}: the server did not confirm it") from None
        if connection.client is not line:  # the first renewals may have been lost with the old connection
            raise BrokerError(f"queue {held[0].queue}: the connection was lost meanwhile")

    async def terms(self, queue: str, level: Level) -> Terms | None:
        info = await self.api.consumer_info(self.subjects.jobs(queue), self.subjects.consumer(queue, level))
        return None if info is None else Terms(int(info["config"]["ack_wait"]) / _NANOSECONDS, str(info["created"]))


def _headers(job: JobRecord) -> dict[str, str]:
    """Return the headers of `job`.

    If the job goes back as it came, these are its stored headers without the server's.
    """
    headers = job_headers(job)
    if job.as_is is None:
        return headers
    own = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    # A line break would end the header. In JSON a line break is blank space, and not allowed within texts.
    return {name: value.replace("\r", " ").replace("\n", " ") for name, value in own.items()}


def _tokens(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.task, delivery.key, delivery.id


def _consumer(queue: str, level: Level) -> str:
    """Return the key under which `acks` has the acks of this consumer; they are confirmed together."""
    return queue if level == "normal" else f"{queue}/{level}"
