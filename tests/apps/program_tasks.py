"""Tasks of whole programs of workflows, which write down what they are called with."""

from __future__ import annotations

import asyncio
import os

from jetq import Failure, current_job, task
from tests.apps.noting import note

__all__ = ["BRANCHES", "BROKEN"]

BRANCHES = "abcde"
"""The branches of an ETL. In the ledger each is its number."""

BROKEN = "JETQ_TEST_BROKEN"
"""The variable that names the branches whose transformation does not work: that of a worker with the old code."""


# --- a fan-out of a size that a step finds out


@task(queue="ledger", max_attempts=1)
async def split(size: int) -> list[int]:
    note("split", size)
    return list(range(size))


@task(queue="ledger", max_attempts=1)
async def transcode(n: int, codec: str = "none") -> str:
    note("transcode", n)
    return f"{codec}-{n}"


@task(queue="ledger", max_attempts=1)
async def concat(parts: list[str]) -> list[str]:
    note("concat", len(parts))
    return parts


# --- an ETL of branches, of which one may be broken


@task(queue="ledger", max_attempts=1)
async def extract(branch: str) -> str:
    note("extract", BRANCHES.index(branch))
    return branch


@task(queue="ledger", max_attempts=1)
async def transform(branch: str) -> str:
    note("transform", BRANCHES.index(branch))
    if branch in os.environ.get(BROKEN, ""):
        raise ValueError(f"branch {branch} has a row without a date")
    return branch.upper()


@task(queue="ledger", max_attempts=1)
async def publish(parts: list[str]) -> str:
    note("publish", len(parts))
    return "".join(parts)


@task(queue="ledger", max_attempts=1)
async def tell(n: int) -> None:
    note("tell", n)


@task(queue="ledger", max_attempts=1)
async def close_books(n: int) -> None:
    note("close_books", n)


# --- the same key, again and again


@task(queue="ledger", max_attempts=1)
async def part(tag: int, n: int, seconds: float, broken: bool) -> int:
    note("part", tag)
    if seconds:
        await asyncio.sleep(seconds)
    if broken:
        raise ValueError(f"part {n} of {tag} is broken")
    return tag


@task(queue="ledger", max_attempts=1)
async def together(tags: list[int]) -> list[int]:
    note("together", tags[0])
    return tags


# --- an import that somebody cancels


@task(queue="ledger", max_attempts=1)
async def row(n: int) -> int:
    note("row", n)
    await asyncio.sleep(0.02)
    note("row-done", n)
    return n


@task(queue="ledger", max_attempts=1)
async def count(rows: list[int]) -> int:
    note("count", len(rows))
    return len(rows)


@task(queue="ledger", max_attempts=1)
async def clean_up() -> None:
    flow = current_job().workflow
    assert flow is not None
    note("clean_up", (await flow.asteps())["row"].done)


# --- very many, of which some fail


@task(queue="ledger", max_attempts=1)
async def pick(n: int) -> int:
    note("pick", n)
    if n % 100 == 37:
        raise ValueError(f"{n} is broken")
    return n


@task(queue="ledger", max_attempts=1)
async def tally(parts: list[int | Failure]) -> tuple[int, list[int]]:
    """How many values there are, each in its place, and the places of the failures."""
    note("tally", len(parts))
    values = sum(part == place for place, part in enumerate(parts))
    return values, [place for place, part in enumerate(parts) if isinstance(part, Failure) and part.index == place]
