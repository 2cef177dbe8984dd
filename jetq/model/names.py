"""What queues, namespaces, tasks and jobs may be called. Checked before any I/O: no name can reach another subject."""

from __future__ import annotations

import os
import random
import re
import time
from hashlib import blake2b

from jetq.errors import DefinitionError

__all__ = [
    "NO_KEY",
    "check_job_id",
    "check_key",
    "check_keyless_id",
    "check_namespace",
    "check_queue",
    "check_schedule",
    "check_sought_id",
    "check_task",
    "key_of",
    "key_token",
    "keyed_id",
    "new_job_id",
]

NO_KEY = "-"
"""The key token of a job without a unique key."""

_QUEUE = re.compile(r"[a-z0-9-]{1,48}")
_TASK = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_SCHEDULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SCHEDULE_LENGTH = 200
_JOB_ID = re.compile(r"[A-Za-z0-9_:-]{1,96}(~[A-Za-z0-9_:=-]{1,64})?")
_SOUGHT_ID = re.compile(r"[A-Za-z0-9_:~=-]{1,256}")
_TASK_LENGTH = 160

_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def new_job_id() -> str:
    """A fresh id: 12 hex digits of milliseconds since 1970, then 16 random ones.

    Ids sort by time because the server's subject tree stores their common prefix once. The generator is jetq's own, so
    an application that seeds `random` does not repeat ids, and it is seeded anew in a forked child.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(64):016x}"


def check_key(key: str) -> str:
    """`key`, if it may be a unique key: any text but none. Raises DefinitionError otherwise."""
    if not isinstance(key, str) or not key:
        raise DefinitionError(f"a key is a text that is not empty, not {type(key).__name__}")
    return key


def key_token(key: str) -> str:
    """`key` as one token of a subject: itself, or its hash when it is too long or has other characters.

    A hash begins with '=', which no key that stands for itself holds: two keys never share a token.
    """
    if _KEY.fullmatch(key) and key != NO_KEY:
        return key
    return "=" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def keyed_id(id: str, token: str) -> str:
    """The id of a job with the key `token`: it ends in the key, so that the id alone says where the job stands."""
    base, _, ending = id.partition("~")
    if ending and ending != token:
        raise DefinitionError(
            f"job id {id!r} ends in ~{ending}, which is not the key given",
            hint="leave that off: a job with a key gets it by itself",
        )
    return f"{base}~{token}"


def check_sought_id(id: str) -> str:
    """`id`, if a job that stands may have it, whoever stored it: it reaches no other job. Raises DefinitionError
    otherwise."""
    return _check(id, _SOUGHT_ID, "job id", "ASCII letters, digits, '_', ':', '~', '=' and '-', at most 256 characters")


def check_keyless_id(id: str) -> str:
    """`id`, if a job without a key may have it. Raises DefinitionError otherwise: by what follows its '~', which says
    the key, the job would be looked for where it does not stand."""
    if "~" in id:
        raise DefinitionError(
            f"job id {id!r} ends in a key, and this job has none",
            hint="leave off the '~' and what follows, or give the key too: .options(id=..., key=...)",
        )
    return id


def key_of(id: str) -> str:
    """The key token that a job's id ends in."""
    return id.partition("~")[2] or NO_KEY


def check_schedule(name: str) -> str:
    """`name`, if it may be a schedule's name. Raises DefinitionError otherwise."""
    allowed = f"words of ASCII letters, digits, '_' and '-' joined by dots, at most {_SCHEDULE_LENGTH} characters"
    if isinstance(name, str) and len(name) > _SCHEDULE_LENGTH:
        raise DefinitionError(f"schedule name {name[:40]!r}... has {len(name)} characters; it is {allowed}")
    return _check(name, _SCHEDULE, "schedule name", allowed)


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
