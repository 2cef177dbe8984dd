"""A chaos run: producers and workers at work, faults at random from a seed, a quiet end, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import nats.errors
import nats.js.errors

from jetq import BrokerError
from jetq.broker import Broker
from tests.apps.noting import digest
from tests.faults.chaos.checker import Letter, Verdict, check
from tests.faults.chaos.faults import POISONED, menu
from tests.faults.chaos.hostile import HOSTILE
from tests.faults.chaos.producers import produce
from tests.faults.chaos.scene import LEASE, QUEUES, Scene

__all__ = ["Report", "run"]

_QUIET_WITHIN = 150.0
_LEFT_FOR = 5.0
"""Seconds for which only such jobs stand, and none runs, that have ended."""

_IN_VAIN = (OSError, nats.errors.Error, nats.js.errors.Error)
"""The broker was not up to a fault just then."""

DOOMED = frozenset({"tests.apps.chaos_tasks.doomed", "tests.apps.chaos_tasks.big_doomed", POISONED, HOSTILE})


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
        await produce(scene, jobs)
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


# --- the end


async def _end(scene: Scene) -> Verdict:
    """Let everything come to rest, and look at what there is."""
    app = scene.app()
    broker = await app.session.broker()
    deadline = time.monotonic() + _QUIET_WITHIN
    busy = time.monotonic()
    while (now := time.monotonic()) < deadline and now - busy < _LEFT_FOR:
        with suppress(BrokerError):
            infos = await broker.queues()
            if all(info.ready == info.running == info.scheduled == 0 for info in infos):
                break
            if any(info.running for info in infos) or not await _is_left(scene, broker):
                busy = time.monotonic()
        await asyncio.sleep(0.2)
    for name in ("attempts", "repeats", "disturbances"):
        (scene.directory / f"{name}.json").write_bytes(msgspec.json.encode(getattr(scene, name)))
    standing = {found.delivery.id for queue in QUEUES for found in await broker.stored_jobs(queue)}
    dead = await _dead(scene, broker)
    await app.session.aclose()
    return check(
        scene.attempts,
        scene.repeats,
        scene.ledger.entries(),
        dead=dead,
        standing=standing,
        doomed=DOOMED,
        disturbances=scene.disturbances,
        lease=LEASE,
    )


async def _is_left(scene: Scene, broker: Broker) -> bool:
    """Whether all that stands has ended: a killed server forgot that, and does not hand it out again."""
    ended = {entry.id for entry in scene.ledger.entries("finish")} | set(await _dead(scene, broker))
    return all([found.delivery.id in ended for queue in QUEUES for found in await broker.stored_jobs(queue)])


async def _dead(scene: Scene, broker: Broker) -> Mapping[str, Letter]:
    """The dead letters by the ids of their jobs."""
    big = {attempt.id for attempt in scene.attempts if attempt.digest is not None}
    dead: dict[str, Letter] = {}
    for queue in QUEUES:
        for entry in await broker.dead(queue):
            id = entry.letter.id
            data = digest(msgspec.json.decode(entry.body)["data"]) if id in big else None
            dead.setdefault(id, Letter(entry.letter.at, data))  # the first of each
    return dead
