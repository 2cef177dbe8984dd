"""Workers in processes of their own, as they are deployed: with a producer, two at once, idle, and starting."""

from __future__ import annotations

import asyncio
from functools import partial

from benchmarks.case import Case, Measure, Target
from benchmarks.ground import Ground, Side
from benchmarks.ledger import Ledger, now
from benchmarks.machine import cpu_seconds, resident
from benchmarks.tasks import call_of

__all__ = ["CASES", "stored", "stored_by"]

_POLL = 0.01
"""Seconds between looks into the ledger: the processes measured should have the cores."""


async def stored(ground: Ground, count: int) -> Ledger:
    """A ledger for `count` no-op jobs, and these stored by jetq."""
    book = ground.ledger(count)
    await ground.store(call_of("noop", number) for number in range(count))
    return book


async def stored_by(side: Side, ground: Ground, first: int, last: int) -> None:
    """Store the no-op jobs of these numbers, the last excluded, as that side stores many."""
    if side == "jetq":
        await ground.store(call_of("noop", number) for number in range(first, last))
    else:
        await ground.floor.store_many(range(first, last))


async def _together(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """A producer here and a worker beside it."""
    book = ground.ledger(count)
    with ground.workers(side) as workers:
        await ground.listening(workers)
        began = now()
        await stored_by(side, ground, 0, count)
        await ground.complete(book, workers, poll=_POLL)
        return {"rate": count / (max(book.ends) - began)}


async def _two(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """Two worker processes, and the same with one. All are up before the first job is handed out."""
    rates = []
    for processes in (1, 2):
        await ground.hold()
        book = await stored(ground, count)
        with ground.workers(side, processes) as workers:
            await ground.listening(workers)
            await ground.release()
            await ground.complete(book, workers, poll=_POLL)
        rates.append(book.rate)
    return {"rate": rates[1], "scaling": rates[1] / rates[0]}


async def _idle(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """A worker process that has run a few jobs and now has none, for `count` tenths of a second."""
    book = await stored(ground, 100)
    with ground.workers(side) as workers:
        await ground.complete(book, workers)
        await asyncio.sleep(min(2.0, count / 10))  # what comes after the start is done
        (pid,) = workers.pids
        before, began = cpu_seconds(pid), now()
        await asyncio.sleep(count / 10)
        share = (cpu_seconds(pid) - before) / (now() - began)
        return {"memory": resident(pid), "cpu": share * 100}


async def _first_job(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """From the start of the process to that of a job which waits for it."""
    book = await stored(ground, 1)
    began = now()
    with ground.workers(side) as workers:
        await ground.complete(book, workers, poll=_POLL)
    return {"start": book.starts[0] - began}


CASES = (
    Case(
        "together",
        "producer, server and one worker process at once",
        20_000,
        (Measure("rate", "jobs/s"),),
        partial(_together, "jetq"),
        partial(_together, "floor"),
    ),
    Case(
        "two-processes",
        "two worker processes; beside one",
        30_000,
        (Measure("rate", "jobs/s"), Measure("scaling", "times one process", 2)),
        partial(_two, "jetq"),
        partial(_two, "floor"),
    ),
    Case(
        "idle",
        "an idle worker process",
        100,
        (
            Measure("memory", "MB", 1, Target("most", 40, "figure")),
            Measure("cpu", "% of a core", 2, Target("most", 1, "figure")),
        ),
        partial(_idle, "jetq"),
        partial(_idle, "floor"),
        least=5,
    ),
    Case(
        "first-job",
        "start of a worker process to its first job",
        1,
        (Measure("start", "s", 2, Target("most", 0.6, "figure")),),
        partial(_first_job, "jetq"),
        partial(_first_job, "floor"),
        least=1,
    ),
)
