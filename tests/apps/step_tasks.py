"""Tasks that are steps of workflows, and write down what they are called with. An older version of the package has no
workflows, and has these tasks."""

from __future__ import annotations

from jetq import task
from tests.apps.noting import note

__all__ = ["double", "number", "picky", "total", "upto"]


@task(queue="ledger", max_attempts=1)
async def number(n: int) -> int:
    note("number", n)
    return n


@task(queue="ledger", max_attempts=1)
async def double(n: int) -> int:
    note("double", n)
    return 2 * n


@task(queue="ledger", max_attempts=1)
async def upto(n: int) -> list[int]:
    note("upto", n)
    return list(range(n))


@task(queue="ledger", max_attempts=1)
async def total(numbers: list[int]) -> int:
    note("total", sum(numbers))
    return sum(numbers)


@task(queue="ledger", max_attempts=1)
async def picky(n: int) -> int:
    note("picky", n)
    if n == 1:
        raise ValueError(f"no {n}")
    return n
