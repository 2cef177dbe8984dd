"""The role of the port that holds dead letters. `Consuming.bury` stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jetq.model.dead_letter import DeadEntry
from jetq.model.job import JobRecord

__all__ = ["DeadLetters"]


class DeadLetters(Protocol):
    """Dead letters: browsed, replayed, removed, taken from elsewhere. For errors see `jetq.broker`."""

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        """Return dead letters of `queue`, oldest first, those whose sequence is above `after`, at most `limit`, of one
        job or task if given."""
        ...

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        """Put `job`, made of `entry`, back into its queue, then drop the kept result and the dead letter, with older
        ones of that job.

        False, and nothing is changed, if a job of that id or key is stored in the queue already. Raises PayloadTooLarge
        for other arguments than those of `entry` if they are more than may be enqueued.
        """
        ...

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        """Drop dead letters, of one job or task if given; return how many."""
        ...

    async def drop_dead(self, entry: DeadEntry) -> bool:
        """Drop just this dead letter. False if it is gone already."""
        ...

    async def put_dead(self, entry: DeadEntry) -> bool:
        """Store a dead letter that was read from elsewhere, as the newest of the queue that it names. Makes the queue.

        False, and nothing is stored, if that letter is stored already: of the same job, message and time of death. The
        letter says of no delivery here that it was settled, because its sequence may be another server's. Raises
        PayloadTooLarge.
        """
        ...
