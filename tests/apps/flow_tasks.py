"""Works of every kind of edge, whose tasks write down what they are called with, and what must be seen of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jetq import Failure, Work, each, group, task
from tests.apps.noting import note
from tests.apps.step_tasks import double, number, picky, total, upto

__all__ = ["WORKS", "Expected"]


@task(queue="ledger", max_attempts=1)
async def failures(parts: list[int | Failure]) -> int:
    found = sum(isinstance(part, Failure) for part in parts)
    note("failures", found)
    return found


@task(queue="ledger", max_attempts=1)
async def show(n: int) -> None:
    note("show", n)


@dataclass(frozen=True)
class Expected:
    """A work, and what must be seen of it at the end.

    value: what it gives, if it succeeds. runs: by task and number, each of which a kill may add one to. letters: dead
    letters, exactly. after: the tasks of which no run may begin before each run of the other tasks has.
    """

    work: Callable[[], Work[Any]]
    runs: dict[tuple[str, int], int]
    value: object = None
    state: str = "succeeded"
    letters: int = 0
    after: list[str] = field(default_factory=list)


def _runs(*each: tuple[str, int]) -> dict[tuple[str, int], int]:
    return dict(Counter(each))


def _failing(first: Work[Any]) -> Work[Any]:
    return (first | double).on_failure(show.bind(7)).finally_(show.bind(8))


WORKS = {
    "chain": Expected(
        lambda: number.bind(3) | double | double, _runs(("number", 3), ("double", 3), ("double", 6)), value=12
    ),
    "chord": Expected(
        lambda: group(number.bind(n) for n in range(3)) | total,
        _runs(("number", 0), ("number", 1), ("number", 2), ("total", 3)),
        value=3,
        after=["total"],
    ),
    "list": Expected(
        lambda: group(number.bind(n) for n in range(2)), _runs(("number", 0), ("number", 1)), value=[0, 1]
    ),
    "unknown": Expected(
        lambda: each(double, upto.bind(3).out) | total,
        _runs(("upto", 3), ("double", 0), ("double", 1), ("double", 2), ("total", 6)),
        value=6,
        after=["total"],
    ),
    "pages": Expected(
        lambda: group(group(number.bind(n) for n in range(size)) | total for size in (0, 1, 2)) | total,
        _runs(("number", 0), ("number", 0), ("number", 1), ("total", 0), ("total", 0), ("total", 1), ("total", 1)),
        value=1,
    ),
    "columns": Expected(
        lambda: group(number.bind(n) | double for n in range(3)) | total,
        _runs(
            ("number", 0), ("number", 1), ("number", 2), ("double", 0), ("double", 1), ("double", 2), ("total", 6)
        ),
        value=6,
        after=["total"],
    ),
    "window": Expected(
        lambda: each(double, range(5)).window(2) | total,
        _runs(*(("double", n) for n in range(5)), ("total", 20)),
        value=20,
        after=["total"],
    ),
    "settled": Expected(
        lambda: group(picky.bind(n) for n in range(3)).settled() | failures,
        _runs(("picky", 0), ("picky", 1), ("picky", 2), ("failures", 1)),
        value=1,
        letters=1,
        after=["failures"],
    ),
    "failing": Expected(
        lambda: _failing(picky.bind(1)),
        _runs(("picky", 1), ("show", 7), ("show", 8)),
        state="failed",
        letters=1,
        after=["show"],
    ),
    "expired": Expected(
        lambda: _failing(number.options(expires=0.001).bind(1)),
        _runs(("show", 7), ("show", 8)),
        state="failed",
        after=["show"],
    ),
    "finally": Expected(
        lambda: number.bind(2).on_failure(show.bind(7)).finally_(show.bind(8)),
        _runs(("number", 2), ("show", 8)),
        value=2,
        after=["show"],
    ),
}  # fmt: skip
