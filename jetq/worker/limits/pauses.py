"""Pauses of a task, or of one key of a task, that all workers keep. A task asks for a pause by `RateLimited`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from typing import Protocol

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.model.bounds import LATEST
from jetq.worker.policy import LONGEST_WAIT

__all__ = ["Pauses"]

_log = logging.getLogger("jetq.worker")


class _Broker(Cells, Clock, Protocol):
    """The parts of the broker that pauses use."""


class Pauses:
    """The paused gates and the ends of their pauses: one cell `pause.GATE` for each.

    tasks: the names of the tasks that this worker runs; this worker keeps no pauses of other tasks. on_pause: called
    with a gate's name and the end of its pause in unix seconds, when a pause begins or gets longer.
    """

    def __init__(self, broker: _Broker, tasks: Container[str], on_pause: Callable[[str, float], None]) -> None:
        self._broker = broker
        self._tasks = tasks
        self._on_pause = on_pause
        self._ends: dict[str, float] = {}
        self._paused_tasks: set[str] = set()

    def concern(self, task: str) -> bool:
        """Return whether the task, or a key of the task, is paused."""
        return task in self._paused_tasks

    def end_of(self, gate: str) -> float:
        """Return when the pause of `gate` ends, in unix seconds; 0 if the gate is not paused."""
        return self._ends.get(gate, 0.0)

    async def listen(self) -> None:
        """Keep from now on the pauses that any worker begins, and the pauses that began before. Raises BrokerError."""
        await self._broker.watch_cells("pause", self._on_cell)

    async def begin(self, gate: str, seconds: float) -> None:
        """Let no job pass `gate` at any worker for `seconds`. A longer pause that is stored already stays. Raises
        BrokerError."""
        until = self._broker.now() + min(seconds, LONGEST_WAIT)
        if until > self.end_of(gate):
            await self._broker.write_cell(f"pause.{gate}", b"%.3f" % until, ttl=seconds + 1.0)

    def _on_cell(self, gate: str, value: bytes) -> None:
        try:
            until = float(value)
        except ValueError:
            return  # not written by jetq
        if not 0 <= until <= LATEST:  # a time out of range was not written by jetq either
            return
        task = _task_of(gate)
        left = until - self._broker.now()
        if task not in self._tasks or left <= 0 or until <= self.end_of(gate):
            return
        self._ends[gate] = until
        self._paused_tasks.add(task)
        self._on_pause(gate, until)
        _log.info("%s is paused for %.1f s", gate, left)
        asyncio.get_running_loop().call_later(left, self._end, gate)

    def _end(self, gate: str) -> None:
        left = self.end_of(gate) - self._broker.now()
        if left > 0:  # a longer pause came, or the clock was set back
            asyncio.get_running_loop().call_later(left, self._end, gate)
        else:
            self._ends.pop(gate, None)
            self._paused_tasks = {_task_of(each) for each in self._ends}


def _task_of(gate: str) -> str:
    return gate.partition("~")[0].replace(":", ".")
