"""Tells the code of a job what it may know of the job."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from jetq.model.job_context import JobContext
from jetq.model.workflows.views import HasWorkflows
from jetq.worker.attempt import Attempt

__all__ = ["context_of"]


def context_of(attempt: Attempt, worker: str, deadline: float | None, app: HasWorkflows) -> JobContext:
    """Return what the code of `attempt` may know of its job, which the worker named `worker` runs until `deadline`.

    deadline: by `time.monotonic()`, None if the attempt has no timeout. app: gives the handle of the job's workflow.
    """
    delivery, meta = attempt.delivery, attempt.meta
    place = meta.flow
    return JobContext(
        id=delivery.id,
        attempt=meta.attempt,
        max_attempts=attempt.options.max_attempts,
        task=delivery.task,
        queue=delivery.queue,
        enqueued_at=_utc(delivery.stored_at if meta.enqueued is None else meta.enqueued),
        # By the clock of this process's machine, because the task reads that clock to see how much time is left.
        deadline=None if deadline is None else _utc(time.time() + deadline - time.monotonic()),
        worker=worker,
        schedule=meta.schedule,
        nominal=None if meta.nominal is None else _utc(meta.nominal),
        step=None if place is None else place.step,
        index=0 if place is None else place.member,
        _cancel=attempt.cancel_signal,
        _workflow=None if place is None else place.workflow,
        _app=app,
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
