"""A refusal or an answer of a stream's leader that has not applied yet what a consumer's leader has handed out.

On three nodes that happens by itself, see tests/faults/test_cluster.py; here it is played.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import current_job
from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.streams.publisher import WrongSequence
from tests.apps.working import fresh_app, settled, working

pytestmark = pytest.mark.anyio


class Lag:
    """Has a broker's leader not know of its jobs for so many questions, and refuse their successors meanwhile."""

    def __init__(self, broker: Any, questions: int) -> None:
        self.left = questions
        self.refused = 0
        self._api, self._publisher = broker.api, broker.publisher
        self._publish, self._last = self._publisher.publish, self._api.last_message
        self._info = self._api.stream_info
        self._publisher.publish, self._api.last_message = self.publish, self.last_message
        self._api.stream_info = self.stream_info

    def _lags(self) -> bool:
        self.left -= 1
        return self.left >= 0

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None, **options: Any) -> Any:
        if headers and "Jetq-Replaces" in headers and self._lags():
            self.refused += 1
            raise WrongSequence("wrong last sequence: 0")
        return await self._publish(subject, payload, headers, **options)

    async def last_message(self, stream: str, subject: str) -> Any:
        return None if stream.endswith("_JOBS") and self._lags() else await self._last(stream, subject)

    async def stream_info(self, stream: str) -> Any:
        info = await self._info(stream)
        if stream.endswith("_JOBS") and self._lags():
            info["state"]["last_seq"] = 0
        return info


@pytest.mark.parametrize("questions", [1, 2, 3, 4, 7, 12, 30])
async def test_a_retry_is_stored_once_the_leader_has_the_job(nats_url: str, questions: int) -> None:
    app = fresh_app(nats_url)
    attempts: list[int] = []

    @app.task(name="twice", max_attempts=2, wait=0)
    async def twice() -> None:
        attempts.append(current_job().attempt)
        if current_job().attempt == 1:
            lag.left = questions
            raise ConnectionError

    broker = await app.session.broker()
    lag = Lag(broker, 0)
    async with working(app):
        await twice.adelay()
        async with asyncio.timeout(20):
            while attempts != [1, 2]:
                await asyncio.sleep(0.02)
        await settled(app)
    assert lag.refused


async def test_a_job_that_is_gone_is_not_stored_anew(nats_url: str) -> None:
    app = fresh_app(nats_url)
    attempts: list[int] = []

    @app.task(name="gone", max_attempts=2, wait=0)
    async def gone() -> None:
        attempts.append(current_job().attempt)
        broker = await app.session.broker()
        assert isinstance(broker, JetStreamBroker)
        (found,) = await broker.stored_jobs("default")
        await broker.api.delete(broker.subjects.jobs("default"), found.delivery.sequence)
        raise ConnectionError

    async with working(app):
        await gone.adelay()
        async with asyncio.timeout(20):
            while not attempts:
                await asyncio.sleep(0.02)
        await settled(app)
    assert attempts == [1]
