"""Dead letters of memory brokers: verbs that store, browse, replay and drop them."""

from __future__ import annotations

from collections.abc import Sequence

from jetq.broker.numbers import LETTER_LIMIT
from jetq.encoding.failures import fit
from jetq.encoding.headers import letter_header, read_letter
from jetq.errors import PayloadTooLarge
from jetq.memory.base import Base
from jetq.memory.sizes import MAX_PAYLOAD, check_arguments, check_size
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.job import JobRecord

__all__ = ["DeadLetters", "stored_letter"]


class DeadLetters(Base):
    """See `jetq.broker.dead_letters.DeadLetters`."""

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        with self.store.lock:
            self.use()
            return [entry for entry in self._dead(queue, id, task) if entry.sequence > after][:limit]

    def _dead(self, queue: str, id: str | None, task: str | None) -> list[DeadEntry]:
        if queue not in self.store.queues:
            return []
        return [
            entry
            for entry in self.store.queue(queue).dead
            if (id is None or entry.letter.id == id) and (task is None or entry.letter.task == task)
        ]

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        if job.body != entry.body:
            check_arguments(job)
        check_size(job)
        with self.store.lock:
            queue = self.queue(job.queue)
            if queue.stands(job):
                return False
            self.store.results.pop(job.id, None)
            for each in self._dead(job.queue, job.id, entry.letter.task):
                if each.sequence <= entry.sequence:
                    queue.dead.drop(each.sequence)
            queue.add_once(f"{job.id}.r{entry.letter.sequence}.{entry.sequence}", job, None)
            return True

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        with self.store.lock:
            self.use()
            entries = self._dead(queue, id, task)
            for entry in entries:
                self.store.queue(queue).dead.drop(entry.sequence)
            return len(entries)

    async def delete_dead(self, entry: DeadEntry) -> bool:
        with self.store.lock:
            return self.queue(entry.letter.queue).dead.drop(entry.sequence)

    async def import_dead(self, entry: DeadEntry) -> bool:
        letter = stored_letter(entry.body, entry.letter)
        with self.store.lock:
            return self.queue(letter.queue).dead.put(letter, entry.body)


def stored_letter(body: bytes, letter: DeadLetter) -> DeadLetter:
    """Return `letter` as a broker would read it from a message with `body`.

    Raises PayloadTooLarge if that message would be too large.
    """
    header = letter_header(fit(letter, min(LETTER_LIMIT, MAX_PAYLOAD - len(body) - 1024)))
    if (size := len(body) + len(header)) > MAX_PAYLOAD:
        raise PayloadTooLarge(
            f"the dead letter of job {letter.id} has {size:,} bytes, the limit is {MAX_PAYLOAD:,}",
            job_ids=(letter.id,),
        )
    return read_letter(header)
