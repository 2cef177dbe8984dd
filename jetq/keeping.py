"""A worker's part in recurring schedules besides their ticks: storing what its code defines, finding missed ticks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from jetq.broker import Broker
from jetq.errors import BrokerError, Rejected
from jetq.schedules import gone, put_schedule
from jetq.task_schedules import Definition
from jetq.ticks import Ticks

__all__ = ["Keeping"]

_log = logging.getLogger("jetq.worker")

_AGAIN_AFTER = 5.0
_LOOK_EVERY = 60.0
"""Seconds between looks for ticks that nobody got: the broker was down when they were due."""


class Keeping:
    """For the schedules that a worker's code defines for its `queues`, and for those that stand there."""

    def __init__(self, broker: Broker, queues: Sequence[str], defined: Sequence[Definition], ticks: Ticks) -> None:
        self._broker = broker
        self._queues = queues
        self._defined = defined
        self._ticks = ticks
        self._stored = False

    async def store(self) -> None:
        """Store what is defined. If that fails now, `keep` tries again."""
        self._stored = await _try(_store(self._broker, self._queues, self._defined), "the schedules are not stored")

    async def keep(self) -> None:
        """Look now and then for missed ticks, until cancelled."""
        while True:
            for queue in self._queues:
                await _try(self._ticks.catch_up(queue), f"queue {queue}: missed ticks are not known")
            await asyncio.sleep(_LOOK_EVERY if self._stored else _AGAIN_AFTER)
            if not self._stored:
                await self.store()


async def _store(broker: Broker, queues: Sequence[str], defined: Sequence[Definition]) -> None:
    for record, body in defined:
        try:
            if await put_schedule(broker, record, body):
                _log.info("schedule %s is stored: %s %s", record.name, record.pattern, record.zone or "")
        except Rejected as error:
            _log.error("schedule %s: %s", record.name, error.message)
    names = {record.name for record, _ in defined}
    for queue in queues:
        for stored in await gone(broker, queue, names):
            _log.warning(
                "schedule %s of queue %s is not in this worker's code; `jetq schedule prune` removes what is gone",
                stored.record.name, queue,
            )  # fmt: skip


async def _try(work: Coroutine[Any, Any, None], otherwise: str) -> bool:
    try:
        await work
    except BrokerError as error:
        _log.warning("%s: %s", otherwise, error.message)
        return False
    return True
