"""How fast workflows are beside plain jobs of the same run, over worker processes: `python -m benchmarks.workflows`.

Every case checks the values it gets. All figures are of one server and the workers on one machine.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jetq import Jetq, each, group, task
from jetq.server import LocalServer

QUEUE = "bench"
PROCESSES = 2
SLOTS = 50


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
    workers = subprocess.Popen(
        [*command, "--processes", str(PROCESSES)],
        env=os.environ | {"JETQ_SERVERS": url},
        stderr=(directory / "workers.log").open("a"),
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


async def chords(count: int, size: int) -> float:
    """Return the chords a second, stored one after the other, from the first `.delay` to the last value."""
    began = time.perf_counter()
    flows = [await (group(one.bind(n) for n in range(size)) | total).adelay() for _ in range(count)]
    for flow in flows:
        assert await flow.aresult(600) == sum(range(size))
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


async def measure(url: str, directory: Path, scale: float) -> None:
    """All cases in turn."""
    app = Jetq(url)
    count = int(10_000 * scale)
    with fleet(url, directory):
        await members(10)  # they are up
        before = await stored_bytes(app)
        for _ in range(3):
            jobs, mates = await plain(app, count), await members(count)
            print(f"plain jobs {jobs:7,.0f}/s   members {mates:7,.0f}/s   {mates / jobs:.2f}", flush=True)
        print(f"a member   {(await stored_bytes(app) - before) / 3 / count:7,.0f} bytes", flush=True)
        print(f"chords     {await chords(int(1_000 * scale), 10):7,.0f}/s of ten and a join", flush=True)
        print(f"a chain    {await chain(10, 20):7.1f} ms of ten", flush=True)
    await app.session.aclose()
    app.session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="members in proportion to 10,000 (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalServer(Path(directory) / "nats", port=0) as server:
        asyncio.run(measure(server.url, Path(directory), options.scale))


if __name__ == "__main__":
    main()
