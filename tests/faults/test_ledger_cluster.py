"""The ledger on three servers, whose leader dies while many write to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

import pytest

from jetq.broker import Broker
from jetq.errors import NotStored
from jetq.jetstream import connect_broker
from jetq.model.cell import NewEntry
from jetq.settings import Settings
from tests.servers import ELECTED_WITHIN, NatsCluster, NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@asynccontextmanager
async def brokers(cluster: NatsCluster, namespace: str) -> AsyncIterator[list[Broker]]:
    """A broker for each node, which goes to the others when that is gone."""
    made: list[Broker] = []
    for place in range(3):
        urls = cluster.urls[place:] + cluster.urls[:place]
        settings = Settings(
            servers=tuple(urls),
            namespace=namespace,
            replicas=3,
            publish_timeout=ELECTED_WITHIN,
            connect_timeout=ELECTED_WITHIN,
        )
        made.append(await connect_broker(settings, name="tests"))
    try:
        yield made
    finally:
        for broker in made:
            await broker.close()


async def leader_of(cluster: NatsCluster, namespace: str) -> NatsServer:
    leader = await asyncio.to_thread(cluster.leader, f"{namespace.upper()}_JETQ_FLOWS")
    assert leader is not None
    return leader


async def test_of_each_member_one_end_stands_when_the_leader_dies(cluster: NatsCluster) -> None:
    """Guarantee: who was told a sequence finds that entry, and nobody else wrote one in its place."""
    namespace = f"t{token_hex(4)}"
    async with brokers(cluster, namespace) as (one, two, three):
        await one.setup_ledger()
        told: dict[int, list[int]] = {}
        going = True

        async def write(broker: Broker, i: int, end: str) -> None:
            mark = NewEntry(f"flow.a.mark.n.0.{i}.{end}", b"", expected=0, on=f"flow.a.mark.n.0.{i}.*")
            try:
                if end == "bad":
                    sequence = await broker.write_entries([NewEntry(f"flow.a.size.{i}", b""), mark])
                else:
                    sequence = await broker.write_entry(mark.name, b"", expected=0, on=mark.on)
            except NotStored:
                return
            told.setdefault(i, []).extend(() if sequence is None else (sequence,))

        async def write_all(first: int) -> None:
            i = first
            while going:
                await asyncio.gather(write(one, i, "ok"), write(two, i, "bad"), write(three, i, "ok"))
                i += 10

        writing = [asyncio.create_task(write_all(first)) for first in range(10)]
        async with asyncio.timeout(ELECTED_WITHIN * 2):
            while len(told) < 50:
                await asyncio.sleep(0.02)
            leader = await leader_of(cluster, namespace)
            leader.kill()
            before = len(told)
            while len(told) < before + 200:
                await asyncio.sleep(0.02)
            going = False
            await asyncio.gather(*writing)
            await asyncio.to_thread(leader.start)
            await asyncio.to_thread(cluster.wait)
        for i, sequences in told.items():
            standing = (await one.standing_entries(f"flow.a.mark.n.0.{i}.*")).names
            assert len(standing) == 1, (i, standing, sequences)
            entry = await one.read_entry(standing[0], surely=True)
            assert entry is not None
            assert sequences in ([], [entry.sequence]), i
            if standing[0].endswith(".bad"):
                assert await one.read_entry(f"flow.a.size.{i}", surely=True) is not None
