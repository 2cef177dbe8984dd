"""What must not grow: a backlog of a million, schedules, ids in the dedup window, and ten minutes at half load."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime
from functools import partial

from benchmarks.case import Case, Measure, Target
from benchmarks.ground import Ground, Side, Workers
from benchmarks.latency import percentile
from benchmarks.ledger import Ledger, now
from benchmarks.machine import own_memory, resident
from benchmarks.names import TEXT
from benchmarks.processes import stored, stored_by
from benchmarks.tasks import noop

__all__ = ["CASES"]

_POLL = 0.05


# --- a backlog


async def _backlog(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """Drain a fiftieth of `count` and then all of it, each with a worker process of its own."""
    small = await stored(ground, count // 50)
    with ground.workers(side) as workers:
        await ground.complete(small, workers, poll=0.01)
    large = await stored(ground, count)
    with ground.workers(side) as workers:
        (pid,) = workers.pids
        await ground.ran(large, count // 50, workers)
        before = own_memory(pid)
        await ground.complete(large, workers, poll=_POLL)
        growth = own_memory(pid) - before
    return {"rate": large.rate, "kept": large.rate / small.rate, "growth": growth}


# --- schedules

_GROUP = 1000
"""Jobs of the same due time."""

_APART = 0.2
"""Seconds between the due times of two groups."""


async def _scheduled(side: Side, ground: Ground, count: int) -> dict[str, float]:
    """Jobs that are due in groups, 5,000 a second, once all are stored. Late is from due to start."""
    book = ground.ledger(count)
    offset = time.time() - now()
    memory, began = resident(ground.server_pid), now()
    due = [offset + began + max(2.0, count / 2_000) + number // _GROUP * _APART for number in range(count)]
    for first in range(0, count, _GROUP):
        await _schedule(side, ground, range(first, min(first + _GROUP, count)), due[first])
    took, growth = now() - began, resident(ground.server_pid) - memory
    assert time.time() < due[0], "the first was due before the last was stored"
    with ground.workers(side) as workers:
        await ground.complete(book, workers, poll=_POLL)
    late = [(start + offset - at) * 1e3 for start, at in zip(book.starts, due, strict=True)]
    assert min(late) > -1.0, f"a job was early by {-min(late):.1f} ms"
    return {
        "rate": count / took,
        "late-p50": statistics.median(late),
        "late-p99": percentile(late, 0.99),
        "server": growth * 1e6 / count,
    }


async def _schedule(side: Side, ground: Ground, jobs: range, due: float) -> None:
    if side == "jetq":
        later = noop.options(at=datetime.fromtimestamp(due, UTC))
        await ground.app.adelay_many(later.bind(number, TEXT) for number in jobs)
    else:
        await ground.floor.schedule_many(jobs, due)


# --- ids in the dedup window

WINDOW = 120
"""Seconds for which jetq has an id recognised."""


async def _ids(ground: Ground, count: int) -> dict[str, float]:
    """The server's memory for ids whose jobs are done: what it grows by from half of `count` to all of it."""
    memory = []
    for _ in range(2):
        await _run_through(ground, count // 2)
        memory.append(resident(ground.server_pid))
    bytes_each = max(0.0, (memory[1] - memory[0]) * 1e6 / (count // 2))
    return {
        "each": bytes_each,
        "at-1k": bytes_each * 1_000 * WINDOW / 1e6,
        "at-10k": bytes_each * 10_000 * WINDOW / 1e6,
    }


async def _run_through(ground: Ground, count: int) -> None:
    """Store and run `count` jobs, a few thousand at a time so that no backlog takes memory."""
    book = ground.ledger(count)
    async with ground.floor.working():
        for first in range(0, count, 5_000):
            last = min(first + 5_000, count)
            await stored_by("floor", ground, first, last)
            await ground.ran(book, last)


# --- a soak

_SECONDS = 600
_BEAT = 0.05


async def _soak(ground: Ground, count: int) -> dict[str, float]:
    """Half of what producer, server and worker reach together, for `count` tenths of a second."""
    seconds = count / 10
    trial = ground.ledger(5_000)
    with ground.workers("jetq") as workers:
        await ground.listening(workers)
        began = now()
        await stored_by("jetq", ground, 0, trial.count)
        await ground.complete(trial, workers, poll=0.01)
        rate = trial.count / (max(trial.ends) - began) / 2
    book = ground.ledger(int(rate * seconds))
    with ground.workers("jetq") as workers:
        await ground.listening(workers)
        memory = await _produce(ground, book, rate, workers)
        await ground.complete(book, workers, poll=_POLL)
    early, late = _ends_of(memory)
    return {"rate": book.rate, "memory": late, "growth": late / early}


async def _produce(ground: Ground, book: Ledger, rate: float, workers: Workers) -> list[float]:
    """Store the jobs of `book` evenly; the worker's own memory at each beat."""
    (pid,) = workers.pids
    memory, began, stored = [], now(), 0
    while stored < book.count:
        due = min(book.count, int((now() - began) * rate) + 1)
        await stored_by("jetq", ground, stored, due)
        stored = due
        memory.append(own_memory(pid))
        workers.check()
        await asyncio.sleep(_BEAT)
    return memory


def _ends_of(memory: list[float]) -> tuple[float, float]:
    """Medians of the second tenth, when all has run once, and of the last."""
    tenth = max(1, len(memory) // 10)
    return statistics.median(memory[tenth : 2 * tenth] or memory), statistics.median(memory[-tenth:])


CASES = (
    Case(
        "backlog",
        "a backlog of 1,000,000, one worker process; beside 20,000",
        1_000_000,
        (
            Measure("rate", "jobs/s"),
            Measure("kept", "of the rate at 20,000", 2, Target("least", 0.8, "figure")),
            Measure("growth", "MB more in the worker", 1, Target("most", 15, "figure")),
        ),
        partial(_backlog, "jetq"),
        partial(_backlog, "floor"),
        least=5_000,
        long=True,
    ),
    Case(
        "scheduled",
        "100,000 scheduled jobs, 5,000 due a second",
        100_000,
        (
            Measure("rate", "jobs/s stored"),
            Measure("late-p50", "ms late, p50"),
            Measure("late-p99", "ms late, p99"),
            Measure("server", "bytes a job in the server"),
        ),
        partial(_scheduled, "jetq"),
        partial(_scheduled, "floor"),
        long=True,
    ),
    Case(
        "ids",
        "ids that the server remembers for 2 min",
        400_000,
        (
            Measure("each", "bytes an id in the server"),
            Measure("at-1k", "MB at 1,000 jobs/s, for hours"),
            Measure("at-10k", "MB at 10,000 jobs/s, for hours"),
        ),
        _ids,
        least=2_000,
        long=True,
    ),
    Case(
        "soak",
        "10 minutes at half load",
        _SECONDS * 10,
        (
            Measure("rate", "jobs/s"),
            Measure("memory", "MB in the worker", 1),
            Measure("growth", "of its memory at first", 3, Target("most", 1.05, "figure")),
        ),
        _soak,
        least=30,
        long=True,
    ),
)
