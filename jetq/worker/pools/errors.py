"""What a call raises when the thread or process that ran it is gone. In a file of its own: a process of the pool
imports who decides about these, and not the pools."""

from __future__ import annotations

from jetq.errors import JetqError

__all__ = ["ProcessDied", "ThreadLost"]


class ThreadLost(JetqError):
    """A sync task did not end within 10 s of its interruption: its thread is given up and may still run.

    at_timeout: whether the interruption was that of its timeout.
    """

    def __init__(self, message: str, *, at_timeout: bool = False) -> None:
        super().__init__(message)
        self.at_timeout = at_timeout


class ProcessDied(JetqError):
    """The process that ran a job has died of it: a crash, `os._exit`, or the kernel's out-of-memory killer."""
