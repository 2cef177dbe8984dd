"""Frames at random into a queue, past every client library: each one is run or dead with its bytes, or was refused."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jetq import Jetq, JobContext, Worker, current_job
from jetq.model.dead_letter import DeadEntry
from jetq.model.job import Delivery
from tests.apps.deliveries import watch_deliveries
from tests.apps.frames import FIRED, Frame, Frames
from tests.apps.wire import Answer, Wire
from tests.apps.working import fresh_app, settled, until

pytestmark = pytest.mark.anyio

QUEUE = "default"
SEED = int(os.environ.get("JETQ_TEST_SEED", "20261123"))
_GOOD_EVERY = 10
_LARGE = 1024 * 1024 - 32 * 1024


class Fuzz:
    """One run: the frames, what the server said of each, and what became of them."""

    def __init__(self, app: Jetq, seed: int) -> None:
        self.app = app
        self.frames = Frames(seed, app.settings.namespace)
        self.stored: dict[int, Frame] = {}
        self.unknown: list[Frame] = []
        self.ran: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.delivered: list[Delivery] = []
        self.good: list[int] = []

    async def plant(self, count: int) -> None:
        """`count` frames, and a good job after every few, each of which must have run before the next is sent."""
        wire = await Wire.open(self.app.settings.servers[0])
        for number in range(count):
            frame = self.frames.next()
            self._note(frame, await wire.store(frame.subject, frame.block, frame.body))
            if number % _GOOD_EVERY == 0:
                await self.app.asend("proof", {"n": number}, queue=QUEUE)
                await until(lambda number=number: number in self.good)  # type: ignore[misc]
        await wire.close()

    def _note(self, frame: Frame, answer: Answer) -> None:
        if answer.sequence:
            self.stored[answer.sequence] = frame
        elif answer.unknown:
            self.unknown.append(frame)

    async def check(self) -> None:
        """Nothing is left, and of each stored frame it is known what became of it, once."""
        broker = await self.app.session.broker()
        await settled(self.app)
        assert await broker.stored_jobs(QUEUE) == []
        dead = Counter(_bytes_of(entry) for entry in await broker.dead(QUEUE))
        ended = self.ran + self.expired
        ids = {delivery.sequence: delivery.id for delivery in self.delivered}
        for sequence, frame in self.stored.items():
            address = frame.subject.decode(errors="backslashreplace")
            told = f"sequence {sequence}: {_short(frame)}"
            assert sequence in ids, f"never handed out: {told}"
            found = next((each for each in ((address, frame.body), ("", frame.body)) if dead[each]), None)
            if found is not None:
                dead[found] -= 1
            else:
                assert ended[ids[sequence]], f"neither run nor dead with its bytes: {told}"
                ended[ids[sequence]] -= 1
        assert [id for id in +ended if not id.startswith(FIRED)] == [], "run more than once"
        assert self.unknown or +dead == Counter(), "dead more than once"
        assert [each.id for each in self.delivered if each.count > _most_often(each)] == [], "goes round"


def _most_often(delivery: Delivery) -> int:
    """How often it may be handed out. What is so large that it cannot be stored anew is put off where it stands, for as
    long as an unknown task is."""
    return 3 if len(delivery.body) > _LARGE else 1


def _bytes_of(entry: DeadEntry) -> tuple[str, bytes]:
    """The address and the body of what is dead; of a message so large that its letter found no room, the body alone."""
    return "" if ".dead." in entry.letter.address else entry.letter.address, entry.body


@asynccontextmanager
async def fuzzed(url: str, seed: int) -> AsyncIterator[Fuzz]:
    """A worker on a namespace of its own that frames can be planted for."""

    async def expired(job: JobContext) -> None:
        fuzz.expired[job.id] += 1

    app = fresh_app(url, on_expired=expired)
    fuzz = Fuzz(app, seed)
    watch_deliveries(app, fuzz.delivered.append)
    _define(app, fuzz)
    await (await app.session.broker()).setup(QUEUE)
    worker = Worker(app, concurrency=4)
    running = asyncio.create_task(worker.run())
    try:
        yield fuzz
        assert not running.done()
    finally:
        worker.stop()
        await running
        await app.session.aclose()


def _define(app: Jetq, fuzz: Fuzz) -> None:
    def ran() -> None:
        fuzz.ran[current_job().id] += 1

    @app.task(name="good")
    async def good(n: int) -> int:
        ran()
        return n

    @app.task(name="loose")
    async def loose(v: Any) -> None:
        ran()

    @app.task(name="limited", limit=2)
    async def limited(n: int) -> None:
        ran()

    @app.task(name="proof")
    async def proof(n: int) -> None:
        fuzz.good.append(n)


def _short(frame: Frame) -> str:
    return f"{frame.subject[:200]!r} {frame.block and frame.block[:300]!r} {frame.body[:100]!r}"


async def _run(url: str, seed: int, count: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jetq.worker")
    sys.stdout.write(f"seed {seed}\n")  # shown if it fails; JETQ_TEST_SEED repeats it
    async with fuzzed(url, seed) as fuzz:
        await fuzz.plant(count)
        await fuzz.check()
    assert len(fuzz.stored) > count / 2 and fuzz.ran
    said = [record.getMessage() for record in caplog.records if _is_problem(record)]
    assert said == []


def _is_problem(record: logging.LogRecord) -> bool:
    return bool(record.exc_info) or "trying again" in record.getMessage() or record.levelno >= logging.CRITICAL


async def test_a_few_hundred_frames_at_random(nats_url: str, caplog: pytest.LogCaptureFixture, impatient: None) -> None:
    """Guarantee: whatever stands in a queue, a worker runs it or dead-letters it with its bytes, once, and goes on."""
    await _run(nats_url, SEED, 200, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED + 1, SEED + 4))
async def test_some_thousand_frames_at_random(
    nats_url: str, caplog: pytest.LogCaptureFixture, impatient: None, seed: int
) -> None:
    await _run(nats_url, seed, 2000, caplog)
