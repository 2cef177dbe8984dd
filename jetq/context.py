"""What a running task can know about its job."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime

from msgspec import Struct

from jetq.errors import JetqError

__all__ = ["CURRENT", "JobContext", "current_job"]


class JobContext(Struct, frozen=True):
    """The job that runs now.

    id: the same in every attempt and after a replay: the key for what must happen once. attempt: from 1.
    enqueued_at, deadline: aware UTC; the deadline is when this attempt times out, None if it has no timeout.
    worker: the name of the worker that runs it.
    """

    id: str
    attempt: int
    max_attempts: int
    task: str
    queue: str
    enqueued_at: datetime
    deadline: datetime | None
    worker: str


CURRENT: ContextVar[tuple[JobContext, object] | None] = ContextVar("jetq_current", default=None)
"""The running job and the app whose worker runs it, which is also the app of what the job enqueues."""


def current_job() -> JobContext:
    """The job this code runs in. Raises JetqError outside of one."""
    current = CURRENT.get()
    if current is None:
        raise JetqError(
            "there is no current job: this code does not run in a worker",
            hint="current_job() works inside a task that a worker runs, not in a plain call of it",
        )
    return current[0]
