"""What a running task can know about its job."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime

from msgspec import Struct, field

from jetq.errors import JetqError

__all__ = ["CANCEL", "CURRENT", "FIELDS", "CancelSignal", "Current", "JobContext", "current_job", "job_fields"]

CANCEL = "jetq: the job is cancelled"
"""The message of a CancelledError that ends a job on request, and not for a shutdown or timeout."""


class CancelSignal:
    """Whether a job was told to end."""

    __slots__ = ("given",)

    def __init__(self) -> None:
        self.given = False


class JobContext(Struct, frozen=True):
    """The job that runs now."""

    id: str
    """The job's id, the same in every attempt and after a replay: the key for what must happen once."""

    attempt: int
    """The number of this attempt, from 1."""

    max_attempts: int
    """How many attempts the job has in all."""

    task: str
    """The name of its task."""

    queue: str
    """The queue it came from."""

    enqueued_at: datetime
    """When the job was enqueued, aware UTC."""

    deadline: datetime | None
    """When this attempt times out, aware UTC; None if it has no timeout."""

    worker: str
    """The name of the worker that runs it."""

    schedule: str | None = None
    """The name of the recurring schedule whose tick the job is; None for other jobs."""

    nominal: datetime | None = None
    """The time of that tick, aware UTC; None for other jobs."""

    _cancel: CancelSignal = field(default_factory=CancelSignal)

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled while it runs: a sync task that does long work may look, and end early."""
        return self._cancel.given


class Current(Struct, eq=False):
    """The running job, and the app whose worker runs it, which is also the app of what the job enqueues.

    make: makes `job` when it is first asked for, because most tasks never do.
    """

    make: Callable[[], JobContext]
    app: object
    _job: JobContext | None = None

    @property
    def job(self) -> JobContext:
        """What the job's code may know of it."""
        if self._job is None:
            self._job = self.make()
        return self._job


CURRENT: ContextVar[Current | None] = ContextVar("jetq_current", default=None)

FIELDS = "jetq_fields"
"""The attribute of a log record in which the job it is about is told, as a dict of JSON values."""


def job_fields() -> dict[str, object]:
    """The job this code runs in, for a log record: job, task, queue and attempt. Empty outside of one."""
    current = CURRENT.get()
    if current is None:
        return {}
    job = current.job
    return {"job": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}


def current_job() -> JobContext:
    """The job this code runs in. Raises JetqError outside of one."""
    current = CURRENT.get()
    if current is None:
        raise JetqError(
            "there is no current job: this code does not run in a worker",
            hint="current_job() works inside a task that a worker runs, not in a plain call of it",
        )
    return current.job
