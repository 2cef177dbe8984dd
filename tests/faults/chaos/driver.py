"""A chaos run: producers and workers at work, faults at random from a seed, a quiet end, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import nats.errors
import nats.js.errors

from jetq import BrokerError, BrokerUnavailable, Jetq, NotStored, Rejected
from tests.faults.chaos.checker import Attempt, Outcome, Verdict, check
from tests.faults.chaos.faults import POISONED, menu
from tests.faults.chaos.hostile import HOSTILE
from tests.faults.chaos.scene import LEASE, QUEUE, Scene

__all__ = ["Report", "run"]

PRODUCERS = 8
_QUIET_WITHIN = 150.0
_TRIES = 5
_IN_VAIN = (OSError, nats.errors.Error, nats.js.errors.Error)
"""The broker was not up to a fault just then."""

_PAUSE = 0.08
"""Seconds at most between two jobs of a producer: about 200 jobs a second in all, and some sixty faults to 20,000."""

DOOMED = frozenset({"tests.apps.chaos_tasks.doomed", POISONED, HOSTILE})


@dataclass
class Report:
    """What was done in a run, and what came of it."""

    seed: int
    nodes: int
    jobs: int
    verdict: Verdict
    faults: Counter[str]
    seconds: float

    def text(self) -> str:
        """For people."""
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        where = "one node" if self.nodes == 1 else f"{self.nodes} nodes"
        head = f"seed {self.seed}, {where}: {self.jobs:,} jobs in {self.seconds:.0f} s; {faults}"
        return f"{head}\n{self.verdict.table()}"


async def run(seed: int, jobs: int, directory: Path, *, nodes: int = 1) -> Report:
    """One run of `jobs` jobs with the faults of `seed`. Takes about two minutes for 20,000."""
    began = time.monotonic()
    async with Scene.open(seed, nodes, directory) as scene:
        disturbing = asyncio.create_task(_disturb(scene))
        await _produce(scene, jobs)
        disturbing.cancel()
        with suppress(asyncio.CancelledError):
            await disturbing
        verdict = await _end(scene)
    return Report(seed, nodes, jobs, verdict, scene.faults, time.monotonic() - began)


async def _disturb(scene: Scene) -> None:
    """One fault after another until cancelled; the last one is brought to its end."""
    faults = menu(len(scene.nodes))
    weights = [weight for weight, _ in faults.values()]
    while True:
        await asyncio.sleep(scene.random.uniform(0.2, 1.0))
        name = scene.random.choices(list(faults), weights=weights)[0]
        scene.faults[name] += 1
        fault = asyncio.ensure_future(faults[name][1](scene))
        try:
            await asyncio.shield(fault)
        except _IN_VAIN:
            scene.faults[f"{name} in vain"] += 1
        except asyncio.CancelledError:
            with suppress(*_IN_VAIN):
                await fault
            raise


# --- producing


async def _produce(scene: Scene, jobs: int) -> None:
    app = scene.app(scene.links[-1].urls)
    numbers = iter(range(jobs))

    async def produce() -> None:
        for n in numbers:
            await _store(scene, app, n)
            await asyncio.sleep(scene.random.uniform(0.0, _PAUSE))

    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    await app.session.aclose()


async def _store(scene: Scene, app: Jetq, n: int) -> None:
    """Store one job, again under the same id while its fate is unknown, as an application would."""
    task, arguments = _job(scene.random, n)
    id = f"chaos-{n}"
    delay = scene.random.uniform(0.5, 4.0) if scene.random.random() < 0.05 else 0.0
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
    scene.attempts.append(Attempt(id, n, f"tests.apps.chaos_tasks.{task}", outcome))


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


# --- the end


async def _end(scene: Scene) -> Verdict:
    """Let everything come to rest, and look at what there is."""
    app = scene.app()
    broker = await app.session.broker()
    deadline = time.monotonic() + _QUIET_WITHIN
    while time.monotonic() < deadline:
        with suppress(BrokerError):
            info = next(info for info in await broker.queues() if info.name == QUEUE)
            if info.ready == info.running == info.scheduled == 0:
                break
        await asyncio.sleep(0.2)
    (scene.directory / "disturbances.json").write_bytes(msgspec.json.encode(scene.disturbances))
    standing = {found.delivery.id for found in await broker.standing(QUEUE)}
    dead = {entry.letter.id for entry in await broker.dead(QUEUE)}
    await app.session.aclose()
    return check(
        scene.attempts,
        scene.ledger.entries(),
        dead=dead,
        standing=standing,
        doomed=DOOMED,
        disturbances=scene.disturbances,
        lease=LEASE,
    )
