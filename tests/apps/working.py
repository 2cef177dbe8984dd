"""A worker inside the test's own event loop, on a namespace of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jetq import Jetq, Worker


def fresh_app(url: str, **keywords: Any) -> Jetq:
    """An app whose namespace nobody else uses."""
    return Jetq(url, namespace=f"t{uuid.uuid4().hex[:12]}", **keywords)


@asynccontextmanager
async def working(app: Jetq, **options: Any) -> AsyncIterator[Worker]:
    """A running worker of `app`; it is stopped in order at the end, and its errors are the test's."""
    worker = Worker(app, **options)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running
        await app.session.aclose()
