"""The role of the port that stores jobs: at once or for later, one by one or many, and one job for each unique key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from jetq.broker.wanted import always
from jetq.errors import BrokerError
from jetq.model.deployment_facts import Drift
from jetq.model.job import Debounce, EnqueueReceipt, JobRecord

__all__ = ["DirectConnection", "Enqueueing"]


class DirectConnection(Protocol):
    """A way to store jobs without the broker's loop, for one thread at a time."""

    @property
    def used(self) -> int:
        """The number of jobs that were sent over the connection."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used again."""
        ...

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        """Store `job` as `Enqueueing.send_job` does, and wait for the answer.

        None means that this call surely did not store the job; the broker can store it. Raises NotStored if it is not
        known whether the job is stored; the broker can find out, when asked to store the job with the same id. An
        exception that interrupts the call, e.g. a KeyboardInterrupt, closes the connection and is raised.
        """
        ...

    def close(self) -> None:
        """Hang up, from any thread. Never raises; may be called twice."""
        ...


class Enqueueing(Protocol):
    """The verbs of producers. For errors see `jetq.broker`."""

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        """Create what `queue` needs where it is missing; report, and leave alone, what exists and differs.

        With `levels` the queue gets its levels too, as the first job of high or low priority would give them to the
        queue. Raises TopologyError if a stream of that name exists that jetq does not own.
        """
        ...

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> EnqueueReceipt:
        """Store `job`, to be delivered at once or from `due` (unix seconds) on, and never earlier.

        An enqueue with an id that is in use stores nothing. An id is in use while a job with that id is scheduled,
        queued or running, and within two minutes after such a job was stored. The answer is then "existing"; the answer
        is "new" if the id is `fresh`, because only this enqueue can have stored a job with a fresh id. The id of a job
        that is stored `again` is not in use any more once the earlier job is gone.

        A job with a key is not stored either while another job of its task and key is scheduled, queued or running. The
        answer is then "existing", with the id of that other job. With `debounce` the new job replaces the other one if
        the other is scheduled for later than the next two seconds; NewerVersion is raised if a newer jetq stored the
        other job.

        Creates the queue on first use. `timeout` is in seconds; None takes the broker's own.
        """
        ...

    def send_job(
        self,
        job: JobRecord,
        on_done: Callable[[EnqueueReceipt | BrokerError], None],
        wanted: Callable[[], bool] = always,
    ) -> bool:
        """Store, without waiting, a fresh job that is due at once and has no key.

        `on_done` is called with what `enqueue` would return or raise: later, on this loop, and never during this call.
        Once `wanted` returns False, the job is not sent again. Returns False, and nothing is sent, if the job cannot be
        sent now without waiting: `enqueue` can send the job, or says why not.
        """
        ...

    async def open_direct(self) -> DirectConnection | None:
        """Open a connection for the threads of this process; None if this broker has no such connections.

        Raises BrokerUnavailable.
        """
        ...

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[EnqueueReceipt | Exception]:
        """Store each of `jobs` as `enqueue` does, pipelined. Return one answer or error per job, in their order."""
        ...

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        """Claim for `job` the next `period` seconds (whole ones, at least one) of its key.

        Returns None if the claim was made, or else the id of another job that has claimed the period already.
        """
        ...

    async def unthrottle(self, job: JobRecord) -> None:
        """Give the claim of `throttle` back, because the job was not stored."""
        ...
