"""Tasks that write down what happens to them, one line a time, into the file JETQ_TEST_LEDGER names."""

from __future__ import annotations

import asyncio
import os
import time

from jetq import Retry, Snooze, current_job, task
from tests.apps.noting import note as note


@task(queue="ledger")
async def quick(n: int) -> None:
    note("start", n)
    note("finish", n)


@task(queue="ledger")
async def sleeper(n: int, seconds: float) -> None:
    note("start", n)
    await asyncio.sleep(0.0 if os.environ.get("JETQ_TEST_SHORT") else seconds)
    note("finish", n)


@task(queue="ledger")
def thread_sleeper(n: int, seconds: float) -> None:
    note("start", n)
    time.sleep(seconds)
    note("finish", n)


@task(queue="ledger")
async def blocker(n: int, seconds: float) -> None:
    note("start", n)
    time.sleep(seconds)
    note("finish", n)


@task(queue="ledger", max_attempts=4, wait=0.2)
async def failing(n: int) -> None:
    note("start", n)
    raise ValueError(f"attempt {current_job().attempt}")


@task(queue="ledger", max_attempts=3, wait=0.0)
async def second_time_lucky(n: int) -> int:
    note("start", n)
    if current_job().attempt < 2:
        raise ConnectionError("not yet")
    note("finish", n)
    return n


@task(queue="ledger")
async def snoozer(n: int, times: int, marker: str) -> None:
    note("start", n)
    with open(marker, "a+") as seen:
        seen.seek(0)
        if len(seen.read()) < times:
            seen.write("z")
            raise Snooze(0.5)
    note("finish", n)


@task(queue="ledger")
async def killer(n: int) -> None:
    note("start", n)
    await asyncio.sleep(0.2)  # let the neighbours start
    os._exit(137)


@task(queue="ledger", max_attempts=2)
async def asks_again(n: int) -> int:
    note("start", n)
    if n > 0:
        raise Retry(0.0, arguments={"n": 0})
    note("finish", n)
    return n


@task(queue="ledger")
async def mark(n: int) -> None:
    note("mark", n)


@task(queue="ledger")
async def beat(n: int) -> None:
    note("start", n)
    await asyncio.sleep(0.2)
    note("finish", n)


@task(queue="ledger", limit=1)
async def single(n: int) -> None:
    note("start", n)
    await asyncio.sleep(0.01)
    note("finish", n)


@task(queue="ledger", limit=5)
async def limited(n: int, seconds: float = 0.05) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)


@task(queue="ledger", limit=2, limit_per="customer")
async def limited_each(n: int, customer: int, seconds: float = 0.05) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)


@task(queue="ledger", rate="50/s")
async def paced(n: int) -> None:
    note("start", n)
