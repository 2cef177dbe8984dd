"""The role of the port that stores jobs: at once or for later, one by one or many, and each unique key once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from jetq.broker.wanted import always
from jetq.errors import BrokerError
from jetq.model.deployment_facts import Drift
from jetq.model.job import Debounce, JobRecord, Stored

__all__ = ["DirectConnection", "Enqueueing"]


class DirectConnection(Protocol):
    """A way to store jobs without the broker's loop, for one thread at a time."""

    @property
    def used(self) -> int:
        """How many jobs were sent over the connection."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used again."""
        ...

    def store(self, job: JobRecord) -> Stored | None:
        """Store `job` as `Enqueueing.send_job` does, and wait for the answer.

        None: the job is surely not stored by this call; the broker can store it. Raises NotStored if that is not known;
        the broker can say, asked to store the job with the same id. Whatever interrupts the call, e.g. a
        KeyboardInterrupt, closes the connection and is raised.
        """
        ...

    def close(self) -> None:
        """Hang up; from any thread. Never raises; may be called twice."""
        ...


class Enqueueing(Protocol):
    """What producers use. For errors see `jetq.broker`."""

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        """Create what `queue` needs where it is missing; report, and leave alone, what exists and differs.

        With `levels` the queue gets its levels too, as it does with the first job of high or low priority. Raises
        TopologyError if something of that name exists that jetq does not own.
        """
        ...

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Stored:
        """Store `job`, to be delivered at once or from `due` (unix seconds) on, and never earlier.

        The same id again is answered "existing", and not stored, while a job of that id is scheduled, queued or
        running, and within two minutes after it was stored; "new" if the id is `fresh`, for then it was this enqueue
        that stored it. "existing" is also a job with a key while one of its task and key is scheduled, queued or
        running, with that one's id; with `debounce` the job replaces that one if it is scheduled for later than the
        next two seconds, or raises NewerVersion.
        Creates the queue on first use. `timeout` in seconds; None takes the broker's own.
        """
        ...

    def send_job(
        self, job: JobRecord, on_done: Callable[[Stored | BrokerError], None], wanted: Callable[[], bool] = always
    ) -> bool:
        """Store, without waiting, a fresh job that is due at once and has no key: `on_done` is called with what
        `enqueue` would return or raise. Once the job is not `wanted` any more it is not sent again.

        `on_done` is called later, on this loop, and never in here. False, and nothing is sent, if that cannot be done
        without waiting now: `enqueue` can, or says why not.
        """
        ...

    async def open_direct(self) -> DirectConnection | None:
        """Open a connection for the threads of this process; None if there is no such thing here. Raises
        BrokerUnavailable."""
        ...

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[Stored | Exception]:
        """Store each of `jobs` as `enqueue` does, pipelined; one answer or error per job, in order."""
        ...

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        """Claim for `job` the next `period` seconds (whole ones, at least one) of its key.

        Returns None, or the id of another job that has claimed them already.
        """
        ...

    async def unthrottle(self, job: JobRecord) -> None:
        """Give such a claim back: the job was not stored."""
        ...
