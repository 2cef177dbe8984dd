"""The job that sends a mail, if a job sends it."""

from __future__ import annotations

from jetq import JetqError, JobContext, current_job

__all__ = ["running_job"]


def running_job() -> JobContext | None:
    """Return the job that runs here. None in a plain call of a task, where there may be no broker."""
    try:
        return current_job()
    except JetqError:
        return None
