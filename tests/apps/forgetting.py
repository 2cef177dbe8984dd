"""A server that soon forgets the ids of jobs, so that one that is stored again is stored twice."""

from __future__ import annotations

from typing import Any

from tests.apps.harness import QUEUE

__all__ = ["SUSPECTS_SOON", "WINDOW", "forget_soon"]

WINDOW = 0.2
"""Seconds for which the server knows the id of a job, in place of two minutes."""

SUSPECTS_SOON = {"JETQ_TEST_STALE": str(WINDOW / 2)}
"""What a worker's environment says, so that the worker suspects members as early as such a server forgets them."""


async def forget_soon(broker: Any) -> None:
    """Let the server know the ids of jobs for `WINDOW`."""
    stream = broker.subjects.jobs(QUEUE)
    info = await broker.api.stream_info(stream)
    changed = {**info["config"], "duplicate_window": int(WINDOW * 1e9)}
    await broker.api.request(f"STREAM.UPDATE.{stream}", changed)
