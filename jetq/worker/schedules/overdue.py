"""Overdue jobs: jobs that the broker forgot to make ready. Such a job was due while the broker's store was full, and
the broker does not look again."""

from __future__ import annotations

import logging

from jetq.broker.queues import Queues

__all__ = ["OverdueJobs"]

_log = logging.getLogger("jetq.worker")


class OverdueJobs:
    """Finds overdue jobs among the scheduled jobs, a few hundred at a time. So a look costs the same however many jobs
    are scheduled."""

    def __init__(self, broker: Queues) -> None:
        self._broker = broker
        self._seen: dict[str, int] = {}

    async def release(self, queue: str) -> None:
        """Make the overdue jobs among the next scheduled jobs of `queue` ready, and look further at once while overdue
        jobs are found.

        Any number of workers may do this at the same time: a job is released once. Raises BrokerError.
        """
        more = True
        while more:
            forgotten, self._seen[queue] = await self._broker.overdue(queue, self._seen.get(queue, 0))
            released = [await self._broker.release(found) for found in forgotten]
            if any(released):
                _log.warning(
                    "queue %s: %d jobs were due half a minute ago or more, and the broker had not made them ready; now "
                    "they are (was its store full?)",
                    queue, sum(released),
                )  # fmt: skip
            more = bool(forgotten) and self._seen[queue] > 0
