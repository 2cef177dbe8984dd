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

__all__ = ["keep_schedules"]

_log = logging.getLogger("jetq.worker")

_AGAIN_AFTER = 5.0
_LOOK_EVERY = 60.0
"""Seconds between looks for ticks that nobody got: the broker was down when they were due."""


async def keep_schedules(broker: Broker, queues: Sequence[str], defined: Sequence[Definition], ticks: Ticks) -> None:
    """Store the schedules that are defined for `queues`, and look now and then for missed ticks, until cancelled."""
    stored = False
    while True:
        stored = stored or await _try(_store(broker, queues, defined), "the schedules are not stored")
        for queue in queues:
            await _try(ticks.catch_up(queue), f"queue {queue}: missed ticks are not known")
        await asyncio.sleep(_LOOK_EVERY if stored else _AGAIN_AFTER)


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
