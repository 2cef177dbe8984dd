"""The producers of a chaos run: what they store, how they repeat it, and what they were told."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from jetq import BrokerError, BrokerUnavailable, Jetq, Rejected
from jetq.broker.numbers import HEADROOM
from jetq.jetstream.broker import JetStreamBroker
from tests.apps.noting import digest
from tests.faults.chaos.checker import Attempt, Outcome, Repeat
from tests.faults.chaos.scene import LEASE, QUEUE, SAME_ID_QUEUE, Scene

__all__ = ["produce", "store_big"]

_PRODUCERS = 8
_IN_THREADS = 2
"""Of the producers: code that is not async."""

_TRIES = 5
_PAUSE = 0.08
"""Seconds at most between two jobs of a producer: about 200 jobs a second in all, and some sixty faults to 20,000."""

_HURRIED = 1.0
"""Seconds after which a producer that is not async gives an enqueue up: less than most faults take."""

_GIVES_UP = 0.3
"""The share of jobs that are not tried again once it is said that they are surely not stored."""

_MODULE = "tests.apps.chaos_tasks"
_TASKS = {
    "quick": 50.0,
    "short": 20.6,
    "threaded": 10.0,
    "flaky": 10.0,
    "doomed": 4.0,
    "limited": 4.0,
    "long": 0.2,
    "big": 0.2,
    "big_flaky": 0.2,
    "big_doomed": 0.1,
    "same_id": 0.7,
}

_BIG = (300_000, 1024 * 1024 - HEADROOM - 200)
"""Bytes of the data of big jobs, from and to: all that the server's usual limit leaves to it."""

_numbers = itertools.count(2_000_000)
"""Of the big jobs that a fault stores."""

_ODD = '"\\\n\x00\u2028é\U0001f600'
"""Characters that are not the same bytes everywhere."""

_STANDS = (6.0, 8.0)
"""Seconds for which a job of a repeated id waits or runs, from and to: longer than its enqueue is sent again."""

_AGAIN_AFTER = (1.5, 4.0)

_REPEATED = 10_000_000
"""What is added to the number of a job for each of its repeats."""


async def produce(scene: Scene, jobs: int) -> None:
    """Enqueue so many jobs, and return when each is stored or given up. Job n is the same in each run of a seed."""
    numbers = iter(range(jobs))
    async with _ways(scene) as ways, asyncio.TaskGroup() as group:

        async def work(in_thread: bool) -> None:
            for n in numbers:
                chance = random.Random(f"{scene.seed} {n}")
                task = chance.choices(list(_TASKS), list(_TASKS.values()))[0]
                if task == "same_id":
                    group.create_task(_repeat_id(scene, ways.repeating, n, chance))
                else:
                    await _store(scene, ways.hurried if in_thread else ways.usual, n, task, chance)
                await asyncio.sleep(chance.uniform(0.0, _PAUSE))

        for number in range(_PRODUCERS):
            group.create_task(work(number < _IN_THREADS))


# --- how


@dataclass
class _Way:
    """How jobs are enqueued."""

    app: Jetq
    in_thread: bool = False

    async def enqueue(self, task: str, arguments: Mapping[str, Any], **options: Any) -> tuple[Outcome, str]:
        """What became of it, and what was said: what the job is, or the error."""
        call = self.app.call(f"{_MODULE}.{task}", arguments, **options)
        try:
            if self.in_thread:
                job = await asyncio.to_thread(self.app.enqueue, call)
            else:
                job = await self.app.aenqueue(call)
        except (Rejected, BrokerUnavailable) as error:
            return "rejected", type(error).__name__
        except BrokerError as error:
            return "unknown", type(error).__name__
        return "stored", job.disposition


@dataclass
class _Ways:
    """From async code, from threads, and where ids are repeated."""

    usual: _Way
    hurried: _Way
    repeating: _Way


@asynccontextmanager
async def _ways(scene: Scene) -> AsyncIterator[_Ways]:
    urls = scene.links[-1].urls
    usual, hurried, repeating = scene.app(urls), scene.app(urls, publish_timeout=_HURRIED), scene.app(urls)
    (await repeating.session.broker()).__class__ = _LongConnected
    try:
        yield _Ways(_Way(usual), _Way(hurried, in_thread=True), _Way(repeating))
    finally:
        await usual.session.aclose()
        await repeating.session.aclose()
        await asyncio.to_thread(hurried.session.close)


class _LongConnected(JetStreamBroker):
    """As on a connection that has stood for two minutes: on a new one an id that was given is looked for first."""

    _may_have_forgotten = False


# --- jobs of ids of their own


async def _store(scene: Scene, way: _Way, n: int, task: str, chance: random.Random) -> None:
    """Store one job, again under the same id while its fate is unknown, as an application would."""
    task, arguments, delay = _job(task, n, chance)
    gives_up = chance.random() < _GIVES_UP
    words: list[str] = []
    outcome: Outcome = "rejected"
    for _ in range(_TRIES):
        became, word = await way.enqueue(task, arguments, queue=QUEUE, id=f"chaos-{n}", delay=delay)
        words.append(word)
        outcome = became if became != "rejected" else outcome
        if became == "stored" or (became == "rejected" and gives_up):
            break
        await asyncio.sleep(0.2)
    data = arguments.get("data")
    carried = None if data is None else digest(data)
    scene.attempts.append(Attempt(f"chaos-{n}", n, f"{_MODULE}.{task}", outcome, tuple(words), carried))


async def store_big(scene: Scene, app: Jetq, count: int) -> None:
    """Store so many big jobs at once, for a fault."""
    chances = [random.Random(scene.random.random()) for _ in range(count)]
    tasks = [chance.choice(["big", "big_flaky", "big_doomed"]) for chance in chances]
    storing = (
        _store(scene, _Way(app), next(_numbers), task, chance) for task, chance in zip(tasks, chances, strict=True)
    )
    await asyncio.gather(*storing)


def _job(task: str, n: int, chance: random.Random) -> tuple[str, dict[str, Any], float]:
    """Task, arguments and delay. Half of the big ones wait, so that some stand whatever happens."""
    arguments: dict[str, Any] = {"n": n}
    if task in ("short", "threaded", "limited"):
        arguments["seconds"] = round(chance.uniform(0.0, 0.03), 3)
    if task == "long":
        task, arguments["seconds"] = "short", round(chance.uniform(1.0, 1.2 * LEASE), 1)
    if task.startswith("big"):
        arguments["data"] = _data(chance.randint(*_BIG), chance)
    if task == "big":
        arguments["seconds"] = round(chance.uniform(0.0, 3.0), 1)
    waits = 0.5 if task.startswith("big") else 0.05
    return task, arguments, chance.uniform(0.5, 4.0) if chance.random() < waits else 0.0


def _data(size: int, chance: random.Random) -> str:
    """A text of so many bytes at most, as JSON."""
    return _ODD + base64.b64encode(chance.randbytes((size - 60) * 3 // 4)).decode()


# --- an id again


async def _repeat_id(scene: Scene, way: _Way, n: int, chance: random.Random) -> None:
    """Store a job that stands or runs for longer than an enqueue is repeated, and enqueue others under its id when the
    server has forgotten that. If it is not surely stored it is left: a repeat that has the same id could double it."""
    id = f"again-{n}"
    outcome, word = await _store_long(way, id, n, chance)
    scene.attempts.append(Attempt(id, n, f"{_MODULE}.same_id", outcome, (word,)))
    if outcome != "stored":
        return
    for number in range(1, chance.randint(1, 2) + 1):
        await asyncio.sleep(chance.uniform(*_AGAIN_AFTER))
        other = n + number * _REPEATED
        outcome, word = await _store_long(way, id, other, chance)
        scene.repeats.append(Repeat(id, other, outcome, word, time.time()))


async def _store_long(way: _Way, id: str, n: int, chance: random.Random) -> tuple[Outcome, str]:
    seconds = round(chance.uniform(*_STANDS), 1)
    runs = chance.random() < 0.5
    arguments = {"n": n, "seconds": seconds if runs else 0.0}
    return await way.enqueue("same_id", arguments, queue=SAME_ID_QUEUE, id=id, delay=0.0 if runs else seconds)
