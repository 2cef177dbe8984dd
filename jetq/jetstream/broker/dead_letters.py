"""Dead letters in their stream: browsed, replayed, removed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jetq.broker.numbers import HEADROOM, LETTER_LIMIT
from jetq.encoding.failures import fit
from jetq.encoding.headers import IMPORTED_HEADER, LETTER_HEADER, BadHeader, job_headers, letter_header, read_letter
from jetq.errors import NotStored
from jetq.jetstream.broker.base import EXPECTED, EXPECTED_ON, MSG_ID, Base
from jetq.jetstream.streams.api import StoredMessage
from jetq.jetstream.streams.publisher import WrongSequence
from jetq.model.dead_letter import DeadEntry, DeadLetter, is_same_letter
from jetq.model.failure import Failure
from jetq.model.job import JobRecord
from jetq.model.names import NO_KEY

__all__ = ["DeadLetters", "letter_beside", "stored_letter"]

_LOOKS = 20


class DeadLetters(Base):
    """See `jetq.broker.dead_letters.DeadLetters`."""

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        stream, where = self.subjects.dead_letters(queue), self.subjects.dead_filter(queue, task, id)
        most = math.inf if limit is None else limit
        if id is not None:
            found = await self.few_messages(stream, where, after=after, limit=most)
        else:
            found = [message async for message in self.messages(stream, where, after=after, limit=most)]
        return [DeadEntry(stored_letter(message, queue), message.data, message.sequence) for message in found]

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        if job.body != entry.body and len(job.body) > self.connection.max_payload - HEADROOM:
            raise self.too_large(job)
        await self.ensure(job.queue)
        if job.level != "normal":
            await self.ensure_levels(job.queue)
        await self.take_room(job)
        old_result = await self.api.last_message(self.subjects.results, self.subjects.result(job.id))
        headers = {
            **job_headers(job),
            # Both sequences are needed: sequences in the stream of dead letters begin anew with the stream, and the
            # sequence in the letter may be another server's.
            MSG_ID: f"{job.id}.r{entry.letter.sequence}.{entry.sequence}",
            EXPECTED: "0",
            EXPECTED_ON: self.subjects.anywhere(job.queue, job.task, job.key, job.id),
        }
        subject = self.subjects.run(job.queue, job.task, job.key, job.id, job.level)
        try:
            await self.publisher.publish(subject, job.body, headers)
        except WrongSequence:
            return False
        if old_result is not None:  # by sequence, because a fast worker may have stored the new result already
            await self.api.delete(self.subjects.results, old_result.sequence)
        where = self.subjects.dead(job.queue, entry.letter.task, job.id)
        await self.api.purge(self.subjects.dead_letters(job.queue), where, up_to=entry.sequence)
        return True

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        return await self.api.purge(self.subjects.dead_letters(queue), self.subjects.dead_filter(queue, task, id))

    async def delete_dead(self, entry: DeadEntry) -> bool:
        return await self.api.delete(self.subjects.dead_letters(entry.letter.queue), entry.sequence)

    async def import_dead(self, entry: DeadEntry) -> bool:
        letter = entry.letter
        await self.ensure(letter.queue)
        stream, where = (
            self.subjects.dead_letters(letter.queue),
            self.subjects.dead(letter.queue, letter.task, letter.id),
        )
        # No Msg-Id: just after a purge the server would still know the Msg-Id of the burial, and would not store the
        # letter.
        headers = {
            LETTER_HEADER: letter_beside(entry.body, letter, self.connection.max_payload),
            IMPORTED_HEADER: f"{self.now():.0f}",
        }
        for _ in range(_LOOKS):
            newest = await self.api.last_message(stream, where)
            if newest is not None and await self._is_stored(letter, newest):
                return False
            headers[EXPECTED] = str(newest.sequence if newest is not None else 0)
            try:
                await self.publisher.publish(where, entry.body, headers)
            except WrongSequence:  # another letter of the job was stored just now, or this one by a repeated publish
                continue
            return True
        raise NotStored(f"the dead letters of job {letter.id} change all the time", hint="try again")

    async def _is_stored(self, letter: DeadLetter, newest: StoredMessage) -> bool:
        """Return whether `letter` itself is stored; `newest` is the newest dead letter of its job."""
        if is_same_letter(letter, stored_letter(newest, letter.queue)):
            return True
        of_job = await self.dead(letter.queue, id=letter.id, task=letter.task)
        return any(is_same_letter(letter, each.letter) for each in of_job)


def letter_beside(body: bytes, letter: DeadLetter, max_payload: int) -> str:
    """Return the header of a dead letter, no longer than a message with `body` has room for."""
    return letter_header(fit(letter, min(LETTER_LIMIT, max_payload - len(body) - 1024)))


def stored_letter(message: StoredMessage, queue: str) -> DeadLetter:
    """Return the letter in a message of a dead-letter stream. A message that holds no letter gives one that says so."""
    try:
        letter = read_letter(message.headers.get(LETTER_HEADER, ""))
        if letter.queue != queue:  # a replay would write to that queue
            raise BadHeader(f"it is of queue {letter.queue}")
        return letter
    except BadHeader as error:  # not jetq's, or a newer jetq's: shown with its bytes like any other
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
