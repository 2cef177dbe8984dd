"""How well limits across the fleet are used, over 4 worker processes: `python -m benchmarks.limits`.

Every case ends by checking its ledger: as many runs as jobs, never more at once than the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jetq import Jetq, task
from jetq.server import LocalServer

QUEUE = "bench"
PROCESSES = 4
LIMIT = 5
SECONDS = 0.05
RATE = 50


def note(event: str, key: str) -> None:
    """One line in one write: appends of this size do not mix, also between processes."""
    ledger = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{event} {key} {time.time():.6f}\n".encode())
    finally:
        os.close(ledger)


@task(queue=QUEUE, name="bench.limited", limit=LIMIT)
async def limited(key: str) -> None:
    """One of five at once."""
    note("start", key)
    await asyncio.sleep(SECONDS)
    note("end", key)


@task(queue=QUEUE, name="bench.each", limit=LIMIT, limit_per="key")
async def each(key: str) -> None:
    """One of five of its key at once."""
    note("start", key)
    await asyncio.sleep(SECONDS)
    note("end", key)


@task(queue=QUEUE, name="bench.instant", limit=1)
async def instant(key: str) -> None:
    """One after the other."""
    note("start", key)
    note("end", key)


@task(queue=QUEUE, name="bench.paced", rate=f"{RATE}/s")
async def paced(key: str) -> None:
    """Fifty in a second."""
    note("start", key)
    note("end", key)


Line = tuple[str, str, float]


def read(ledger: Path) -> list[Line]:
    """What was noted: event, key, unix time."""
    return [(event, key, float(at)) for event, key, at in (line.split() for line in ledger.read_text().splitlines())]


def most_at_once(lines: list[Line]) -> int:
    """Runs at once at most, of one key."""
    running, most = Counter[str](), 0
    for event, key, _ in lines:
        running[key] += 1 if event == "start" else -1
        most = max(most, running[key])
    return most


@contextmanager
def fleet(url: str, directory: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The ledger, and the supervisor of the worker processes that write it."""
    ledger = directory / "ledger"
    ledger.write_text("")
    command = [sys.executable, "-m", "jetq", "worker", "benchmarks.limits", "-q", QUEUE, "-c", "50"]
    workers = subprocess.Popen(
        [*command, "--processes", str(PROCESSES)],
        env=os.environ | {"JETQ_SERVERS": url, "BENCH_LEDGER": str(ledger)},
        stderr=(directory / "workers.log").open("a"),
    )
    try:
        yield ledger, workers
    finally:
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(60) == 0, (directory / "workers.log").read_text()


async def run(app: Jetq, directory: Path, url: str, jobs: list[tuple[str, str]], at_once: int) -> list[Line]:
    """Run jobs of these tasks and keys; the ledger, checked."""
    broker = await app.session.broker()
    await broker.setup(QUEUE)
    with fleet(url, directory) as (ledger, workers):
        await asyncio.sleep(2.0)  # all four are up
        await app.adelay_many(app.call(name, {"key": key}, queue=QUEUE) for name, key in jobs)
        while sum(1 for event, _, _ in read(ledger) if event == "end") < len(jobs):
            assert workers.poll() is None, (directory / "workers.log").read_text()
            await asyncio.sleep(0.2)
        lines = read(ledger)
    assert len(lines) == 2 * len(jobs), f"the ledger does not add up: {len(jobs)} jobs, {len(lines)} lines"
    assert most_at_once(lines) <= at_once, f"{most_at_once(lines)} ran at once"
    return lines


def span(lines: list[Line]) -> float:
    """Seconds from the first start to the last end."""
    return lines[-1][2] - lines[0][2]


async def slots_used(app: Jetq, directory: Path, url: str, count: int) -> str:
    """The share of the slots' time in which they are in use, ideal sleeps counted."""
    lines = await run(app, directory, url, [("bench.limited", "all")] * count, LIMIT)
    return f"{count * SECONDS / LIMIT / span(lines):.1%} of {LIMIT} slots used, {count:,} jobs of 50 ms"


async def rate_kept(app: Jetq, directory: Path, url: str, seconds: int) -> str:
    """How many were started in each second."""
    lines = await run(app, directory, url, [("bench.paced", "all")] * RATE * seconds, RATE * seconds)
    starts = [at for event, _, at in lines if event == "start"]
    a_second = Counter(int(at - starts[0]) for at in starts)
    whole = [a_second[second] for second in range(int(starts[-1] - starts[0]))]
    mean = (len(starts) - 1) / (starts[-1] - starts[0])
    return f"{mean:.1f}/s over {seconds} s where {RATE}/s are allowed, {min(whole)} to {max(whole)} in a second"


async def hot_key(app: Jetq, directory: Path, url: str, count: int) -> str:
    """How long others take behind a key with far more jobs than its limit lets run."""
    others = [("bench.each", f"other-{n}") for n in range(100)]
    lines = await run(app, directory, url, [("bench.each", "hot")] * count + others, LIMIT)
    after = [at - lines[0][2] for event, key, at in lines if event == "end" and key != "hot"]
    return (
        f"100 other keys behind {count:,} jobs of a hot one ended after {statistics.median(after):.2f} s (median), "
        f"{max(after):.2f} s (last); the hot key took {span(lines):.1f} s"
    )


async def one_by_one(app: Jetq, directory: Path, url: str, count: int) -> str:
    """Jobs that take no time, one after the other."""
    lines = await run(app, directory, url, [("bench.instant", "all")] * count, 1)
    return f"{count / span(lines):,.0f} jobs/s that take no time, one at once over {PROCESSES} processes"


async def measure(url: str, directory: Path, scale: float) -> None:
    """All cases in turn."""
    app = Jetq(url)
    print("slots     ", await slots_used(app, directory, url, int(5_000 * scale)), flush=True)
    print("rate      ", await rate_kept(app, directory, url, max(2, int(20 * scale))), flush=True)
    print("hot key   ", await hot_key(app, directory, url, int(2_000 * scale)), flush=True)
    print("one by one", await one_by_one(app, directory, url, int(5_000 * scale)), flush=True)
    await app.session.aclose()
    app.session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="jobs in proportion to 5,000 (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalServer(Path(directory) / "nats", port=0) as server:
        asyncio.run(measure(server.url, Path(directory), options.scale))


if __name__ == "__main__":
    main()
