"""What the tests of unique keys share."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from jetq import Jetq, Job


async def _gone(app: Jetq, id: str) -> None:
    """The job stands no more: its removal follows its result by a moment."""
    broker = await app.session.broker()
    async with asyncio.timeout(15):
        while await broker.find("default", id) is not None:
            await asyncio.sleep(0.01)


def _another(app: Jetq) -> Jetq:
    """Another app on the same namespace, as another process has one."""
    return Jetq(app.settings.servers, namespace=app.settings.namespace)


def _one_new(jobs: list[Job[Any]]) -> str:
    """The id of the one job that all of these handles are of."""
    assert Counter(job.disposition for job in jobs) == {"new": 1, "existing": len(jobs) - 1}
    (id,) = {job.id for job in jobs}
    return id
