"""Producers: one by one, a hundred callers, many at once. What they stored is run afterwards, for the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.case import Case, Measure, Run, Target
from benchmarks.ground import Ground
from benchmarks.ledger import now
from benchmarks.names import TEXT
from benchmarks.tasks import call_of, noop

__all__ = ["CASES"]

CALLERS = 100


def _producing(produce: Callable[[Ground, int], Awaitable[None]]) -> Run:
    """How fast `produce` stores its jobs."""

    async def run(ground: Ground, count: int) -> dict[str, float]:
        ground.ledger(count)
        began = now()
        await produce(ground, count)
        took = now() - began
        await ground.drained()
        return {"rate": count / took}

    return run


async def _from_callers(store: Callable[[int], Awaitable[object]], count: int, callers: int) -> None:
    """Store `count` jobs, `callers` at a time."""
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            await store(number)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def _delay(ground: Ground, count: int) -> None:
    def calls() -> None:
        for number in range(count):
            noop.delay(number, TEXT)

    await asyncio.to_thread(calls)


async def _adelay(ground: Ground, count: int) -> None:
    for number in range(count):
        await noop.adelay(number, TEXT)


async def _publish(ground: Ground, count: int) -> None:
    for number in range(count):
        await ground.floor.store(number)


async def _adelay_from_callers(ground: Ground, count: int) -> None:
    await _from_callers(lambda number: noop.adelay(number, TEXT), count, CALLERS)


async def _publish_from_callers(ground: Ground, count: int) -> None:
    await _from_callers(ground.floor.store_quickly, count, CALLERS)


async def _delay_many(ground: Ground, count: int) -> None:
    await asyncio.to_thread(lambda: noop.delay_many(call_of("noop", number) for number in range(count)))


async def _adelay_many(ground: Ground, count: int) -> None:
    await noop.adelay_many(call_of("noop", number) for number in range(count))


async def _publish_many(ground: Ground, count: int) -> None:
    await ground.floor.store_many(range(count))


def _case(
    name: str,
    title: str,
    count: int,
    jetq: Callable[[Ground, int], Awaitable[None]],
    floor: Callable[[Ground, int], Awaitable[None]],
    target: float | None = None,
) -> Case:
    wanted = Target("least", target) if target is not None else None
    return Case(name, title, count, (Measure("rate", "jobs/s", target=wanted),), _producing(jetq), _producing(floor))


CASES = (
    _case("delay", "`.delay` one by one, sync; awaited `js.publish`", 2_000, _delay, _publish, 0.75),
    _case("adelay", "`.adelay` one by one; awaited `js.publish`", 2_000, _adelay, _publish),
    _case(
        "adelay-100", "`.adelay` from 100 callers; one inbox", 20_000, _adelay_from_callers, _publish_from_callers, 0.7
    ),
    _case("delay-many", "`.delay_many`, sync; one inbox, 1,000 under way", 20_000, _delay_many, _publish_many, 0.9),
    _case("adelay-many", "`.adelay_many`; one inbox, 1,000 under way", 20_000, _adelay_many, _publish_many, 0.9),
)
