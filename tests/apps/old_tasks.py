"""`ledger_tasks` as it was a release ago: one task of it, and one without its newer argument."""

from __future__ import annotations

from jetq import task
from tests.apps.noting import note


@task(name="tests.apps.ledger_tasks.quick", queue="ledger")
async def quick(n: int) -> None:
    note("start", n)
    note("finish", n)


@task(name="tests.apps.ledger_tasks.sleeper", queue="ledger")
async def sleeper(n: int) -> None:
    note("old", n)
