"""Workers on several servers that a test kills, and leaders that it moves."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

from tests.apps.harness import Harness
from tests.apps.workers import WorkerProcess

__all__ = ["Fleet", "step_down"]


class Fleet:
    """Three workers, each of which goes to another of the servers first. killed: the pids of those that were killed."""

    def __init__(self, h: Harness, urls: list[str], stack: ExitStack, modules: str, **options: Any) -> None:
        self.killed: set[int] = set()
        self._h, self._urls, self._stack, self._options = h, urls, stack, {"modules": modules, **options}
        self._workers = [self._start(place) for place in range(3)]

    def _start(self, place: int) -> WorkerProcess:
        first = place % len(self._urls)
        env = {"JETQ_REPLICAS": str(len(self._urls))}
        urls = ",".join(self._urls[first:] + self._urls[:first])
        return self._stack.enter_context(WorkerProcess(urls, self._h.ledger, env=env, **self._options))

    async def kill(self, place: int) -> None:
        """Kill one that has run something, and start another in its place."""
        worker = self._workers[place]
        await self._h.ledger.wait(lambda ledger: any(each.pid == worker.pid for each in ledger.entries()), 60.0)
        self.killed.add(worker.pid)
        await asyncio.to_thread(worker.kill)
        self._workers[place] = self._start(place)

    async def end(self) -> None:
        """Stop all in order."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            assert await asyncio.to_thread(worker.wait, 60.0) == 0


async def step_down(broker: Any) -> int:
    """Ask each leader to step down, of streams and of consumers; return how many did."""
    asked = []
    for stream in (await broker.survey({})).streams:
        asked.append(f"STREAM.LEADER.STEPDOWN.{stream.name}")
        asked += [f"CONSUMER.LEADER.STEPDOWN.{stream.name}.{each}" for each in await broker.api.consumers(stream.name)]
    answers = await asyncio.gather(*map(broker.api.request, asked), return_exceptions=True)
    return sum(not isinstance(answer, BaseException) for answer in answers)
