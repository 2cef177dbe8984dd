"""Facts about nats-server that jetq's design rests on. When one of these fails, a newer server has changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

Remove = Callable[[Client, JetStreamContext], Awaitable[Any]]


async def _purge(client: Client, js: JetStreamContext) -> None:
    await client.request("$JS.API.STREAM.PURGE.X", b'{"filter":"x.4"}', timeout=3)


async def _rollup(client: Client, js: JetStreamContext) -> None:
    await js.publish("x.4", b"again", headers={"Nats-Rollup": "sub"})


async def _delete(client: Client, js: JetStreamContext) -> None:
    await client.request("$JS.API.STREAM.MSG.DELETE.X", b'{"seq":4,"no_erase":true}', timeout=3)


async def _expire(client: Client, js: JetStreamContext) -> None:
    while (await js.stream_info("X")).state.messages == 4:
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("remove", "redelivered", "lease"),
    [
        (_purge, set[str](), 1.5),
        (_rollup, set[str](), 1.5),
        (_delete, {"x.1", "x.2", "x.3"}, 1.5),
        (_expire, {"x.1", "x.2", "x.3"}, 3.0),
    ],
    ids=["purge", "rollup", "delete", "expire"],
)
async def test_only_a_removal_by_sequence_or_time_leaves_other_deliveries_alone(
    remove: Remove, redelivered: set[str], lease: float, nats_server: NatsServerFactory
) -> None:
    """Four messages are handed out, the last is removed, a fifth is handed out and acked; then the leases lapse. After
    a purge or rollup the other three never come back: they stay stored, and no worker gets them (nats-server 2.15.1).
    """
    for patience in (1, 4, 16):  # a lease that lapses before the removal, on a busy machine, says nothing
        client = await nats.connect(nats_server().url)
        try:
            back = await _redelivered_after(remove, lease * patience, client)
        finally:
            await client.close()
        if back is not None:
            break
    assert back == redelivered


async def _redelivered_after(remove: Remove, lease: float, client: Client) -> set[str] | None:
    """Return the subjects that come back; None if the leases lapsed before all was done."""
    js = client.jetstream()
    stream = {"name": "X", "subjects": ["x.>"], "retention": "workqueue", "allow_rollup_hdrs": True}
    stream["allow_msg_ttl"] = True
    await client.request("$JS.API.STREAM.CREATE.X", json.dumps(stream).encode(), timeout=3)
    ack_wait = int(lease * 1e9)
    config = {"durable_name": "c", "ack_policy": "explicit", "ack_wait": ack_wait, "filter_subjects": ["x.>"]}
    create = {"stream_name": "X", "config": config, "action": "create"}
    await client.request("$JS.API.CONSUMER.CREATE.X.c", json.dumps(create).encode(), timeout=3)
    for n in range(1, 5):
        headers = {"Nats-TTL": "1s"} if n == 4 and remove is _expire else None
        await js.publish(f"x.{n}", b"", headers=headers)
    pull = await js.pull_subscribe("", durable="c", stream="X")
    handed_out = time.monotonic()
    assert len(await pull.fetch(4, timeout=3)) == 4

    await remove(client, js)
    await js.publish("x.5", b"")
    while True:  # the rolled-up message comes first
        (msg,) = await pull.fetch(1, timeout=3)
        await msg.ack_sync()
        if msg.subject == "x.5":
            break
    if time.monotonic() > handed_out + lease:
        return None

    await asyncio.sleep(lease + 0.1)
    back: set[str] = set()
    try:
        while len(back) < 3:
            back |= {msg.subject for msg in await pull.fetch(10, timeout=0.6)}
    except TimeoutError:
        pass
    assert (await js.stream_info("X")).state.messages == 3
    return back
