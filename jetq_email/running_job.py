"""The job in which a mail is sent, if it is sent in one."""

from __future__ import annotations

from jetq import JetqError, JobContext, current_job

__all__ = ["running_job"]


def running_job() -> JobContext | None:
    """Return the job that runs here. None in a plain call, which may have no broker to ask anything."""
    try:
        return current_job()
    except JetqError:
        return None
