"""Dead letters in their stream: browsed, replayed, dropped."""

from __future__ import annotations

from collections.abc import Sequence

from jetq.jetstream.api import StoredMessage
from jetq.jetstream.ground import EXPECTED, EXPECTED_ON, MSG_ID, Ground
from jetq.jetstream.publisher import WrongSequence
from jetq.model import DeadEntry, DeadLetter, Failure, JobRecord
from jetq.names import NO_KEY
from jetq.wire import LETTER_HEADER, BadHeader, job_headers, read_letter

__all__ = ["Letters", "stored_letter"]


class Letters(Ground):
    """The part of the broker that works with dead letters. See `jetq.broker.Broker`."""

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
            entries.append(
                DeadEntry(letter=stored_letter(message, queue), body=message.data, sequence=message.sequence)
            )
            sequence = message.sequence + 1
        return entries

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        await self._ensure(job.queue)
        if job.level != "normal":
            await self._ensure_levels(job.queue)
        old_result = await self._api.last_message(self._names.results, self._names.result(job.id))
        headers = {
            **job_headers(job),
            MSG_ID: f"{job.id}.r{entry.sequence}",
            EXPECTED: "0",
            EXPECTED_ON: self._names.anywhere(job.queue, job.task, job.key, job.id),
        }
        subject = self._names.run(job.queue, job.task, job.key, job.id, job.level)
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


def stored_letter(message: StoredMessage, queue: str) -> DeadLetter:
    """The letter in a message of a dead-letter stream, whatever stands there."""
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
