"""The role of the port that looks at queues and mends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jetq.model.deployment_facts import Survey
from jetq.model.job import Found
from jetq.model.queue_info import QueueInfo

__all__ = ["Queues"]


class Queues(Protocol):
    """What is stored in the queues: looking at it, moving it, removing it, pausing it. For errors see `jetq.broker`."""

    async def find(self, queue: str, id: str) -> Found | None:
        """Return job `id` as it is stored in `queue`, scheduled or queued; None if it is not there."""
        ...

    async def standing(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[Found]:
        """Return the jobs stored in `queue`, of one task or key token if given, in the order they were stored, at most
        `limit`."""
        ...

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[Found], int]:
        """Return scheduled jobs that the broker failed to make ready half a minute ago or more, of some hundreds whose
        sequences are above `after`; and after which sequence to look on, 0 once all were seen."""
        ...

    @property
    def firing(self) -> float:
        """Seconds around its due time in which a scheduled job that is removed may become ready all the same."""
        ...

    async def move(self, found: Found, due: float) -> bool:
        """Give a scheduled job another due time (unix seconds). False if it is due within two seconds, or not scheduled
        any more. Raises NewerVersion."""
        ...

    async def release(self, found: Found) -> bool:
        """Make a scheduled job ready now, also one that is overdue. False if it is about to become ready by itself, or
        not scheduled any more."""
        ...

    async def remove(self, queue: str, sequence: int) -> bool:
        """Remove one message, whoever holds it. False if it is gone already."""
        ...

    async def purge(self, queue: str) -> int:
        """Remove every job that waits, scheduled or queued; return how many. What runs ends, and is not run again."""
        ...

    async def pause(self, queue: str, until: float | None = None) -> None:
        """Hand out nothing of `queue` until then (unix seconds), or until `resume`. Outlasts restarts."""
        ...

    async def resume(self, queue: str) -> None:
        """End a pause; no effect if the queue is not paused."""
        ...

    async def remove_queue(self, queue: str) -> bool:
        """Remove a queue with its recurring schedules and all else that belongs to it. Does not ask whether somebody
        serves the queue.

        False, and the queue is as it was, if a job or a dead letter is stored in it. Whoever stores one meanwhile makes
        the queue anew, or is told that it was not stored. A removal that is cut short leaves a queue that takes no
        jobs, and is to be repeated. Raises TopologyError if something of that name exists that jetq does not own.
        """
        ...

    async def queues(self) -> Sequence[QueueInfo]:
        """Return all queues of the namespace, by name."""
        ...

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        """Return what exists beneath jetq, without changing it: all queues, and those of `tasks`, each with a task of
        its own whose subjects are tried, or None."""
        ...
