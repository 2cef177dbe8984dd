"""Many large jobs for one worker: a server hangs up on who has not taken 64 MiB."""

from __future__ import annotations

import time

import pytest

from tests.apps.working import fresh_app, until, working
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


async def test_a_job_larger_than_what_is_asked_for_at_once_is_had_alone(nats_server: NatsServerFactory) -> None:
    app = fresh_app(nats_server("max_payload: 64MB").url)
    ran: list[int] = []

    @app.task(name="big")
    async def big(data: str) -> None:
        ran.append(len(data))

    sizes = [1, 20_000_000, 2, 20_000_001, 20_000_002, 3]
    for size in sizes:
        await big.adelay("x" * size)
    async with working(app, concurrency=10):
        await until(lambda: len(ran) >= len(sizes), 60.0)
    assert sorted(ran) == sorted(sizes)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_worker_that_is_busy_while_a_hundred_large_jobs_come_keeps_its_connection(nats_url: str) -> None:
    """Guarantee: no more bytes are asked for at once than a blocked worker may leave unread."""
    app = fresh_app(nats_url, ack_wait=30.0)
    ran: list[int] = []
    lost: list[bool] = []

    @app.task(name="big")
    async def big(data: str) -> None:
        if not ran:
            time.sleep(3.0)  # the loop, so nothing is read
        ran.append(len(data))

    for _ in range(120):
        await big.adelay("x" * 1_000_000)
    broker = await app.session.broker()
    async with working(app, concurrency=100):
        broker.connection.on_down(lambda: lost.append(True))  # type: ignore[attr-defined]
        await until(lambda: len(ran) >= 120, 60.0)
    assert not lost
    assert len(ran) == 120
