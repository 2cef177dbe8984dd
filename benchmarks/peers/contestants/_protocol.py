"""What every contestant speaks: a few commands, and one line of JSON in answer. Standard library only.

    python with_x.py enqueue      --url U --count N --callers 100   store N jobs, that many callers at a time
    python with_x.py enqueue-one  --url U --count N                 store N jobs, one after the other
    python with_x.py drain        --url U --count N --slots 100     run N jobs that are stored already
    python with_x.py latency      --url U --count N                 how long a job waits for an idle worker

`--job loop` stands for a coroutine function, `--job threads` for a plain one. A job carries its number, the time at
which it was sent, and 130 bytes. Rates are jobs per second, times seconds. Event loops are uvloop's where it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

BODY = "x" * 130
WARM_UP = 5
"""Jobs of `latency` that do not count: the first ones open connections."""
PATIENCE = 20.0
"""Seconds without a run after which the jobs that are missing count as lost."""
GRACE = 0.3
"""Seconds after the last job in which a second run of one would show."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    command: str
    url: str
    count: int
    callers: int
    slots: int
    job: str


Store = Callable[[int, float], Awaitable[object]]
SyncStore = Callable[[int, float], object]
Producer = Callable[[Options], AbstractAsyncContextManager[Store]]
SyncProducer = Callable[[Options], AbstractContextManager[SyncStore]]
Work = Callable[[Options, Callable[[], Awaitable[None]]], Awaitable[None]]
SyncWork = Callable[[Options, Callable[[], None]], None]


class Ledger:
    """Who ran how often, and when. Made for one worker process and any number of its threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = bytearray(count)
        self.waits: list[float] = []
        self.first = self.last = 0.0

    def note(self, number: int, sent: float) -> None:
        """A job starts."""
        now = time.monotonic()
        self.first = self.first or now
        self.seen[number] += 1
        self.waits.append(now - sent)  # one bytecode, so that its length is the count of runs in threads too
        if not self.last and len(self.waits) >= self.count:
            self.last = now

    def pauses(self) -> Iterator[float]:
        """Seconds to sleep, again and again, until all jobs ran or none has for `PATIENCE`."""
        runs, since = 0, time.monotonic()
        while not self.last and time.monotonic() - since < PATIENCE:
            if len(self.waits) > runs:
                runs, since = len(self.waits), time.monotonic()
            yield 0.005
        yield GRACE

    def summary(self) -> dict[str, int]:
        """Jobs and runs, and where they differ."""
        distinct = self.count - self.seen.count(0)
        runs = len(self.waits)
        return {"jobs": self.count, "runs": runs, "doubled": runs - distinct, "lost": self.count - distinct}

    def rate(self) -> float:
        """Jobs per second from the start of the first to the start of the last one."""
        return (self.count - 1) / (self.last - self.first) if self.last > self.first else 0.0


ledger = Ledger(0)


def note(number: int, sent: float) -> None:
    """What every job does."""
    ledger.note(number, sent)


def run(
    *,
    producer: Producer | None = None,
    work: Work | None = None,
    sync_producer: SyncProducer | None = None,
    sync_work: SyncWork | None = None,
) -> None:
    """Do what the command line asks for, and print the answer.

    A producer is a context that gives a function to store one job; `work` runs a worker until what it is given returns.
    Where there is a choice, jobs of threads are stored from threads.
    """
    options = _options()
    sync = producer is None or (options.job == "threads" and sync_producer is not None)
    if options.command in ("enqueue", "enqueue-one", "send"):
        answer = _store_in_threads(options, sync_producer) if sync else _on_loop(_store(options, producer))
    elif work is not None:
        answer = _on_loop(_work(options, work))
    else:
        answer = _work_in_threads(options, sync_work)
    print(json.dumps(answer), flush=True)


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["enqueue", "enqueue-one", "drain", "latency", "send"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--job", choices=["loop", "threads"], default="loop")
    found = Options(**vars(parser.parse_args()))
    if found.command == "enqueue-one":
        return Options(**{**vars(found), "callers": 1})
    return found


def _on_loop(main: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    factory = importlib.import_module("uvloop").new_event_loop if has_uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _gaps(options: Options) -> Iterator[float]:
    """Seconds between the jobs of `send`: long enough for idleness, and never in step with anybody's polling."""
    chance = random.Random(options.count)
    return (0.02 + 0.02 * chance.random() for _ in range(options.count))


async def _store(options: Options, producer: Producer) -> dict[str, Any]:
    async with producer(options) as store:
        if options.command == "send":
            for number, gap in enumerate(_gaps(options)):
                await store(number, time.monotonic())
                await asyncio.sleep(gap)
            return {}
        left = iter(range(options.count))

        async def caller() -> None:
            for number in left:
                await store(number, time.monotonic())

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(options.callers)))
        return {"rate": options.count / (time.perf_counter() - began)}


def _store_in_threads(options: Options, producer: SyncProducer) -> dict[str, Any]:
    with producer(options) as store:
        if options.command == "send":
            for number, gap in enumerate(_gaps(options)):
                store(number, time.monotonic())
                time.sleep(gap)
            return {}
        left = iter(range(options.count))
        failures: list[BaseException] = []

        def caller() -> None:
            try:
                for number in left:
                    store(number, time.monotonic())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=caller) for _ in range(options.callers)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        if failures:
            raise failures[0]
        return {"rate": options.count / took}


async def _work(options: Options, work: Work) -> dict[str, Any]:
    _open_ledger(options)

    async def until() -> None:
        for pause in _watching(options):
            await asyncio.sleep(pause)

    await work(options, until)
    return _answer(options)


def _work_in_threads(options: Options, work: SyncWork) -> dict[str, Any]:
    _open_ledger(options)

    def until() -> None:
        for pause in _watching(options):
            time.sleep(pause)

    work(options, until)
    return _answer(options)


def _open_ledger(options: Options) -> None:
    global ledger
    ledger = Ledger(options.count + (WARM_UP if options.command == "latency" else 0))


def _watching(options: Options) -> Iterator[float]:
    """Seconds to sleep until the command is done; jobs for `latency` come from a process of their own."""
    if options.command != "latency":
        yield from ledger.pauses()
        return
    yield 1.0  # the worker is up and idle
    command = [sys.executable, sys.argv[0], "send", "--url", options.url, "--count", str(ledger.count)]
    sender = subprocess.Popen([*command, "--job", options.job], stdout=subprocess.DEVNULL)
    yield from ledger.pauses()
    if sender.wait(PATIENCE):
        raise SystemExit("the sender failed")


def _answer(options: Options) -> dict[str, Any]:
    if options.command != "latency":
        return {"rate": ledger.rate(), "ledger": ledger.summary()}
    waits = sorted(ledger.waits[WARM_UP:])
    if len(waits) < 2:
        return {"ledger": ledger.summary()}
    return {"p50": statistics.median(waits), "p99": waits[int(0.99 * (len(waits) - 1))], "ledger": ledger.summary()}
