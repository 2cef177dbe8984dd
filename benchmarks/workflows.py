"""How fast workflows are beside plain jobs of the same run, over worker processes: `python -m benchmarks.workflows`.

Every case checks the values it gets. All figures are of one server and the workers on one machine, and a round runs all
cases in turn, so that ratios within a round are of the same minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import cpu_seconds, environment
from jetq import Jetq, each, group, task
from jetq.operations.workflows import creating
from jetq.server import LocalServer

QUEUE = "bench"
PROCESSES = 2
SLOTS = 50

TURNS = 1_800.0
"""Seconds between two turns of the watch of a workflow that waits for long."""

Figures = dict[str, list[float]]


@task(queue=QUEUE, name="bench.one")
async def one(n: int) -> int:
    """As little as a job can do that has a value."""
    return n


@task(queue=QUEUE, name="bench.total")
async def total(numbers: list[int]) -> int:
    """The join."""
    return sum(numbers)


@task(queue=QUEUE, name="bench.more")
async def more(n: int) -> int:
    """One after the other."""
    return n + 1


@contextmanager
def fleet(url: str, directory: Path) -> Iterator[None]:
    """Worker processes, which are up when the context begins to be used."""
    command = [sys.executable, "-m", "jetq", "worker", "benchmarks.workflows", "-q", QUEUE, "-c", str(SLOTS)]
    with (directory / "workers.log").open("a") as log:
        workers = subprocess.Popen(
            [*command, "--processes", str(PROCESSES)], env=os.environ | {"JETQ_SERVERS": url}, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(60) == 0, (directory / "workers.log").read_text()


async def plain(app: Jetq, count: int) -> float:
    """Return the plain jobs with results a second, from the first one stored to the last one settled."""
    broker = await app.session.broker()
    began = time.perf_counter()
    jobs = await one.adelay_many(one.bind(n) for n in range(count))
    while any(info.ready or info.running for info in await broker.queues() if info.name == QUEUE):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    assert [await job.aresult(60) for job in jobs[-100:]] == list(range(count))[-100:]
    return count / took


async def members(count: int) -> float:
    """Return the members a second of one step, from `.delay` to the value of its join."""
    began = time.perf_counter()
    flow = await (each(one, range(count)) | total).adelay()
    assert await flow.aresult(600) == sum(range(count))
    return count / (time.perf_counter() - began)


async def chords(count: int, size: int, callers: int) -> float:
    """Return the chords a second, stored by so many callers, each one after the other, up to the last value."""
    began = time.perf_counter()
    left = iter(range(count))

    async def caller() -> None:
        flows = [await (group(one.bind(n) for n in range(size)) | total).adelay() for _ in left]
        for flow in flows:
            assert await flow.aresult(600) == sum(range(size))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return count / (time.perf_counter() - began)


async def chain(length: int, rounds: int) -> float:
    """Return the median milliseconds of a chain, from `.delay` to its value, with nothing else to do."""
    took = []
    for _ in range(rounds):
        work = one.bind(0) | more
        for _ in range(length - 2):
            work = work | more
        began = time.perf_counter()
        assert await (await work.adelay()).aresult(60) == length - 1
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


async def stored_bytes(app: Jetq) -> int:
    """Return the bytes that the records of workflows take."""
    broker = await app.session.broker()
    survey = await broker.survey({})
    return sum(stream.bytes for stream in survey.streams if stream.name.endswith("_FLOWS"))


async def idle(app: Jetq, server: int, count: int, seconds: float) -> tuple[float, float]:
    """Return which share of a core the server takes for `count` workflows that wait, in percent, and without them.

    Their first step is due in a week. Their watches come as those of workflows that have waited for hours do: each at
    some time within half an hour.
    """

    async def share() -> float:
        before, began = cpu_seconds(server), time.perf_counter()
        await asyncio.sleep(seconds)
        return (cpu_seconds(server) - before) / (time.perf_counter() - began) * 100

    without, left = await share(), iter(range(count))
    chance, first = random.Random(count), creating.FIRST_TURN

    async def caller() -> None:
        for _ in left:
            creating.FIRST_TURN = chance.uniform(0.0, TURNS)
            await (one.bind(1) | more).adelay(delay=7 * 86_400)

    try:
        await asyncio.gather(*(caller() for _ in range(32)))
    finally:
        creating.FIRST_TURN = first
    return await share(), without


async def round_of(app: Jetq, options: argparse.Namespace, first: bool, figures: Figures) -> None:
    """All cases but the idle one, once. Bytes are counted before the first workflows are closed, whose records go."""

    def note(name: str, value: float, says: str) -> None:
        figures.setdefault(name, []).append(round(value, 3))
        print(f"{name:28} {value:10,.2f} {says}", flush=True)

    for number in [options.members, *([options.large] if options.large and first else [])]:
        before = await stored_bytes(app)
        jobs, mates = await plain(app, number), await members(number)
        note(f"plain-{number}", jobs, "plain jobs/s, with results")
        note(f"members-{number}", mates, "members/s of one step and a join")
        note(f"members-{number}-ratio", mates / jobs, "of plain jobs")
        if first:
            note(f"members-{number}-bytes", (await stored_bytes(app) - before) / number, "bytes a member")
    note("chords-one-caller", await chords(options.chords, 10, 1), "chords/s of ten and a join, stored one by one")
    note("chords-ten-callers", await chords(options.chords, 10, 10), "chords/s of ten and a join")
    note("chain-of-ten", await chain(10, 20), "ms, median")


async def measure(server: LocalServer, directory: Path, options: argparse.Namespace) -> Figures:
    """All rounds, and what waits."""
    app, figures = Jetq(server.url), Figures()
    with fleet(server.url, directory):
        await members(10)  # they are up
        for number in range(options.rounds):
            print(f"--- round {number + 1}", flush=True)
            await round_of(app, options, number == 0, figures)
        if options.idle:
            assert server.pid is not None
            share, without = await idle(app, server.pid, options.idle, options.seconds)
            figures |= {"idle-workflows": [options.idle], "idle-cpu": [share], "idle-cpu-without": [without]}
            print(f"{options.idle:,} that wait: {share:.2f} % of a core, {without:.2f} % without", flush=True)
    await app.session.aclose()
    app.session.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workflows", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all cases (3)")
    parser.add_argument("--members", type=int, default=10_000, help="members of one step, and plain jobs (10,000)")
    parser.add_argument("--large", type=int, default=100_000, help="the same, in the first round (100,000); 0 for none")
    parser.add_argument("--chords", type=int, default=1_000, help="chords of ten (1,000)")
    parser.add_argument("--idle", type=int, default=20_000, help="workflows that wait (20,000); 0 for none")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which the server is watched while they wait")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalServer(Path(directory) / "nats", port=0) as server:
        figures = asyncio.run(measure(server, Path(directory), options))
    if options.json:
        told = {"environment": environment(uvloop=False), "chords": options.chords, "figures": figures}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
