"""The role of the port that looks at queues and repairs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jetq.model.deployment_facts import Survey
from jetq.model.job import StoredJob
from jetq.model.queue_info import QueueInfo

__all__ = ["Queues"]


class Queues(Protocol):
    """Verbs that look at what is stored in queues, move it, remove it and pause it. For errors see `jetq.broker`."""

    async def find(self, queue: str, id: str) -> StoredJob | None:
        """Return job `id` as it is stored in `queue`, scheduled or queued; None if the job is not stored there."""
        ...

    async def stored_jobs(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[StoredJob]:
        """Return the jobs stored in `queue`, in the order they were stored, at most `limit`.

        With `task` or `key` only the jobs of that task or key token are returned.
        """
        ...

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[StoredJob], int]:
        """Return scheduled jobs that the broker should have made ready half a minute ago or more, and where to look on.

        One call looks at some hundreds of jobs whose sequences are above `after`. The second value is the sequence
        after which to look on; it is 0 once all scheduled jobs were seen.
        """
        ...

    @property
    def fire_window(self) -> float:
        """Seconds around its due time in which a scheduled job that is removed may become ready all the same."""
        ...

    async def move(self, found: StoredJob, due: float) -> bool:
        """Give a scheduled job another due time (unix seconds). Raises NewerVersion.

        Returns False if the job is due within two seconds, or is not scheduled any more.
        """
        ...

    async def release(self, found: StoredJob) -> bool:
        """Make a scheduled job ready now, also one that is overdue.

        Returns False if the job is about to become ready by itself, or is not scheduled any more.
        """
        ...

    async def remove(self, queue: str, sequence: int) -> bool:
        """Remove one message, even if a worker holds it. Return False if the message is gone already."""
        ...

    async def purge(self, queue: str) -> int:
        """Remove every job that waits, scheduled or queued; return how many.

        Jobs that run go on to their end, and are not run again.
        """
        ...

    async def pause(self, queue: str, until: float | None = None) -> None:
        """Hand out nothing of `queue` until the time `until` (unix seconds); None means until `resume`.

        A pause outlasts restarts.
        """
        ...

    async def resume(self, queue: str) -> None:
        """End a pause; no effect if the queue is not paused."""
        ...

    async def remove_queue(self, queue: str) -> bool:
        """Remove a queue with its recurring schedules and everything else that belongs to the queue.

        It is not checked whether workers serve the queue. Returns False, and the queue is as it was, if a job or a dead
        letter is stored in the queue. A producer that stores a job meanwhile makes the queue anew, or is told that the
        job was not stored. A removal that is cut short leaves a queue that takes no jobs; repeat the removal. Raises
        TopologyError if a stream of that name exists that jetq does not own.
        """
        ...

    async def queues(self) -> Sequence[QueueInfo]:
        """Return all queues of the namespace, by name."""
        ...

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        """Return what exists beneath jetq, without changing it: all queues of the namespace and the queues in `tasks`.

        `tasks` gives for each queue one of its tasks, whose subjects are tried, or None.
        """
        ...
