"""The role of the port that holds dead letters. `Consuming.store_dead` stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jetq.model.dead_letter import DeadEntry
from jetq.model.job import JobRecord

__all__ = ["DeadLetters"]


class DeadLetters(Protocol):
    """Dead letters: browsed, replayed, removed, imported. For errors see `jetq.broker`."""

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        """Return dead letters of `queue`, oldest first: those whose sequence is above `after`, at most `limit`.

        With `id` or `task` only the dead letters of that job or task are returned.
        """
        ...

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        """Put `job`, made of `entry`, back into its queue.

        Then drop the kept result of the job, the dead letter and the older dead letters of the job. Returns False, and
        changes nothing, if a job of that id or key is stored in the queue already. Raises PayloadTooLarge if the
        arguments are other than those of `entry` and larger than an enqueue may store.
        """
        ...

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        """Drop dead letters of `queue`, of one job or task if `id` or `task` is given; return how many were dropped."""
        ...

    async def delete_dead(self, entry: DeadEntry) -> bool:
        """Drop just this dead letter. Return False if the letter is gone already."""
        ...

    async def import_dead(self, entry: DeadEntry) -> bool:
        """Store a dead letter that was read from elsewhere, as the newest of the queue that the letter names. Creates
        the queue.

        Returns False, and nothing is stored, if the same letter is stored already: one of the same job, message and
        time of death. An imported letter never counts as proof that a delivery of this server was settled, because its
        sequence may be another server's. Raises PayloadTooLarge.
        """
        ...
