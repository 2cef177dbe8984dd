"""Rules for the names of queues, namespaces, tasks, schedules, keys and jobs.

Names are checked before any I/O, so that no name can reach a subject of another thing.
"""

from __future__ import annotations

import os
import random
import re
import time
from hashlib import blake2b

from jetq.errors import DefinitionError

__all__ = [
    "LONGEST_ID",
    "NO_KEY",
    "check_job_id",
    "check_key",
    "check_keyless_id",
    "check_namespace",
    "check_queue",
    "check_schedule",
    "check_sought_id",
    "check_task",
    "check_workflow_id",
    "is_of_member",
    "key_of",
    "key_token",
    "keyed_id",
    "life_began",
    "new_job_id",
    "new_life",
]

LONGEST_ID = 96
"""The most characters of an id of a job or a workflow that is given or made, without a key."""

NO_KEY = "-"
"""The key token of a job without a unique key."""

_QUEUE = re.compile(r"[a-z0-9-]{1,48}")
_TASK = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_SCHEDULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SCHEDULE_LENGTH = 200
_JOB_ID = re.compile(r"[A-Za-z0-9_:-]{1,96}(~[A-Za-z0-9_:=-]{1,64})?")
_SOUGHT_ID = re.compile(r"[A-Za-z0-9_:~=-]{1,256}")
_MEMBER_ID = re.compile(r"[0-9a-z]{14}:[^:]+:[0-9]+")
_TASK_LENGTH = 160

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def new_job_id() -> str:
    """Return a fresh id: 12 hex digits of the milliseconds since 1970, then 16 random hex digits.

    Ids sort by time, because the server's subject tree stores a common prefix once. jetq has a random generator of its
    own, so that an application that seeds `random` does not repeat ids. A forked child seeds this generator anew.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(64):016x}"


def new_life() -> str:
    """Return a fresh name of a life: 10 digits of the microseconds since 1970, then 4 random digits, all of base 36.

    As ids do, the names sort by time. Two that are made in one microsecond differ but once in 1.7 million times.
    """
    digits, rest = "", (time.time_ns() // 1_000) * 36**4 + _random.randrange(36**4)
    for _ in range(14):
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return digits


def check_key(key: str) -> str:
    """Return `key` if it may be a unique key: any text that is not empty. Raises DefinitionError otherwise."""
    if not isinstance(key, str) or not key:
        raise DefinitionError(f"a key is a text that is not empty, not {type(key).__name__}")
    return key


def key_token(key: str) -> str:
    """Return `key` as one token of a subject: `key` itself, or its hash if `key` is too long or has other characters.

    A hash begins with '=', and a key that is its own token has no '=', so two keys never share a token.
    """
    if _KEY.fullmatch(key) and key != NO_KEY:
        return key
    return "=" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def keyed_id(id: str, token: str) -> str:
    """Return the id of a job with the key `token`. The id ends in the key, so that it alone tells the job's subject.

    Raises DefinitionError if `id` ends in another key.
    """
    base, _, ending = id.partition("~")
    if ending and ending != token:
        raise DefinitionError(
            f"job id {id!r} ends in ~{ending}, which is not the key given",
            hint="leave that off: a job with a key gets it by itself",
        )
    return f"{base}~{token}"


def check_sought_id(id: str) -> str:
    """Return `id` if a stored job of any producer may have it. Raises DefinitionError otherwise.

    An id that passes reaches no other job.
    """
    return _check(id, _SOUGHT_ID, "job id", "ASCII letters, digits, '_', ':', '~', '=' and '-', at most 256 characters")


def check_workflow_id(id: str) -> str:
    """Return `id` if a stored workflow may have it: an id that was given, or one that was made of a key. Raises
    DefinitionError otherwise."""
    return _check(
        id, _SOUGHT_ID, "workflow id", "ASCII letters, digits, '_', ':', '~', '=' and '-', at most 256 characters"
    )


def is_of_member(id: str) -> bool:
    """Return whether a job's id looks like that of a member of a workflow: life, step and number."""
    return _MEMBER_ID.fullmatch(id) is not None


def life_began(life: str) -> float | None:
    """Return when the name of a life was made, in unix seconds; None for what is no such name."""
    try:
        return int(life[:10], 36) / 1_000_000
    except ValueError:
        return None


def check_keyless_id(id: str) -> str:
    """Return `id` if a job without a key may have it. Raises DefinitionError if `id` has a '~'.

    What follows the '~' is the key, so jetq would look for the job at a subject of that key and not find it.
    """
    if "~" in id:
        raise DefinitionError(
            f"job id {id!r} ends in a key, and this job has none",
            hint="leave off the '~' and what follows, or give the key too: .options(id=..., key=...)",
        )
    return id


def key_of(id: str) -> str:
    """Return the key token in which a job's id ends; `NO_KEY` for an id without a key."""
    return id.partition("~")[2] or NO_KEY


def check_schedule(name: str) -> str:
    """Return `name` if it may be a schedule's name. Raises DefinitionError otherwise."""
    allowed = f"words of ASCII letters, digits, '_' and '-' joined by dots, at most {_SCHEDULE_LENGTH} characters"
    if isinstance(name, str) and len(name) > _SCHEDULE_LENGTH:
        raise DefinitionError(f"schedule name {name[:40]!r}... has {len(name)} characters; it is {allowed}")
    return _check(name, _SCHEDULE, "schedule name", allowed)


def check_queue(name: str) -> str:
    """Return `name` if it may be a queue's name. Raises DefinitionError otherwise."""
    return _check(name, _QUEUE, "queue", "lower-case letters, digits and '-', at most 48 characters")


def check_namespace(name: str) -> str:
    """Return `name` if it may be a namespace. Raises DefinitionError otherwise."""
    return _check(name, _QUEUE, "namespace", "lower-case letters, digits and '-', at most 48 characters")


def check_task(name: str) -> str:
    """Return `name` if it may be a task's name. Raises DefinitionError otherwise."""
    allowed = f"words of ASCII letters, digits, '_' and '-' joined by dots, at most {_TASK_LENGTH} characters"
    if isinstance(name, str) and len(name) > _TASK_LENGTH:
        raise DefinitionError(f"task name {name[:40]!r}... has {len(name)} characters; a task name is {allowed}")
    return _check(name, _TASK, "task name", allowed)


def check_job_id(id: str) -> str:
    """Return `id` if it may be a job's id. Raises DefinitionError otherwise."""
    return _check(id, _JOB_ID, "job id", "ASCII letters, digits, '_', ':' and '-', at most 96 characters")


def _check(name: str, pattern: re.Pattern[str], what: str, allowed: str) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise DefinitionError(f"{what} {name!r} is not allowed; a {what} is {allowed}")
    return name
