"""The role of the port that tells the time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """The broker's time, by which all instants are made and compared. For errors see `jetq.broker`."""

    def now(self) -> float:
        """Return the broker's time, as far as this process knows it, in unix seconds: the one clock by which instants
        are made and compared. May be called from any thread; costs nothing."""
        ...

    @property
    def knows_time(self) -> bool:
        """Whether `now` is the broker's time. Until the broker has answered something about a queue, `now` is this
        machine's."""
        ...

    async def time(self, queue: str, *, make: bool = True) -> float:
        """Return `now` once the broker's time is known: the broker is asked about `queue`, which is created on first
        use.

        Without `make` the queue is not created, and nothing may be learnt of a queue that is missing.
        """
        ...
