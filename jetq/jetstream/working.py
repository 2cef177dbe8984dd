"""What a worker does with its deliveries: feeds, settlements with their fences, leases and recorded starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from jetq.errors import BrokerError
from jetq.failures import fit
from jetq.jetstream.acks import Acks
from jetq.jetstream.connection import NoReply, NoResponders
from jetq.jetstream.ground import EXPECTED, EXPECTED_ON, MSG_ID, TTL, WRITE_WITHIN, schedule_headers
from jetq.jetstream.letters import stored_letter
from jetq.jetstream.publisher import WrongSequence
from jetq.jetstream.pull import REPLACES, Pull
from jetq.jetstream.results import Results
from jetq.jetstream.topology import QueueTopology
from jetq.model import DeadLetter, Delivery, JobRecord, Level
from jetq.wire import LETTER_HEADER, job_headers, letter_header

__all__ = ["Working"]

_LETTER_LIMIT = 24 * 1024
_EXTEND_WITHIN = 5.0
_STARTS_TTL = 7 * 86400


class Working(Results):
    """The part of the broker that workers use. See `jetq.broker.Broker`."""

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> Pull:
        standing = await self._ensure(queue)
        if level != "normal":
            await self._ensure_levels(queue)
        stream, consumer = self._names.jobs(queue), self._names.consumer(queue, level)
        acks = self._acks.get(_place(queue, level))
        if acks is None:
            acks = await self._start_acks(queue, level, standing)

        def settled(delivery: Delivery) -> bool:
            if not acks.has_settled(delivery):
                return False
            acks.add(delivery)
            return True

        async def restore() -> None:
            self._queues.pop(queue, None)
            await self._ensure(queue)
            if level != "normal":
                self._levelled.discard(queue)
                await self._ensure_levels(queue)

        async def pending() -> int | None:
            info = await self._api.consumer_info(stream, consumer)
            return None if info is None else int(info["num_pending"])

        async def remove(sequence: int) -> None:
            await self._api.delete(stream, sequence)

        pull = Pull(
            self._connection,
            queue,
            level,
            f"{stream}.{consumer}",
            deliver,
            settled=settled,
            remove=remove,
            restore=restore,
            pending=pending if on_clear is not None else None,
            on_clear=on_clear,
        )
        await pull.start()
        return pull

    async def _start_acks(self, queue: str, level: Level, standing: QueueTopology) -> Acks:
        stream = self._names.jobs(queue)

        async def remove(sequence: int) -> None:
            await self._api.delete(stream, sequence)

        async def identity() -> str:
            info = await self._api.stream_info(stream)
            return str(info["created"]) if info else ""

        acks = self._acks[_place(queue, level)] = Acks(self._connection, remove, identity, standing.created)
        await acks.start()
        return acks

    def finish(self, delivery: Delivery) -> None:
        place = delivery.queue if delivery.level == "normal" else _place(delivery.queue, delivery.level)
        self._acks[place].add(delivery)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        headers = {**job_headers(job), **self._succeed(delivery)}
        if due <= time.time():  # a schedule fires up to 250 ms late (nats-server 2.15)
            subject = delivery.address
        else:
            subject = self._names.later(job.queue, job.task, job.key, job.id)
            headers.update(schedule_headers(due, self._names.run(job.queue, job.task, job.key, job.id, job.level)))
        return await self._store_successor(subject, job.body, headers)

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        # As a new message, because a nak would leave its mark in the delivery count and make the job a suspect.
        headers = {**job_headers(job), **self._succeed(delivery)}
        await self._store_successor(delivery.address, delivery.body, headers)
        self.finish(delivery)

    async def _store_successor(self, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            await self._publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
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
            EXPECTED: str(delivery.sequence),
            EXPECTED_ON: self._where(delivery) if delivery.task else delivery.address,
            REPLACES: str(delivery.sequence),
        }

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        room = self._connection.max_payload - len(delivery.body) - 1024
        headers = {
            LETTER_HEADER: letter_header(fit(letter, min(_LETTER_LIMIT, room))),
            MSG_ID: f"{delivery.id}.{delivery.sequence}",
        }
        subject = self._names.dead(delivery.queue, delivery.task, delivery.id)
        await self._publisher.publish(subject, delivery.body, headers, timeout=WRITE_WITHIN)

    async def superseded(self, delivery: Delivery) -> bool:
        names = self._names
        if not delivery.task:
            return False
        where = self._where(delivery)
        newest = await self._api.last_message(names.jobs(delivery.queue), where)
        if newest is None or newest.sequence > delivery.sequence:
            return True
        dead = await self._api.last_message(
            names.dead_letters(delivery.queue), names.dead(delivery.queue, delivery.task, delivery.id)
        )
        if dead is not None and stored_letter(dead, delivery.queue).sequence == delivery.sequence:
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
        await self._publisher.publish(subject, b"%d %d" % (delivery.sequence, starts), {TTL: str(_STARTS_TTL)})

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


def _place(queue: str, level: Level) -> str:
    """Which acks are confirmed together: those of one consumer."""
    return queue if level == "normal" else f"{queue}/{level}"
