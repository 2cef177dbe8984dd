"""Workflows on three servers whose leader is stopped for a while, whose follower is behind, and whose leaders move
again and again, and on one server that is killed: each ends with its value, and each join runs once."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.apps.fleet import Fleet, step_down
from tests.apps.flow_load import Load
from tests.apps.harness import Harness, harness
from tests.servers import ELECTED_WITHIN, NatsCluster, NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

FLOWS = "JETQ_FLOWS"
ROUNDS = 5 if os.environ.get("JETQ_TEST_SWEEP") == "all" else 1

STOPPED_FOR = 7.0
"""Seconds. Longer than an election takes, and shorter than a client needs to notice that its server is silent."""

ENDED_WITHIN = 120.0
"""Seconds. What only the watch mends, it mends within its first turns."""


@asynccontextmanager
async def under_load(urls: list[str], directory: Path, **options: float) -> AsyncIterator[tuple[Harness, Load, Fleet]]:
    """Workflows that are stored and run meanwhile. At the end all must have ended as they should."""
    settings = {"replicas": len(urls), "publish_timeout": ELECTED_WITHIN, **options}
    async with harness(",".join(urls), directory, **settings) as h:
        with ExitStack() as stack:
            load, fleet = Load(h), Fleet(h, urls, stack, "tests.apps.step_tasks", **options)
            storing = asyncio.create_task(load.store())
            await _until_more_stored(load, 10)
            yield h, load, fleet
            load.end()
            await storing
            await load.until_ended(ENDED_WITHIN)
            await load.check(fleet.killed, leaders_changed=len(urls) > 1)
            await fleet.end()


async def _until_more_stored(load: Load, count: int) -> None:
    enough = load.stored + count
    async with asyncio.timeout(2 * ELECTED_WITHIN):
        while load.stored < enough:
            await asyncio.sleep(0.02)


async def _stop_for_a_while(node: NatsServer) -> None:
    node.pause()
    try:
        await asyncio.sleep(STOPPED_FOR)
    finally:
        node.resume()


async def _leader(cluster: NatsCluster) -> NatsServer:
    async with asyncio.timeout(ELECTED_WITHIN):
        while (leader := await asyncio.to_thread(cluster.leader, FLOWS)) is None:
            await asyncio.sleep(0.1)
    return leader


async def test_a_leader_that_was_stopped_and_goes_on_starts_no_join_early_or_twice(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """Guarantee: what a leader says that does not know yet that it is none anymore starts nothing."""
    async with under_load(cluster.urls, tmp_path) as (_, load, _):
        for _ in range(ROUNDS):
            await _stop_for_a_while(await _leader(cluster))
            await _until_more_stored(load, 20)


async def test_a_follower_that_is_behind_starts_no_join_early_or_twice(cluster: NatsCluster, tmp_path: Path) -> None:
    async with under_load(cluster.urls, tmp_path) as (_, load, _):
        for _ in range(ROUNDS):
            leader = await _leader(cluster)
            await _stop_for_a_while(next(node for node in cluster.nodes if node is not leader))
            await _until_more_stored(load, 20)


async def test_leaders_that_move_while_workers_are_killed_start_no_join_early_or_twice(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """A lease is longer than what a move of the leader takes: whoever lives keeps its jobs."""
    chance = random.Random(7)
    async with under_load(cluster.urls, tmp_path, ack_wait=10.0) as (h, load, fleet):
        moved = 0
        for _ in range(4 * ROUNDS):
            _, now = await asyncio.gather(_killing(fleet, chance), step_down(h.broker))
            moved += now
        await _until_more_stored(load, 20)
    assert moved >= 4 * ROUNDS  # of the leaders of four streams and a consumer, none of which may be there


async def _killing(fleet: Fleet, chance: random.Random) -> None:
    """Kill a worker in the course of 2.5 s."""
    before = chance.uniform(0.0, 2.0)
    await asyncio.sleep(before)
    await fleet.kill(chance.randrange(3))
    await asyncio.sleep(2.5 - before)


async def test_a_server_that_is_killed_with_all_it_has_not_written_starts_no_join_early(tmp_path: Path) -> None:
    """What a killed single server forgets may be done a second time, and is then the same."""
    server = NatsServer(tmp_path / "nats")
    try:
        async with under_load([server.url], tmp_path) as (_, load, _):
            for _ in range(2 * ROUNDS):
                server.kill()
                await asyncio.to_thread(server.start)
                await _until_more_stored(load, 20)
    finally:
        server.stop()
