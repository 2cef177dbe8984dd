"""One worker in this process that drains a backlog.

Counted from the first job's start to the last one's end: how long a worker takes to come up is a case of its own.
"""

from __future__ import annotations

from benchmarks.case import Case, Measure, Run, Target
from benchmarks.ground import Ground
from benchmarks.ledger import Ledger
from benchmarks.names import OTHER, QUEUE
from benchmarks.tasks import call_of

__all__ = ["CASES"]

SLOTS = 100
JOBS = 20_000


async def _stored(ground: Ground, task: str, count: int, seconds: float = 0.0) -> Ledger:
    """A ledger for `count` jobs, and these stored: by jetq, whoever runs them."""
    book = ground.ledger(count)
    await ground.store(call_of(task, number, seconds) for number in range(count))
    return book


def _queues(task: str) -> tuple[str, ...]:
    return (QUEUE, OTHER) if task == "two" else (QUEUE,)


def _by_jetq(task: str) -> Run:
    async def run(ground: Ground, count: int) -> dict[str, float]:
        book = await _stored(ground, task, count)
        async with ground.worker(SLOTS, _queues(task)):
            await ground.complete(book)
        return {"rate": book.rate}

    return run


def _by_floor(task: str) -> Run:
    async def run(ground: Ground, count: int) -> dict[str, float]:
        book = await _stored(ground, task, count)
        async with ground.floor.working(_queues(task)):
            await ground.complete(book)
        return {"rate": book.rate}

    return run


def _drain(name: str, title: str, task: str, target: float | None = None, beside: str | None = None) -> Case:
    """beside: the task that the floor runs, if it is another."""
    wanted = Target("least", target) if target is not None else None
    measures = (Measure("rate", "jobs/s", target=wanted),)
    return Case(f"drain-{name}", title, JOBS, measures, _by_jetq(task), _by_floor(beside or task))


# --- jobs that take time


def _use(book: Ledger, seconds: float, slots: int) -> dict[str, float]:
    """How well the slots' time was used: the share in which a job was in them, and the time taken by that of an ideal
    worker, whose jobs take exactly as long as they sleep."""
    ideal = book.count * seconds / slots
    return {"rate": book.rate, "used": book.busy / slots / book.wall, "time": book.wall / ideal}


def _sleeps_by_jetq(seconds: float, slots: int) -> Run:
    async def run(ground: Ground, count: int) -> dict[str, float]:
        book = await _stored(ground, "sleep", count, seconds)
        async with ground.worker(slots):
            await ground.complete(book)
        return _use(book, seconds, slots)

    return run


def _sleeps_by_floor(seconds: float, slots: int) -> Run:
    async def run(ground: Ground, count: int) -> dict[str, float]:
        book = await _stored(ground, "sleep", count, seconds)
        async with ground.floor.working(slots=slots):
            await ground.complete(book)
        return _use(book, seconds, slots)

    return run


def _sleeps(milliseconds: int, slots: int, count: int, *, used: float | None = None, time: float | None = None) -> Case:
    seconds = milliseconds / 1000
    return Case(
        f"slots-{milliseconds}ms-{slots}",
        f"jobs of {milliseconds} ms, {slots} slots",
        count,
        (
            Measure("rate", "jobs/s"),
            Measure("used", "of the slots' time", 3, Target("least", used, "figure") if used else None),
            Measure("time", "of the ideal time", 3, Target("most", time, "figure") if time else None),
        ),
        _sleeps_by_jetq(seconds, slots),
        _sleeps_by_floor(seconds, slots),
        least=slots * 4,
    )


CASES = (
    _drain("noop", "no-op, async", "noop", 0.9),
    _drain("sync", "no-op, sync, in threads", "noop_sync"),
    _drain("typed-150", "a Struct of 150 B; JSON without types", "person"),
    _drain("typed-2k", "16 Structs, 2 kB; JSON without types", "people"),
    _drain("typed-nested", "nested Structs; JSON without types", "order"),
    _drain("results", "results stored; the floor's no-op drain without", "answer", 0.45, beside="noop"),
    _drain("results-alike", "results stored, by the floor too", "answer"),
    _drain("retries", "every tenth job retried", "flaky"),
    _drain("two-queues", "from two queues", "two"),
    _drain("keyed", "each job with a unique key", "keyed"),
    _sleeps(1, 10, 10_000),
    _sleeps(1, 100, 20_000),
    _sleeps(5, 10, 2_000, used=0.9),
    _sleeps(5, 100, 20_000, used=0.9),
    _sleeps(50, 10, 400),
    _sleeps(50, 100, 5_000, time=1.05),
)
