"""A worker's part in schedules and scheduled jobs, besides ticks: stores the schedules that its code defines, and finds
ticks and jobs that should have come and did not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from jetq.broker.queues import Queues
from jetq.broker.schedules import Schedules
from jetq.client.declared_schedules import Definition
from jetq.encoding.sealing import PayloadCodec
from jetq.errors import BadPayload, BrokerError, NewerVersion, Rejected
from jetq.operations.schedules import gone, put_schedule
from jetq.worker.schedules.overdue import OverdueJobs
from jetq.worker.schedules.ticks import Ticks

__all__ = ["ScheduleKeeper"]

_log = logging.getLogger("jetq.worker")

_STORED_AGAIN_AFTER = 5.0
"""Seconds after which schedules that could not be stored are stored again."""

_MISSED_LOOK_EVERY = 60.0
"""Seconds between looks for missed ticks and overdue jobs: ticks and jobs that no worker got, because the broker was
down or full when they were due."""


class _Broker(Queues, Schedules, Protocol):
    """The parts of the broker that the keeper uses."""


class ScheduleKeeper:
    """Keeps the schedules that a worker's code defines for its `queues`, and looks after all schedules that are stored
    for these queues."""

    def __init__(
        self,
        broker: _Broker,
        queues: Sequence[str],
        defined: Sequence[Definition],
        ticks: Ticks,
        payloads: PayloadCodec | None,
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._defined = defined
        self._ticks = ticks
        self._payloads = payloads
        self._overdue = OverdueJobs(broker)
        self._stored = False

    async def store(self) -> None:
        """Store the schedules that the code defines. If that fails now, `keep` tries again."""
        self._stored = await _try(
            _store(self._broker, self._queues, self._defined, self._payloads), "the schedules are not stored"
        )

    async def keep(self) -> None:
        """Look for missed ticks and overdue jobs every 60 s, until cancelled. Look every 5 s while the schedules are
        not stored."""
        while True:
            for queue in self._queues:
                await _try(self._ticks.catch_up(queue), f"queue {queue}: missed ticks are not known")
                await _try(self._overdue.release(queue), f"queue {queue}: overdue jobs are not known")
            await asyncio.sleep(_MISSED_LOOK_EVERY if self._stored else _STORED_AGAIN_AFTER)
            if not self._stored:
                await self.store()


async def _store(
    broker: Schedules, queues: Sequence[str], defined: Sequence[Definition], payloads: PayloadCodec | None
) -> None:
    for record, body in defined:
        try:
            if await put_schedule(broker, record, body, payloads):
                _log.info("schedule %s is stored: %s %s", record.name, record.pattern, record.zone or "")
        except (Rejected, BadPayload, NewerVersion) as error:
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
    except Exception:  # a fault of jetq's own must not end this care while the worker lives
        _log.exception("%s", otherwise)
        return False
    return True
