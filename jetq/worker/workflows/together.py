"""What the members that end at once in one process do together: one count for all of them, and one feed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from jetq.broker.ledger import Ledger
from jetq.model.workflows.plan import MOST_MEMBERS
from jetq.operations.workflows.advancing import feed_window
from jetq.operations.workflows.life import Life

__all__ = ["Late", "Together"]

OnCount = Callable[[int | Exception], None]


class Together:
    """Counts and feeds for one worker. One count or feed is under way for each name; who comes meanwhile shares the
    next one, which sees the marks of all who share it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counting: dict[str, list[OnCount]] = {}
        self._feeding: dict[str, list[asyncio.Future[None]]] = {}
        self._once: dict[str, asyncio.Task[None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        # Not the same in all processes: these would reach the mark at once, and all but one feed in vain.
        self._low = random.uniform(0.25, 0.5)

    async def count_up(self, name: str) -> int:
        """Count one up under `name`, and return the count with all that were counted together. Raises what
        `Ledger.count_up` raises."""
        counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.count(name, partial(_settle, counted))
        return await counted

    def count(self, name: str, on_count: OnCount) -> None:
        """Count one up under `name` without waiting. on_count: called later, with what `count_up` would return or
        raise."""
        waiting = self._counting.get(name)
        if waiting is not None:
            waiting.append(on_count)
        else:
            self._counting[name] = [on_count]
            self._start(self._count(name))

    async def _count(self, name: str) -> None:
        while together := self._counting[name]:
            self._counting[name] = []
            count: int | Exception
            try:
                count = await self._ledger.count_up(name, len(together))
            except Exception as error:
                count = error
            for on_count in together:  # one that fails is no business of the others
                asyncio.get_running_loop().call_soon(on_count, count)
        del self._counting[name]

    async def once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, or wait until it is done if it is under way under this name. Raises what `work` raises."""
        task = self._once.get(name)
        if task is None:
            task = self._once[name] = asyncio.get_running_loop().create_task(work(), name="jetq-together")
            task.add_done_callback(lambda _: self._once.pop(name, None))
        await asyncio.shield(task)

    async def feed(self, life: Life, step: str, ended: int) -> None:
        """Feed a step with a window, of which about `ended` members have ended, if few of its members are left. Raises
        what `feed` raises."""
        window = life.plan.steps[step].window
        fed = life.fed.get(step)
        if window is None or (fed is not None and fed - ended > window * self._low):
            return
        name = f"{life.id}.{step}"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._feeding.get(name)
        if waiting is not None:
            waiting.append(done)
        else:
            self._feeding[name] = [done]
            self._start(self._feed(name, life, step))
        await done

    async def _feed(self, name: str, life: Life, step: str) -> None:
        while together := self._feeding[name]:
            self._feeding[name] = []
            await _answer(together, partial(feed_window, life, step))
        del self._feeding[name]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="jetq-together")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class Late:
    """Does the same for members that end late, perhaps by weeks: they look in any case, because the counts of the
    others may be forgotten."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self.once = together.once
        self.feed = together.feed

    async def count_up(self, name: str) -> int:
        """Count one up under `name`, and return a count that no step exceeds."""
        return await self._together.count_up(name) + MOST_MEMBERS


def _settle(counted: asyncio.Future[int], count: int | Exception) -> None:
    """Give `counted` its count or its error, if anybody still waits for it."""
    if counted.done():
        return
    if isinstance(count, Exception):
        counted.set_exception(count)
    else:
        counted.set_result(count)


async def _answer(waiting: list[asyncio.Future[Any]], ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Give all who wait what `ask` returns or raises."""
    try:
        answer = await ask()
    except Exception as error:
        for each in waiting:
            if not each.done():
                each.set_exception(error)
    else:
        for each in waiting:
            if not each.done():
                each.set_result(answer)
