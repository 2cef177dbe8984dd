"""The role of the port that keeps results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jetq.errors import BrokerError
from jetq.model.result import ResultRecord

__all__ = ["Results"]


class Results(Protocol):
    """Results: kept for a while, and pushed to whoever waits. For errors see `jetq.broker`."""

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        """Keep `result` for `ttl` seconds (at least one) and push it to whoever waits for it.

        False, and nothing is stored, if one of that queue and id is kept already and `unless_kept`.
        """
        ...

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        """Keep `result` as `put_result` does, without waiting: `on_done` is called once it is stored, with None, or
        with what kept it from that.

        `on_done` is called later, on this loop, and never in here. False, and nothing is sent, if that cannot be done
        without waiting now: `put_result` can, or says why not.
        """
        ...

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        """Return the result kept for job `id` of `queue`, of any queue for None; None if there is none.

        Of jobs of the same id in several queues the result of the one that ended last is kept, and no other.
        """
        ...

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        """Return the result of job `id` of `queue` as soon as it is there; None after `timeout` seconds."""
        ...
