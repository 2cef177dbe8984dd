"""A workflow of very many members with a window, of which some fail, on three servers whose leaders move while workers
are killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from jetq import each
from jetq.client.app import replaced_default
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.sealer import Sealer
from jetq.errors import BrokerError
from jetq.model.workflows.plan import PAGE
from jetq.operations.workflows.handling import open_life
from tests.apps.fleet import Fleet, step_down
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.program_tasks import pick, tally
from tests.apps.sweeping import SWEEPS_ALL
from tests.servers import ELECTED_WITHIN, NatsCluster

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_000 if SWEEPS_ALL else 500)]

MEMBERS = 100_000 if SWEEPS_ALL else 3_000
WINDOW, SLOTS = 200, 20

ENDED_WITHIN = 2_400.0 if SWEEPS_ALL else 240.0
"""Seconds. A member of a worker that was killed waits for its lease to lapse."""

LEASE = 10.0
"""Seconds, more than a move of the leader takes: whoever lives keeps its jobs."""


async def test_each_member_counts_once_and_the_window_holds(cluster: NatsCluster, tmp_path: Path) -> None:
    """Guarantee: all members end, in their places, whoever dies and whatever leader moves; at no time more of them are
    stored that have not ended than the window lets."""
    settings = {"replicas": 3, "publish_timeout": ELECTED_WITHIN, "ack_wait": LEASE}
    async with harness(",".join(cluster.urls), tmp_path, **settings) as h:
        with ExitStack() as stack:
            fleet = Fleet(h, cluster.urls, stack, "tests.apps.program_tasks", concurrency=SLOTS, ack_wait=LEASE)
            with replaced_default(h.app):
                flow = await (each(pick, range(MEMBERS)).window(WINDOW).settled() | tally).adelay()
            async with _watched(h, flow) as most:
                chance = random.Random(4)
                for part in (0.3, 0.6, 0.9):
                    await _until_ended(flow, int(part * MEMBERS))
                    await asyncio.gather(fleet.kill(chance.randrange(3)), step_down(h.broker))
                values, failures = await flow.aresult(ENDED_WITHIN)
            steps = await flow.asteps()
            await fleet.end()

        broken = list(range(37, MEMBERS, 100))
        assert (values, failures) == (MEMBERS - len(broken), broken)
        assert (steps["pick"].done, steps["pick"].failed) == (values, len(broken))
        assert sorted(each.letter.id for each in await _letters(h)) == sorted(_ids(h, broken))
        assert WINDOW / 2 < most[0] <= WINDOW
        _check_runs(h)


@asynccontextmanager
async def _watched(h: Harness, flow: Workflow[Any]) -> AsyncIterator[list[int]]:
    """The most members that were stored at once and had not left a mark."""
    most = [0]
    life, _ = await open_life(h.broker, Sealer(None), flow.id)
    assert life is not None

    async def watch() -> None:
        while True:
            with suppress(BrokerError):  # while leaders move
                # First the jobs: what has no mark when they are known had none when they were asked for. A job that
                # has one stays until its worker has reported its end, or another has, if the report was lost.
                stored = [job.delivery.id.split(":") for job in await h.broker.stored_jobs(QUEUE)]
                members = {int(tokens[2]) for tokens in stored if tokens[1] == "pick"}
                ended = [await life.done("pick", page) for page in {member // PAGE for member in members}]
                most[0] = max(most[0], len(members.difference(*ended)))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _until_ended(flow: Workflow[Any], count: int) -> None:
    async with asyncio.timeout(ENDED_WITHIN):
        while True:
            step = (await flow.asteps())["pick"]
            if step.done + step.failed >= count:
                return
            await asyncio.sleep(0.1)


async def _letters(h: Harness) -> list[Any]:
    found: list[Any] = []
    while page := await h.broker.dead(QUEUE, after=found[-1].sequence if found else 0, limit=1_000):
        found += page
    return found


def _ids(h: Harness, broken: list[int]) -> list[str]:
    """The ids of the members that failed."""
    ids = {entry.n: entry.id for entry in h.ledger.entries("pick")}
    return [ids[n] for n in broken]


def _check_runs(h: Harness) -> None:
    """Each member has run, and no worker has run one twice: a new leader may not know what was just handed out."""
    runs = h.ledger.entries("pick")
    assert {entry.n for entry in runs} == set(range(MEMBERS))
    assert len({entry.id for entry in runs}) == MEMBERS
    assert len({(entry.id, entry.pid) for entry in runs}) == len(runs)
    assert len(runs) < MEMBERS * 1.1
    assert len({entry.id for entry in h.ledger.entries("tally")}) == 1
