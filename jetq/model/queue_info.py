"""A queue in numbers."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["QueueInfo"]


class QueueInfo(Struct, frozen=True):
    """A queue in numbers."""

    name: str
    """The name of the queue."""

    ready: int
    """Jobs that the next free worker gets."""

    running: int
    """Jobs that are handed out."""

    scheduled: int
    """Jobs that are due later."""

    dead: int
    """Dead letters."""

    waiting: int
    """Pull requests that wait for a job: idle workers."""

    paused_until: float | None = None
    """Unix seconds until which the queue is paused, `math.inf` without an end; None if it is not paused."""
