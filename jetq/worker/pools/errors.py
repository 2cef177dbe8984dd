"""Errors that a call raises when the thread or process that ran it is gone. They have a file of their own, because a
process of the pool imports the code that decides about these errors, and not the pools."""

from __future__ import annotations

from jetq.errors import JetqError

__all__ = ["ProcessDied", "ThreadLost"]


class ThreadLost(JetqError):
    """The thread of a sync task did not end within 10 s of its interruption: the thread is given up and may still run.

    at_timeout: whether the task was interrupted at its timeout.
    """

    def __init__(self, message: str, *, at_timeout: bool = False) -> None:
        super().__init__(message)
        self.at_timeout = at_timeout


class ProcessDied(JetqError):
    """The process that ran a job has died of the job: a crash, `os._exit`, or the kernel's out-of-memory killer."""
