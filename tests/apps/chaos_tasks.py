"""The jobs of the chaos runs. Each writes its start and its end into the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from jetq import current_job, task
from tests.apps.noting import digest, note

QUEUE = "chaos"
SAME_ID_QUEUE = "chaos-again"


@task(queue=QUEUE, max_crashes=50)
async def quick(n: int) -> None:
    note("start", n)
    note("finish", n)


@task(queue=QUEUE, max_crashes=50, result_ttl=60)
async def short(n: int, seconds: float) -> int:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)
    return n


@task(queue=QUEUE, max_crashes=50)
def threaded(n: int, seconds: float) -> None:
    note("start", n)
    time.sleep(seconds)
    note("finish", n)


@task(queue=QUEUE, max_crashes=50, max_attempts=5, wait=0.2)
async def flaky(n: int) -> None:
    note("start", n)
    if current_job().attempt < 3:
        raise ConnectionError("not yet")
    note("finish", n)


@task(queue=QUEUE, max_crashes=50, max_attempts=2, wait=0.2)
async def doomed(n: int) -> None:
    note("start", n)
    raise ValueError("never")


@task(queue=QUEUE, max_crashes=50, limit=3)
async def limited(n: int, seconds: float) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)


@task(queue=QUEUE, max_crashes=50)
async def big(n: int, data: str, seconds: float) -> None:
    _note_big(n, data)
    await asyncio.sleep(seconds)
    note("finish", n)


@task(queue=QUEUE, max_crashes=50, max_attempts=3, wait=0.2)
async def big_flaky(n: int, data: str) -> None:
    _note_big(n, data)
    if current_job().attempt < 2:
        raise ConnectionError("not yet")
    note("finish", n)


@task(queue=QUEUE, max_crashes=50, max_attempts=2, wait=0.2)
async def big_doomed(n: int, data: str) -> None:
    _note_big(n, data)
    raise ValueError("never")


def _note_big(n: int, data: str) -> None:
    note("start", n)
    note(f"body:{digest(data)}", n)


@task(queue=SAME_ID_QUEUE, max_crashes=50)
async def same_id(n: int, seconds: float) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)


@dataclass
class Poison:
    """Ends the process that reads it."""

    n: int

    def __post_init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@task(queue=QUEUE)
async def poisoned(poison: Poison) -> None:
    note("finish", poison.n)
