"""Describes in words how a process ended."""

from __future__ import annotations

import signal

__all__ = ["in_words"]


def in_words(code: int) -> str:
    """Return how a process with this return code ended: `exit code 1`, or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-code}"
