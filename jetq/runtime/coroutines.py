"""The end of a coroutine from outside."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["is_torn_down"]


def is_torn_down(task: asyncio.Task[Any] | None = None) -> bool:
    """Return whether a GeneratorExit is the end of its coroutine, which `task` ran, and not somebody's who raises it:
    nothing can be awaited any more then."""
    try:
        running = asyncio.current_task()
    except RuntimeError:
        return True
    return running is None if task is None else running is not task
