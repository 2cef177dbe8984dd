"""A chaos run: producers and workers at work, faults at random from a seed, a quiet end, and the verdict."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jetq import BrokerError, BrokerUnavailable, Jetq, NotStored, Rejected
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.faults.chaos.checker import Attempt, Disturbance, Outcome, Verdict, check
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsServer

__all__ = ["Report", "run"]

QUEUE = "chaos"

LEASE = 12.0
"""Longer than a pull takes to see that nothing comes any more (10.2 s). Else a delivery that the network holds back for
longer than the lease is stale without a sign, and runs twice."""

WORKERS = 3
PRODUCERS = 8
_CONCURRENCY = 20
_LONGEST = 8.0
"""Seconds of the longest fault."""

_QUIET_WITHIN = 150.0
_TRIES = 5

DOOMED = frozenset({"tests.apps.chaos_tasks.doomed"})


@dataclass
class Report:
    """What was done in a run, and what came of it."""

    seed: int
    jobs: int
    verdict: Verdict
    faults: Counter[str]
    seconds: float

    def text(self) -> str:
        """For people."""
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        head = f"seed {self.seed}: {self.jobs:,} jobs in {self.seconds:.0f} s; {faults}"
        return f"{head}\n{self.verdict.table()}"


@dataclass
class _Run:
    """What a run is made of. workers: the live processes, each behind a proxy of its own."""

    random: random.Random
    directory: Path
    server: NatsServer
    ledger: Ledger
    proxies: list[Proxy] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)
    ended: list[WorkerProcess] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def disturbed(self, kind: str, pid: int, since: float) -> None:
        """Note a fault that is over now."""
        self.disturbances.append(Disturbance(kind, pid, since, time.time()))


async def run(seed: int, jobs: int, directory: Path) -> Report:
    """One run of `jobs` jobs with the faults of `seed`. Takes about two minutes for 20,000."""
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    it = _Run(random.Random(seed), directory, NatsServer(directory / "nats"), Ledger(directory / "ledger"))
    try:
        await _start(it)
        producing = asyncio.create_task(_produce(it, jobs))
        disturbing = asyncio.create_task(_disturb(it))
        await producing
        disturbing.cancel()
        with suppress(asyncio.CancelledError):
            await disturbing
        verdict = await _end(it)
    finally:
        for worker in it.workers:
            worker.kill()
        for proxy in it.proxies:
            await proxy.stop()
        it.server.stop()
    return Report(seed, jobs, verdict, it.faults, time.monotonic() - began)


async def _start(it: _Run) -> None:
    app = Jetq(it.server.url, ack_wait=LEASE)
    await (await app.session.broker()).setup(QUEUE)
    await app.session.aclose()
    for _ in range(WORKERS + 1):  # the last is the producers'
        proxy = Proxy(it.server.port)
        await proxy.start()
        it.proxies.append(proxy)
    for place in range(WORKERS):
        it.workers.append(_worker(it, place))


def _worker(it: _Run, place: int) -> WorkerProcess:
    return WorkerProcess(
        it.proxies[place].url,
        it.ledger,
        concurrency=_CONCURRENCY,
        grace=2.0,
        ack_wait=LEASE,
        queue=QUEUE,
        modules="tests.apps.chaos_tasks",
    )


# --- producing


async def _produce(it: _Run, jobs: int) -> None:
    app = Jetq(it.proxies[-1].url, ack_wait=LEASE, publish_timeout=5.0)
    numbers = iter(range(jobs))

    async def produce() -> None:
        for n in numbers:
            await _store(it, app, n)
            await asyncio.sleep(it.random.uniform(0.0, 0.04))

    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    await app.session.aclose()


async def _store(it: _Run, app: Jetq, n: int) -> None:
    """Store one job, again under the same id while its fate is unknown, as an application would."""
    task, arguments = _job(it.random, n)
    id = f"chaos-{n}"
    delay = it.random.uniform(0.5, 4.0) if it.random.random() < 0.05 else 0.0
    outcome: Outcome = "rejected"
    for _ in range(_TRIES):
        try:
            call = app.call(f"tests.apps.chaos_tasks.{task}", arguments, queue=QUEUE, id=id, delay=delay)
            await app.aenqueue(call)
            outcome = "stored"
            break
        except NotStored:
            outcome = "unknown"
        except (Rejected, BrokerUnavailable):
            pass  # this time surely not
        except BrokerError:
            outcome = "unknown"
        await asyncio.sleep(0.2)
    it.attempts.append(Attempt(id, n, f"tests.apps.chaos_tasks.{task}", outcome))


def _job(chance: random.Random, n: int) -> tuple[str, dict[str, object]]:
    task = chance.choices(
        ["quick", "short", "threaded", "flaky", "doomed", "limited", "long"], weights=[50, 21.8, 10, 10, 4, 4, 0.2]
    )[0]
    arguments: dict[str, object] = {"n": n}
    if task in ("short", "threaded", "limited"):
        arguments["seconds"] = round(chance.uniform(0.0, 0.03), 3)
    if task == "long":
        task, arguments["seconds"] = "short", round(chance.uniform(1.0, 1.2 * LEASE), 1)
    return task, arguments


# --- faults


async def _disturb(it: _Run) -> None:
    """One fault after another until cancelled. Each is over, and noted, when the next begins."""
    faults: dict[str, tuple[int, Callable[[_Run], Awaitable[None]]]] = {
        "worker killed": (4, _kill_worker),
        "worker stopped in order": (3, _stop_worker),
        "worker paused": (2, _pause_worker),
        "server killed": (2, _kill_server),
        "server restarted": (2, _restart_server),
        "server paused": (1, _pause_server),
        "connections reset": (2, _reset),
        "black hole": (2, _black_hole),
        "slow network": (1, _slow),
    }
    names, weights = list(faults), [weight for weight, _ in faults.values()]
    while True:
        await asyncio.sleep(it.random.uniform(0.2, 1.0))
        name = it.random.choices(names, weights=weights)[0]
        it.faults[name] += 1
        await asyncio.shield(asyncio.ensure_future(faults[name][1](it)))


async def _kill_worker(it: _Run) -> None:
    place, since = it.random.randrange(WORKERS), time.time()
    worker = it.workers[place]
    worker.kill()
    it.disturbed("worker killed", worker.pid, since)
    it.workers[place] = _worker(it, place)


async def _stop_worker(it: _Run) -> None:
    """A deploy: what it gives back may have been handed out to it a moment before it was told."""
    place, since = it.random.randrange(WORKERS), time.time()
    worker = it.workers[place]
    worker.stop()
    it.workers[place] = _worker(it, place)
    await asyncio.to_thread(worker.wait, 30.0)
    it.disturbed("worker stopped in order", worker.pid, since)


async def _pause_worker(it: _Run) -> None:
    worker, since = it.random.choice(it.workers), time.time()
    os.kill(worker.pid, signal.SIGSTOP)
    await asyncio.sleep(it.random.uniform(0.5, _LONGEST))
    os.kill(worker.pid, signal.SIGCONT)
    it.disturbed("worker paused", worker.pid, since)


async def _kill_server(it: _Run) -> None:
    since = time.time()
    it.server.kill()
    await asyncio.sleep(it.random.uniform(0.0, 2.0))
    await asyncio.to_thread(it.server.start)
    it.disturbed("server killed", 0, since)


async def _restart_server(it: _Run) -> None:
    since = time.time()
    await asyncio.to_thread(it.server.stop)
    await asyncio.sleep(it.random.uniform(0.0, 2.0))
    await asyncio.to_thread(it.server.start)
    it.disturbed("server restarted", 0, since)


async def _pause_server(it: _Run) -> None:
    since = time.time()
    it.server.pause()
    await asyncio.sleep(it.random.uniform(0.5, _LONGEST))
    it.server.resume()
    it.disturbed("server paused", 0, since)


async def _reset(it: _Run) -> None:
    it.random.choice(it.proxies).reset()


async def _black_hole(it: _Run) -> None:
    place, since = it.random.randrange(WORKERS + 1), time.time()
    way = it.random.choice(["up", "down", "both"])
    it.proxies[place].hold(up=way != "down", down=way != "up")
    await asyncio.sleep(it.random.uniform(0.5, _LONGEST))
    it.proxies[place].heal()
    if place < WORKERS:
        it.disturbed("black hole", it.workers[place].pid, since)


async def _slow(it: _Run) -> None:
    proxy = it.random.choice(it.proxies)
    proxy.slow(delay=it.random.uniform(0.01, 0.2))
    await asyncio.sleep(it.random.uniform(0.5, 3.0))
    proxy.heal()


# --- the end


async def _end(it: _Run) -> Verdict:
    """Let everything come to rest, and look at what there is."""
    app = Jetq(it.server.url, ack_wait=LEASE)
    broker = await app.session.broker()
    deadline = time.monotonic() + _QUIET_WITHIN
    while time.monotonic() < deadline:
        info = next(info for info in await broker.queues() if info.name == QUEUE)
        if info.ready == info.running == info.scheduled == 0:
            break
        await asyncio.sleep(0.2)
    standing = {found.delivery.id for found in await broker.standing(QUEUE)}
    dead = {entry.letter.id for entry in await broker.dead(QUEUE)}
    await app.session.aclose()
    return check(
        it.attempts,
        it.ledger.entries(),
        dead=dead,
        standing=standing,
        doomed=DOOMED,
        disturbances=it.disturbances,
        lease=LEASE,
    )
