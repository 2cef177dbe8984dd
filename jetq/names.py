"""What queues, namespaces, tasks and jobs may be called. Checked before any I/O: no name can reach another subject."""

from __future__ import annotations

import os
import random
import re
import time

from jetq.errors import DefinitionError

__all__ = ["NO_KEY", "check_job_id", "check_namespace", "check_queue", "check_task", "new_job_id"]

NO_KEY = "-"
"""The key token of a job without a unique key."""

_QUEUE = re.compile(r"[a-z0-9-]{1,48}")
_TASK = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_JOB_ID = re.compile(r"[A-Za-z0-9_:-]{1,96}")
_TASK_LENGTH = 160

_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def new_job_id() -> str:
    """A fresh id: 12 hex digits of milliseconds since 1970, then 16 random ones.

    Ids sort by time because the server's subject tree stores their common prefix once. The generator is jetq's own, so
    an application that seeds `random` does not repeat ids, and it is seeded anew in a forked child.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(64):016x}"


def check_queue(name: str) -> str:
    """`name`, if it may be a queue. Raises DefinitionError otherwise."""
    return _check(name, _QUEUE, "queue", "lower-case letters, digits and '-', at most 48 characters")


def check_namespace(name: str) -> str:
    """`name`, if it may be a namespace. Raises DefinitionError otherwise."""
    return _check(name, _QUEUE, "namespace", "lower-case letters, digits and '-', at most 48 characters")


def check_task(name: str) -> str:
    """`name`, if it may be a task's name. Raises DefinitionError otherwise."""
    allowed = f"words of ASCII letters, digits, '_' and '-' joined by dots, at most {_TASK_LENGTH} characters"
    if isinstance(name, str) and len(name) > _TASK_LENGTH:
        raise DefinitionError(f"task name {name[:40]!r}... has {len(name)} characters; a task name is {allowed}")
    return _check(name, _TASK, "task name", allowed)


def check_job_id(id: str) -> str:
    """`id`, if it may be a job's id. Raises DefinitionError otherwise."""
    return _check(id, _JOB_ID, "job id", "ASCII letters, digits, '_', ':' and '-', at most 96 characters")


def _check(name: str, pattern: re.Pattern[str], what: str, allowed: str) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise DefinitionError(f"{what} {name!r} is not allowed; a {what} is {allowed}")
    return name
