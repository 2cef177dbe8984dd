"""Following a workflow: what became of its steps, whenever that has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from jetq.encoding.sealer import Sealer
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.handling import status, steps
from jetq.operations.workflows.life import FlowBroker

__all__ = ["follow"]

_OFTENEST, _RAREST = 0.1, 1.0
"""Seconds between two looks: longer from look to look while nothing changes."""


async def follow(broker: FlowBroker, sealer: Sealer, workflow: str) -> AsyncIterator[Mapping[str, StepView]]:
    """Yield what became of each step: as it is now, and whenever it has changed, up to the end of the workflow. Raises
    JobNotFound."""
    before, pause = None, _OFTENEST
    while True:
        state = await status(broker, sealer, workflow)  # before the steps, which then show the end
        views = await steps(broker, sealer, workflow)
        if views != before:
            before, pause = views, _OFTENEST
            yield views
        if state != "running":
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _RAREST)
