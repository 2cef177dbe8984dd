"""What each guarantee costs: `python -m benchmarks.guarantees`.

The same jobs on one server, on one that syncs each write to disk, and on three with a copy of each stream, all on this
machine; and bare publishes with and without the id by which a server knows a repeat. Rounds are interleaved, and every
drain ends by checking its ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats

from benchmarks import ledger
from benchmarks.floor import Acknowledged
from benchmarks.ledger import Ledger, now
from benchmarks.machine import environment
from benchmarks.names import QUEUE, TEXT
from benchmarks.report import describe
from benchmarks.tasks import call_of
from jetq import Jetq, Worker
from jetq.model.names import new_job_id
from jetq.server import HOST, end, launch

CALLERS = 100
SLOTS = 100
_FORMS_WITHIN = 30.0


# --- servers


@contextmanager
def servers(directory: Path, count: int, config: str) -> Iterator[list[str]]:
    """The URLs of `count` servers meanwhile, which know one another."""
    ports = _free_ports(2 * count)
    routes = ", ".join(f"nats-route://{HOST}:{port}" for port in ports[:count])
    running = []
    try:
        for place in range(count):
            home = directory / f"node-{place}"
            home.mkdir(parents=True)
            file = home / "nats-server.conf"
            cluster = f'cluster {{ name: c, listen: "{HOST}:{ports[place]}", routes: [{routes}] }}\n'
            file.write_text(
                f'server_name: node-{place}\nhttp: "{HOST}:{ports[count + place]}"\n'
                f'jetstream {{ store_dir: "{home / "store"}"{config} }}\n{cluster if count > 1 else ""}'
            )
            running.append(launch(file, home))
        for place in range(count):
            _until_healthy(ports[count + place])
        yield [f"nats://{HOST}:{port}" for _, port in running]
    finally:
        for process, _ in running:
            end(process)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _until_healthy(port: int) -> None:
    deadline = time.monotonic() + _FORMS_WITHIN
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=1.0) as answer:
                if answer.status == 200:
                    return
        except urllib.error.URLError:
            pass
        assert time.monotonic() < deadline, f"no server is healthy within {_FORMS_WITHIN:g} s"
        time.sleep(0.05)


# --- what is measured


async def one_by_one(app: Jetq, directory: Path, count: int) -> float:
    """Jobs a second that one caller stores, who awaits each."""
    began = now()
    for number in range(count // 10):
        await app.aenqueue(call_of("noop", number, 0.0))
    return count // 10 / (now() - began)


async def callers(app: Jetq, directory: Path, count: int) -> float:
    """Jobs a second that a hundred callers store."""
    numbers, began = iter(range(count)), now()

    async def caller() -> None:
        for number in numbers:
            await app.aenqueue(call_of("noop", number, 0.0))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (now() - began)


def draining(task: str) -> Callable[[Jetq, Path, int], Coroutine[Any, Any, float]]:
    """Jobs a second that a worker runs."""

    async def drain(app: Jetq, directory: Path, count: int) -> float:
        await (await app.session.broker()).purge(QUEUE)
        book = Ledger(directory / "ledger", count)
        ledger.use(book)
        await app.adelay_many(call_of(task, number, 0.0) for number in range(count))
        worker = Worker(app, queues=[QUEUE], concurrency=SLOTS)
        running = asyncio.create_task(worker.run())
        while book.left:
            assert not running.done(), "the worker has ended"
            await asyncio.sleep(0.002)
        worker.stop()
        await running
        book.check()
        return book.rate

    return drain


MEASURES: Mapping[str, Callable[[Jetq, Path, int], Coroutine[Any, Any, float]]] = {
    "stored, one by one": one_by_one,
    "stored by 100 callers": callers,
    "run, no-op": draining("noop"),
    "run, result kept": draining("answer"),
}

SETUPS: Mapping[str, tuple[int, str]] = {
    "one server": (1, ""),
    "sync_interval: always": (1, ", sync_interval: always"),
    "three servers, three copies": (3, ""),
}


async def measure(setup: str, count: int) -> dict[str, float]:
    """All measures on servers of their own."""
    nodes, config = SETUPS[setup]
    figures = {}
    for name, measured in MEASURES.items():
        gc.collect()
        with tempfile.TemporaryDirectory() as directory, servers(Path(directory), nodes, config) as urls:
            app = Jetq(urls, replicas=nodes)
            await (await app.session.broker()).setup(QUEUE)
            figures[name] = await measured(app, Path(directory), count)
            await app.session.aclose()
    return figures


async def bare(count: int) -> dict[str, float]:
    """Publishes a second by a hundred callers of nats-py, with an id each and without."""
    figures = {}
    for name in ("with Nats-Msg-Id", "without"):
        with tempfile.TemporaryDirectory() as directory, servers(Path(directory), 1, "") as (url,):
            client = await nats.connect(url)
            await client.jetstream().add_stream(name="BARE", subjects=["bare.>"], duplicate_window=120)
            publishes = Acknowledged(client)
            await publishes.start()
            ids, began = iter([new_job_id() for _ in range(count)]), now()

            async def caller(named: bool) -> None:
                for id in ids:  # noqa: B023 - run within the round
                    await publishes.publish(f"bare.{id}", TEXT.encode(), {"Nats-Msg-Id": id} if named else {})  # noqa: B023

            await asyncio.gather(*(caller(name != "without") for _ in range(CALLERS)))
            figures[name] = count / (now() - began)
            await client.close()
    return figures


# --- the command


def table(figures: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Medians; in brackets the share of the first row."""
    names = list(next(iter(figures.values())))
    first = {name: statistics.median(rounds) for name, rounds in next(iter(figures.values())).items()}
    lines = [f"| jobs/s | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for row, measured in figures.items():
        medians = {name: statistics.median(measured[name]) for name in names}
        cells = [f"{medians[name]:,.0f} ({medians[name] / first[name]:.2f})" for name in names]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def main(rounds: int, count: int) -> None:
    figures: dict[str, dict[str, list[float]]] = {setup: defaultdict(list) for setup in SETUPS}
    ids: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for setup in SETUPS:
            for name, figure in (await measure(setup, count)).items():
                figures[setup][name].append(figure)
        for name, figure in (await bare(count)).items():
            ids[name].append(figure)
    print(table(figures))
    print()
    print(table({name: {"bare publishes by 100 callers": values} for name, values in ids.items()}))
    print()
    print(describe(environment(uvloop=False)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guarantees", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="jobs of each measure; a tenth one by one")
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.count))
