"""Tells whether a coroutine ends because Python tears it down."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["is_torn_down"]


def is_torn_down(task: asyncio.Task[Any] | None = None) -> bool:
    """Return whether a GeneratorExit that was just caught comes from Python, which closes the coroutine.

    False means that some code has raised the GeneratorExit. In a coroutine that Python closes, nothing can be awaited
    any more.

    task: the task that ran the coroutine; None if the caller does not know the task.
    """
    try:
        running = asyncio.current_task()
    except RuntimeError:
        return True
    return running is None if task is None else running is not task
