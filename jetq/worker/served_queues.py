"""The queues that a worker serves: set up on the broker, opened for the worker's intake, and watched for levels that
they get later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jetq.broker.consuming import Consuming, Feed
from jetq.broker.enqueueing import Enqueueing
from jetq.broker.queues import Queues
from jetq.errors import BrokerError
from jetq.model.definitions.queue import Queue
from jetq.model.job import LEVELS, Delivery, Level
from jetq.worker.intake import Intake

__all__ = ["ServedQueues", "set_up"]

_log = logging.getLogger("jetq.worker")

_LOOK_FOR_LEVELS_EVERY = 30.0
"""Seconds between looks whether a queue without levels has got some."""


class _Broker(Enqueueing, Consuming, Queues, Protocol):
    """The parts of the broker that serving queues uses."""


async def set_up(broker: _Broker, queue: str, declared: Queue | None) -> bool:
    """Make sure that `queue` exists, with levels if it is `declared` to have some. Return whether the queue has levels.

    Raises BrokerError.
    """
    if declared is not None and declared.levels is not None:
        await broker.setup(queue, levels=True)
        return True
    return await broker.levels(queue)


class ServedQueues:
    """The queues `names` of one worker. Each has one feed of `intake`, or one for each level.

    declared: what the app declares about queues. deliver: called with each delivery. on_clear: called when a level has
    nothing left for this worker, so that a lower level may have its turn.
    """

    def __init__(
        self,
        broker: _Broker,
        names: Sequence[str],
        declared: Mapping[str, Queue],
        intake: Intake,
        *,
        deliver: Callable[[Delivery], None],
        on_clear: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._names = names
        self._declared = declared
        self._intake = intake
        self._deliver = deliver
        self._on_clear = on_clear

    async def open(self, queue: str, *, levels: bool) -> None:
        """Take jobs of `queue` in, of each level by a feed of its own if the queue has `levels`. Raises BrokerError."""
        if not levels:
            self._intake.open(queue, {"normal": await self._broker.feed(queue, self._deliver)}, None)
            return
        feeds: dict[Level, Feed] = {
            level: await self._broker.feed(queue, self._deliver, level=level, on_clear=self._on_clear)
            for level in LEVELS
        }
        declared = self._declared.get(queue)
        self._intake.open(queue, feeds, None if declared is None else declared.weights)

    async def watch_levels(self) -> None:
        """Open the levels that a queue gets while the worker runs, with its first job that has a level. Return only
        when cancelled."""
        while True:
            await asyncio.sleep(_LOOK_FOR_LEVELS_EVERY)
            for queue in self._names:
                try:
                    if queue in self._intake and not self._intake.has_levels(queue):
                        await self._open_levels(queue)
                except BrokerError as error:
                    _log.warning("queue %s: whether it has levels is not known: %s", queue, error.message)
                except Exception:  # a fault of jetq's own must not end this watch while the worker lives
                    _log.exception("queue %s: whether it has levels is not known", queue)

    async def _open_levels(self, queue: str) -> None:
        if await self._broker.levels(queue):
            # The feed without levels is stopped first: it is in no lane from then on, so nothing would count its
            # requests, or stop it at the worker's end.
            await self._intake.close(queue)
            await self.open(queue, levels=True)

    async def are_empty(self) -> bool:
        """Return whether no job is running or ready in the queues; ready jobs of paused queues do not count. Return
        False if that is unknown."""
        # First, because a job counts as running until its removal has reached the broker.
        await self._broker.confirm()
        try:
            infos = await self._broker.queues()
        except BrokerError as error:
            _log.warning("cannot see whether the queues are empty: %s", error.message)
            return False
        mine = [info for info in infos if info.name in self._intake]
        return all(info.running == 0 and (info.ready == 0 or info.paused_until is not None) for info in mine)
