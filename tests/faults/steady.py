"""A worker and a server under an even load for a while, and whether their memory or open files grow meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from jetq import Jetq
from tests.apps.ledger import Ledger
from tests.apps.measure import open_files, resident
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServer

__all__ = ["Sample", "Steady", "run"]

QUEUE = "chaos"
RATE = 200
"""Jobs a second."""

MOST_GROWTH = {"worker": 24, "server": 96}
"""MiB by which the median of the last quarter may exceed that of the second. The server's dedup window of two minutes
and its results of one fill up first."""

MOST_FILES = 8
_MEBIBYTE = 1024 * 1024
_SAMPLES = 240
_QUIET_WITHIN = 120.0
_TASKS = {"quick": 60, "short": 20, "threaded": 10, "flaky": 5, "limited": 5}


@dataclass(frozen=True)
class Sample:
    """One look: MiB and open files of one process."""

    at: float
    memory: float
    files: int


@dataclass
class Steady:
    """What was seen."""

    seconds: float
    jobs: int = 0
    unfinished: int = 0
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {"worker": [], "server": []})

    @property
    def faults(self) -> list[str]:
        """What should not be."""
        found = [f"{self.unfinished} jobs were not finished"] if self.unfinished else []
        for who, samples in self.samples.items():
            memory, files = growth(samples)
            if memory > MOST_GROWTH[who]:
                found.append(f"the {who} grew by {memory:.0f} MiB, more than {MOST_GROWTH[who]}")
            if files > MOST_FILES:
                found.append(f"the {who} has {files:.0f} more files open, more than {MOST_FILES}")
        return found

    def table(self) -> str:
        """Memory and open files over time, in a few lines, and what came of it."""
        lines = [f"steady: {self.jobs:,} jobs in {self.seconds:.0f} s"]
        lines.append(f"{'':8}{'at':>8}{'worker':>12}{'files':>7}{'server':>12}{'files':>7}")
        rows = list(zip(self.samples["worker"], self.samples["server"], strict=True))
        for worker, server in rows[:: max(1, len(rows) // 12)]:
            sizes = f"{worker.memory:8.1f} MiB{worker.files:7}{server.memory:8.1f} MiB{server.files:7}"
            lines.append(f"{'':8}{worker.at:6.0f} s{sizes}")
        for who, samples in self.samples.items():
            lines.append(f"  {who} grew by {growth(samples)[0]:.1f} MiB; {MOST_GROWTH[who]} are allowed")
        return "\n".join([*lines, *(f"  fault: {fault}" for fault in self.faults)])


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """By how much memory and files of the last quarter exceed those of the second."""
    quarter = len(samples) // 4
    if not quarter:
        return 0.0, 0.0
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = median(each.memory for each in late) - median(each.memory for each in early)
    return memory, median(each.files for each in late) - median(each.files for each in early)


async def run(seconds: float, directory: Path, seed: int) -> Steady:
    """So long a load, and the time until it is worked off."""
    directory.mkdir(parents=True, exist_ok=True)
    server, ledger = NatsServer(directory / "nats"), Ledger(directory / "ledger")
    app, seen = Jetq(server.url), Steady(seconds)
    try:
        await (await app.session.broker()).setup(QUEUE)
        with WorkerProcess(server.url, ledger, concurrency=20, queue=QUEUE, modules="tests.apps.chaos_tasks") as worker:
            watching = asyncio.create_task(_watch(seen, {"worker": worker.pid, "server": server.pid}))
            stored = await _load(app, seconds, random.Random(seed))
            watching.cancel()
            await _until_quiet(app)
        seen.jobs = len(stored)
        seen.unfinished = len(stored - {entry.id for entry in ledger.entries("finish")})
    finally:
        await app.session.aclose()
        server.stop()
    return seen


async def _load(app: Jetq, seconds: float, chance: random.Random) -> set[str]:
    """The ids of what was stored."""
    stored: set[str] = set()
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        names = chance.choices(list(_TASKS), weights=list(_TASKS.values()), k=RATE // 10)
        calls = [app.call(f"tests.apps.chaos_tasks.{name}", _arguments(name, chance), queue=QUEUE) for name in names]
        stored.update(job.id for job in await app.adelay_many(calls))
        await asyncio.sleep(max(0.0, began + 0.1 - time.monotonic()))
    return stored


def _arguments(name: str, chance: random.Random) -> dict[str, object]:
    timed = {"seconds": round(chance.uniform(0.0, 0.02), 3)} if name in ("short", "threaded", "limited") else {}
    return {"n": 0, **timed}


async def _watch(seen: Steady, processes: dict[str, int]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(max(0.5, seen.seconds / _SAMPLES))
        at = time.monotonic() - began
        for who, pid in processes.items():
            seen.samples[who].append(Sample(at, resident(pid) / _MEBIBYTE, open_files(pid)))


async def _until_quiet(app: Jetq) -> None:
    """Until nothing is left, or it has been too long: what is left is counted."""
    broker = await app.session.broker()
    end = time.monotonic() + _QUIET_WITHIN
    while time.monotonic() < end:
        info = next(info for info in await broker.queues() if info.name == QUEUE)
        if info.ready == info.running == info.scheduled == 0:
            return
        await asyncio.sleep(0.2)
