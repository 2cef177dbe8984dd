"""Functions of an app that its workers call around its jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jetq.model.job_context import JobContext

__all__ = ["ExpiredHook", "Middleware"]

Middleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async (job, call_next) -> value`: runs around each attempt, and may observe, wrap and raise. What it returns is the
job's result; what it raises fails the attempt like the task's own exceptions."""

ExpiredHook = Callable[[JobContext], Awaitable[None]]
"""`async (job) -> None`: called before a job that was not started in time is removed. What it raises is logged, and the
job is removed all the same."""
