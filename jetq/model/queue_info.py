"""A queue in numbers."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["QueueInfo"]


class QueueInfo(Struct, frozen=True):
    """A queue in numbers: jobs ready, handed out, scheduled and dead, and pull requests waiting (idle workers).

    paused_until: unix seconds while the queue is paused, `math.inf` without an end.
    """

    name: str
    ready: int
    running: int
    scheduled: int
    dead: int
    waiting: int
    paused_until: float | None = None
