"""Pools of threads for tests, and functions to run in them that a test can watch and hold."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jetq.worker.pools.threads import ThreadPool
from tests.apps.spinning import spin

__all__ = [
    "LONG",
    "Gate",
    "MakePool",
    "Spinner",
    "begin",
    "call",
    "expire",
    "hold_the_loop",
    "hold_the_loop_until",
    "pools",
]

LONG = 30.0
"""Seconds within which whatever a test waits for has happened, or it fails."""

MakePool = Callable[[int], ThreadPool]
"""Gives a pool of at most so many threads."""


class Gate:
    """A function that says when it has begun, and goes on when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(LONG)
        return "through"

    async def entered(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, LONG)


class Spinner:
    """A function that runs Python code until something is raised in it; `cleanup` is what it does then."""

    def __init__(self, cleanup: Callable[[], Any] | None = None) -> None:
        self.begun = threading.Event()
        self.caught: BaseException | None = None
        self.cleanup = cleanup

    def __call__(self) -> Any:
        try:
            self.begun.set()
            spin()
        except BaseException as error:
            self.caught = error
            if self.cleanup is None:
                raise
            return self.cleanup()

    async def entered(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, LONG)


@contextlib.contextmanager
def pools() -> Iterator[MakePool]:
    """Make pools whose threads end with the block."""
    made: list[ThreadPool] = []

    def make(size: int) -> ThreadPool:
        made.append(ThreadPool(size))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def call(pool: ThreadPool, fn: Callable[..., Any], *args: Any, within: float | None = None) -> Any:
    return await pool.run(fn, args, {}, deadline=None if within is None else time.monotonic() + within)


def begin(pool: ThreadPool, fn: Callable[..., Any], within: float | None = None) -> asyncio.Task[Any]:
    return asyncio.ensure_future(call(pool, fn, within=within))


def expire(pool: ThreadPool) -> None:
    """Have the deadline of what runs pass."""
    for each in pool._calls:
        each.deadline = 0.0


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


def hold_the_loop_until(happened: Callable[[], bool]) -> None:
    """Let the threads go on while the loop learns nothing of it."""
    end = time.monotonic() + LONG
    while not happened():
        assert time.monotonic() < end
        hold_the_loop(0.001)
