"""The types of functions of an app that its workers call around jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jetq.model.job_context import JobContext

__all__ = ["ExpiredHook", "Middleware"]

Middleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async (job, call_next) -> value`: runs around each attempt, and may observe, wrap and raise. The value that a
middleware returns is the job's result. An exception that a middleware raises fails the attempt, like the task's own
exceptions."""

ExpiredHook = Callable[[JobContext], Awaitable[None]]
"""`async (job) -> None`: runs before a job that was not started in time is removed. An exception that the hook raises
is logged, and the job is removed all the same."""
