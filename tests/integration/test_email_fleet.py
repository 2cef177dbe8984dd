"""Mail routes that one worker leaves alone are left alone by the others: through the broker, and without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from jetq import Jetq, Records
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq_email.errors import Throttled
from jetq_email.routing import fleet as fleet_module
from jetq_email.routing.breaker import Breaker
from jetq_email.routing.fleet import FleetRoutes
from tests.apps.working import fresh_app

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a broker on a busy machine."""
    for name in ("_PATIENCE", "_TELLING"):
        monkeypatch.setattr(fleet_module, name, 20.0)


@asynccontextmanager
async def in_a_job(url: str) -> AsyncIterator[Jetq]:
    """A context in which a job of a fresh app runs."""
    app = fresh_app(url)
    job = JobContext("job1", 1, 8, "jetq_email.send_email", "email", datetime.now(UTC), None, "worker")
    token = CURRENT.set(Current(lambda: job, app))
    try:
        yield app
    finally:
        CURRENT.reset(token)
        await app.session.aclose()


async def test_what_one_worker_is_told_holds_for_all(nats_url: str) -> None:
    """Guarantee: a provider that wants a pause of one worker is left alone by the whole fleet."""
    async with in_a_job(nats_url):
        one, other = Breaker(FleetRoutes()), Breaker(FleetRoutes())
        await one.failed("postmark", Throttled("slower", after=600))
        assert 590 < await other.admit("postmark") <= 600
        assert await other.admit("smtp") == 0


async def test_the_longest_time_that_somebody_was_told_stands(nats_url: str) -> None:
    async with in_a_job(nats_url):
        routes = FleetRoutes()
        for seconds in (60, 600, 60):
            await routes.leave("postmark", seconds)
        assert 590 < await FleetRoutes().left_for("postmark") <= 600


async def test_it_ends_by_itself(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_a_job(nats_url) as app:
        routes = FleetRoutes()
        await routes.leave("postmark", 1)
        assert 0 < await routes.left_for("postmark") <= 1
        monkeypatch.setattr(fleet_module, "_FRESH", 0.0)
        async with asyncio.timeout(20):
            while await Records("jetq_email", app).aget("routes.postmark") is not None:
                await asyncio.sleep(0.05)
        assert await routes.left_for("postmark") == 0


@pytest.mark.parametrize(
    ("value", "most"), [(b"later", 2), (b"inf", 86400), (b"1e300", 86400), (b"-5", 0), (b"nan", 0)]
)
async def test_a_record_that_nobody_understands_stops_no_route_for_long(
    nats_url: str, value: bytes, most: float
) -> None:
    async with in_a_job(nats_url) as app:
        await Records("jetq_email", app).aput("routes.postmark", value)
        assert 0 <= await FleetRoutes().left_for("postmark") <= most


async def test_the_broker_is_not_asked_for_each_mail(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def aget(self: Records, key: str) -> None:
        asked.append(key)

    monkeypatch.setattr(Records, "aget", aget)
    async with in_a_job(nats_url):
        routes = FleetRoutes()
        for _ in range(100):
            assert await routes.left_for("postmark") == 0
    assert asked == ["routes.postmark"]


async def test_without_a_broker_each_worker_goes_by_what_it_knows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: no mail waits for the broker, or fails, because the fleet cannot be asked."""
    caplog.set_level(logging.DEBUG, "jetq.email")
    for name in ("_PATIENCE", "_TELLING"):
        monkeypatch.setattr(fleet_module, name, 0.1)
    async with in_a_job("nats://127.0.0.1:1"):
        breaker = Breaker(FleetRoutes())
        assert await breaker.admit("postmark") == 0
        await breaker.failed("postmark", Throttled("slower", after=600))
        assert 590 < await breaker.admit("postmark") <= 600
    assert "the fleet is not told that mail route postmark is left alone" in caplog.text


async def test_a_plain_call_asks_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in ("aget", "aput"):
        monkeypatch.setattr(Records, verb, lambda *_, **__: pytest.fail("it was asked"))
    routes = FleetRoutes()
    await routes.leave("postmark", 60)
    assert await routes.left_for("postmark") == 0
