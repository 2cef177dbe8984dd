"""Where the time of a job goes: `python -m benchmarks.anatomy`.

CPU time of worker, producer and server for jobs that do nothing, and within the worker what can be measured by itself:
the same code on the same bytes, a hundred jobs at a time as they arrive. What is left of the whole is the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from benchmarks import ledger
from benchmarks.ground import Ground, Site
from benchmarks.ledger import Ledger, now
from benchmarks.machine import cpu_seconds, environment
from benchmarks.names import QUEUE, TEXT
from benchmarks.report import describe
from benchmarks.tasks import call_of, noop
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.pull import Pull
from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from jetq.jetstream.transport.parser import Parser
from jetq.model.job import Delivery
from jetq.model.names import new_job_id
from jetq.worker.eager_start import EagerStarter

BATCH = 100
"""Jobs that arrive together, as many as there are slots."""


class Nowhere:
    """Takes the place of a connection: what is sent goes nowhere."""

    connected = True

    def new_inbox(self) -> str:
        return "_INBOX.fLIHw3kdLpUxPIEd5GKH7q"

    def on_up(self, callback: Callable[[], None]) -> None: ...

    def off_up(self, callback: Callable[[], None]) -> None: ...

    def send(self, subject: str, payload: bytes, reply: str = "", block: bytes = b"") -> None: ...

    def send_each(self, subjects: Iterable[str], payload: bytes) -> None:
        "".join([f"PUB {subject} {len(payload)}\r\n" for subject in subjects]).encode()

    async def subscribe(self, subject: str, callback: Callable[[Message], None]) -> None: ...


def frames(count: int) -> bytes:
    """What the server sends for so many jobs."""
    body = noop.signature.encode((1, TEXT), {})
    words = []
    for number in range(count):
        id = new_job_id()
        block = header_block({"Nats-Msg-Id": id})
        subject, stamp = f"jetq.{QUEUE}.run.bench:noop.-.{id}", 1_764_000_000_000_000_000 + number
        reply = f"$JS.ACK.{QUEUE.upper()}_JOBS.{QUEUE}.1.{number + 1}.{number + 1}.{stamp}.{count - number}"
        head = f"HMSG {subject} 1 {reply} {len(block)} {len(block) + len(body)}\r\n"
        words.append(head.encode() + block + body + b"\r\n")
    return b"".join(words)


async def pulled(deliver: Callable[[Delivery], None]) -> tuple[Parser, Acks]:
    """A parser whose messages go through a pull to `deliver`, and the acks of those."""

    async def nothing(*_: object) -> None: ...

    async def identity() -> str:
        return ""

    connection = cast(Connection, Nowhere())
    acks = Acks(connection, nothing, identity, "")
    pull = Pull(connection, QUEUE, "normal", "", deliver, acks=acks, remove=nothing, restore=identity, made="")
    return Parser({b"1": pull._on_message}), acks


async def parts(count: int) -> dict[str, float]:
    """Microseconds a job, of each part by itself."""
    batches = [frames(BATCH) for _ in range(count // BATCH)]
    dropped = Parser({b"1": lambda msg: None})
    deliveries: list[Delivery] = []
    into_deliveries, acks = await pulled(deliveries.append)
    parse = _each(lambda: [dropped.feed(batch) for batch in batches], count)
    deliver = _each(lambda: [into_deliveries.feed(batch) for batch in batches], count)
    decode = _each(lambda: [noop.signature.decode(each.body) for each in deliveries], count)
    run = await _running(count)
    began = now()
    for first in range(0, count, BATCH):
        for delivery in deliveries[first : first + BATCH]:
            acks.add(delivery)
        await asyncio.sleep(0)
    acknowledge = (now() - began) / count * 1e6
    return {
        "worker: read what arrives": parse,
        "worker: make a delivery of it": deliver - parse,
        "worker: decode and check the arguments": decode,
        "worker: begin and run the function": run,
        "worker: acknowledge": acknowledge,
    }


def _each(work: Callable[[], object], count: int) -> float:
    began = now()
    work()
    return (now() - began) / count * 1e6


async def _running(count: int) -> float:
    steps, loop = EagerStarter(asyncio.get_running_loop()), asyncio.get_running_loop()
    done = loop.create_future()

    def begin(first: int) -> None:
        for number in range(first, first + BATCH):
            steps.run_eagerly(noop.fn(number, TEXT))
        if first + BATCH < count:
            loop.call_soon(begin, first + BATCH)
        else:
            done.set_result(None)

    began = now()
    loop.call_soon(begin, 0)
    await done
    steps.close()
    return (now() - began) / count * 1e6


async def whole(ground: Ground, count: int) -> dict[str, float]:
    """Microseconds of CPU time a job, of all that takes part."""
    book = ground.ledger(count)
    server = ground.server_pid
    used, own = cpu_seconds(server), time.process_time()
    await ground.store(call_of("noop", number, 0.0) for number in range(count))
    stored, own_stored = cpu_seconds(server), time.process_time()
    with ground.workers("jetq") as workers:
        (pid,) = workers.pids
        await ground.ran(book, count // 10, workers)  # without its start
        before, of_worker = cpu_seconds(server), cpu_seconds(pid)
        left = book.left
        await ground.complete(book, workers, poll=0.01)
        drained, by_worker = cpu_seconds(server), cpu_seconds(pid)
    return {
        "producer, many at once": (own_stored - own) / count * 1e6,
        "server: store": (stored - used) / count * 1e6,
        "server: hand out and remove": (drained - before) / left * 1e6,
        "worker, all in all": (by_worker - of_worker) / left * 1e6,
    }


async def main(rounds: int, count: int) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), uvloop=False)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            async with site.ground() as ground:
                measured = await whole(ground, count)
            ledger.use(Ledger(Path(directory) / "parts", count))
            measured |= await parts(count)
            inside = sum(each for name, each in measured.items() if name.startswith("worker: "))
            measured["worker: the rest: lease, policy, slots, loop"] = measured["worker, all in all"] - inside
            for name, figure in measured.items():
                figures[name].append(figure)
    print("| of a job that does nothing | us of CPU time |\n|---|---:|")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.1f} |")
    print()
    print(describe(environment(uvloop=False)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anatomy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=50_000)
    options = parser.parse_args()
    assert options.count % BATCH == 0, f"--count is a multiple of {BATCH}"
    asyncio.run(main(options.rounds, options.count))
