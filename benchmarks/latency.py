"""How long an idle worker takes from the enqueue to the start of the job: a job at a time, with a rest before each."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.case import Case, Measure, Target
from benchmarks.ground import Ground, Side
from benchmarks.ledger import Ledger, now
from benchmarks.names import TEXT
from benchmarks.tasks import noop

__all__ = ["CASES", "percentile"]

REST = 0.005
"""Seconds between jobs: longer than one takes, so that each finds its worker idle."""

SKIPPED = 10
"""The first ones, which warm up."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of `values` lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def _one_at_a_time(store: Callable[[int], Awaitable[object]], book: Ledger) -> list[float]:
    """When each job was about to be stored."""
    sent = []
    for number in range(book.count):
        await asyncio.sleep(REST)
        sent.append(now())
        await store(number)
    return sent


def _figures(sent: Sequence[float], book: Ledger) -> dict[str, float]:
    """Milliseconds."""
    took = [(start - at) * 1e3 for at, start in zip(sent, book.starts, strict=True)][SKIPPED:]
    return {"p50": statistics.median(took), "p99": percentile(took, 0.99)}


async def _adelay(number: int) -> object:
    return await noop.adelay(number, TEXT)


async def _jetq(ground: Ground, count: int) -> dict[str, float]:
    book = ground.ledger(count)
    async with ground.worker():
        sent = await _one_at_a_time(_adelay, book)
        await ground.complete(book)
    return _figures(sent, book)


async def _floor(ground: Ground, count: int) -> dict[str, float]:
    book = ground.ledger(count)
    async with ground.floor.working():
        sent = await _one_at_a_time(ground.floor.store_quickly, book)
        await ground.complete(book)
    return _figures(sent, book)


async def _across(ground: Ground, count: int, side: Side) -> dict[str, float]:
    """With the worker in a process of its own."""
    book = ground.ledger(count)
    with ground.workers(side) as workers:
        await ground.listening(workers)
        sent = await _one_at_a_time(_adelay if side == "jetq" else ground.floor.store_quickly, book)
        await ground.complete(book, workers)
    return _figures(sent, book)


_MEASURES = (
    Measure("p50", "ms, p50", 2, Target("most", 1.25)),
    Measure("p99", "ms, p99", 2, Target("most", 2)),
)

CASES = (
    Case("latency", "enqueue to start, idle, one process", 500, _MEASURES, _jetq, _floor, least=30),
    Case(
        "latency-across",
        "enqueue to start, idle, producer and worker apart",
        500,
        _MEASURES,
        lambda ground, count: _across(ground, count, "jetq"),
        lambda ground, count: _across(ground, count, "floor"),
        least=30,
    ),
)
