"""The job that runs, as its own code sees the job."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct, field

from jetq.errors import JetqError

if TYPE_CHECKING:  # because `import jetq` loads this module, and needs nothing of workflows
    from jetq.model.workflows.views import HasWorkflows, WorkflowHandle

__all__ = ["CANCEL", "CURRENT", "FIELDS", "CancelSignal", "Current", "JobContext", "current_job", "job_fields"]

CANCEL = "jetq: the job is cancelled"
"""The message of a CancelledError that ends a job on request. A shutdown or timeout does not use this message."""


class CancelSignal:
    """Tells whether a job was asked to end."""

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
    """The queue that the job came from."""

    enqueued_at: datetime
    """When the job was enqueued, aware UTC."""

    deadline: datetime | None
    """When this attempt times out, aware UTC; None if the attempt has no timeout."""

    worker: str
    """The name of the worker that runs the job."""

    schedule: str | None = None
    """The name of the recurring schedule whose tick the job is; None for other jobs."""

    nominal: datetime | None = None
    """The nominal time of that tick, aware UTC; None for other jobs."""

    step: str | None = None
    """The name of the workflow's step that the job belongs to; None for a job of no workflow."""

    index: int = 0
    """The number of the job among those of its step, from 0."""

    _cancel: CancelSignal = field(default_factory=CancelSignal)

    _workflow: str | None = None

    _app: HasWorkflows | None = None

    @property
    def workflow(self) -> WorkflowHandle | None:
        """The handle of the workflow that the job belongs to; None for a job of no workflow. Nothing is asked until the
        handle is used."""
        if self._workflow is None or self._app is None:
            return None
        return self._app.workflow(self._workflow)

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled while it runs. A sync task that does long work may read this, and end early."""
        return self._cancel.given


class Current(Struct, eq=False):
    """The running job and its app: the app of the worker, with which the job also enqueues other jobs.

    make: makes `job` at its first use, because most tasks never use `job`.
    """

    make: Callable[[], JobContext]
    app: object
    _job: JobContext | None = None

    @property
    def job(self) -> JobContext:
        """The job, as its own code may see the job."""
        if self._job is None:
            self._job = self.make()
        return self._job


CURRENT: ContextVar[Current | None] = ContextVar("jetq_current", default=None)

FIELDS = "jetq_fields"
"""The attribute of a log record that names the job of the record, as a dict of JSON values."""


def job_fields() -> dict[str, object]:
    """Return the fields of the current job for a log record: job, task, queue and attempt. Empty outside of a job."""
    current = CURRENT.get()
    if current is None:
        return {}
    job = current.job
    return {"job": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}


def current_job() -> JobContext:
    """Return the job in which this code runs. Raises JetqError outside of a job."""
    current = CURRENT.get()
    if current is None:
        raise JetqError(
            "there is no current job: this code does not run in a worker",
            hint="current_job() works inside a task that a worker runs, not in a plain call of it",
        )
    return current.job
