"""The role of the port that tells the time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """The broker's time, by which all instants are made and compared. For errors see `jetq.broker`."""

    def now(self) -> float:
        """Return the broker's time, as far as this process knows it, in unix seconds.

        It is the one clock by which instants are made and compared. The call may come from any thread and costs
        nothing.
        """
        ...

    @property
    def knows_time(self) -> bool:
        """Whether `now` is the broker's time.

        Until the broker has answered something about a queue, `now` is the time of this machine.
        """
        ...

    async def time(self, queue: str, *, make: bool = True) -> float:
        """Return `now` once the broker's time is known: the broker is asked about `queue`, which is created on first
        use.

        Without `make` the queue is not created, and a question about a missing queue may teach nothing of the time.
        """
        ...
