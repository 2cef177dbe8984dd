"""The role of the port that keeps results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jetq.errors import BrokerError
from jetq.model.result import ResultRecord

__all__ = ["Results"]


class Results(Protocol):
    """Results: kept for a while, and pushed to callers who wait for them. For errors see `jetq.broker`."""

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        """Keep `result` for `ttl` seconds (at least one) and push it to every caller who waits for the result.

        With `unless_kept`, the call returns False and stores nothing if a result of the same queue and id is kept
        already.
        """
        ...

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        """Keep `result` as `put_result` does, without waiting.

        `on_done` is called with None once the result is stored, or with the error that prevented it: later, on this
        loop, and never during this call. Returns False, and nothing is sent, if the result cannot be sent now without
        waiting: `put_result` can send the result, or says why not.
        """
        ...

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        """Return the result kept for job `id` of `queue`; None if there is none. If `queue` is None, any queue will do.

        If several queues have jobs of the same id, only the result of the job that ended last is kept.
        """
        ...

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        """Return the result of job `id` of `queue` as soon as the result is there; None after `timeout` seconds."""
        ...
