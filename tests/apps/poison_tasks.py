"""Jobs that kill their worker where its own code is not yet, or no longer, at work; and jobs beside them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import NoReturn

from jetq import JobContext, PayloadContext, task

QUEUE = "ledger"


def note(event: str, n: int) -> None:
    """A line in the ledger; here no job runs yet that it could name."""
    ledger = os.open(os.environ["JETQ_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{event} {n} 1 {os.getpid()} {time.time():.6f} -\n".encode())
    finally:
        os.close(ledger)


def kill(n: int) -> NoReturn:
    note("kill", n)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass
class Document:
    """Stands for a type whose own code, or a parser in C below it, ends the process."""

    n: int
    text: str = ""

    def __post_init__(self) -> None:
        if self.text == "poison":
            kill(self.n)


def customer(document: Document) -> str:
    if document.text == "key":
        kill(document.n)
    return "all"


class Codec:
    """The worker's. What the tests enqueue is not sealed."""

    def seal(self, body: bytes, context: PayloadContext) -> bytes:
        return body

    def open(self, body: bytes, context: PayloadContext) -> bytes:
        if b'"sealed"' in body:
            kill(0)
        return body


payloads = Codec()


async def on_expired(job: JobContext) -> None:
    kill(0)


@task(queue=QUEUE)
async def index(document: Document) -> None:
    note("start", document.n)


@task(queue=QUEUE, limit=20, limit_per=customer)
async def file(document: Document) -> None:
    note("start", document.n)


@task(queue=QUEUE)
def crunch(document: Document) -> None:
    time.sleep(0.1)
    kill(document.n)


@task(queue=QUEUE)
async def end(n: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    kill(n)


@task(queue=QUEUE, max_crashes=1)
async def end_once(n: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    kill(n)


@task(queue=QUEUE, max_crashes=2)
async def innocent(n: int, seconds: float) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)


@task(queue=QUEUE, max_crashes=1)
async def innocent_once(n: int, seconds: float) -> None:
    note("start", n)
    await asyncio.sleep(seconds)
    note("finish", n)
