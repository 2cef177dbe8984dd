"""An outcome is spent step by step, and a step that has held is not repeated with those that have not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jetq.client.task import Task
from jetq.errors import Rejected
from jetq.memory import MemoryBroker
from jetq.model.definitions.options import TaskOptions
from jetq.model.failure import Failure
from jetq.model.job import Delivery, JobRecord, Meta
from jetq.model.outcome import Dead
from jetq.testing.faulty import Points, faulty, raising
from jetq.worker.attempt import Attempt
from jetq.worker.attempts import settlement
from jetq.worker.attempts.settlement import EndsMembers, Settlement
from jetq.worker.leases import Leases

pytestmark = pytest.mark.anyio


class Held:
    """Leases that hold for ever."""

    def valid(self, delivery: Delivery) -> bool:
        return True

    def bound(self, delivery: Delivery) -> asyncio.Timeout:
        return asyncio.timeout(None)

    def unbound(self, bound: asyncio.Timeout) -> None:
        pass

    def drop(self, delivery: Delivery) -> None:
        pass


async def test_a_letter_that_is_stored_is_not_stored_again_while_its_result_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guarantee: one letter, also when that goes on for longer than the broker knows repeats by their id."""
    monkeypatch.setattr(settlement, "FIRST_BACKOFF", 0.001)
    no_room = raising(lambda: Rejected("no room"), ["put_result"], times=3)
    seen: list[str] = []
    calls = Points(["store_dead", "put_result"], lambda _, where: seen.append(where))
    broker = faulty(MemoryBroker(), [no_room, calls])
    got: list[Delivery] = []
    await broker.enqueue(JobRecord(id="job", task="tasks.f", queue="email", body=b"{}"))
    feed = await broker.feed("email", got.append)
    feed.ask(1)
    await feed.stop()
    attempt = Attempt(got[0])
    attempt.task, attempt.meta = cast("Task[..., Any]", SimpleNamespace(declared=TaskOptions())), Meta(result_ttl=60.0)
    spent = Settlement(broker, cast(Leases, Held()), "w", cast(EndsMembers, None))

    assert await spent.settle(attempt, Dead(reason="failed", failure=Failure(type="E", message="no good")))

    assert (seen.count("before put_result"), seen.count("before store_dead")) == (4, 1)
    assert len(await broker.dead("email")) == 1
    assert await broker.find("email", "job") is None
