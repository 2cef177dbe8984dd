"""What a job needs of its worker's code, and whether a worker has that code."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from jetq.client.task import Task
from jetq.encoding import headers
from jetq.encoding.json_text import is_too_deep
from jetq.model.bounds import check_numbers
from jetq.model.outcome import Needs

__all__ = ["has", "lacking_arguments", "other_name", "read_needs", "shown_needs"]

_MOST_NAMES, _LONGEST_NAME = 20, 100
"""The most unknown arguments of a call, and the most characters of each name. A call beyond these bounds counts as
wrong for every worker."""

_decode_names = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_needs = msgspec.json.Decoder(Needs).decode


def has(tasks: Mapping[str, Task[..., Any]], needs: Needs) -> bool:
    """Return whether a worker with these `tasks` can run a job that has these `needs`."""
    task = tasks.get(needs.task)
    return task is not None and needs.v <= headers.WIRE_VERSION and _parameters(task).issuperset(needs.arguments)


def lacking_arguments(task: Task[..., Any], body: bytes) -> Needs | None:
    """Return what a worker needs for a call whose arguments `task` has no parameters for. None if `task` has them all,
    or if the arguments cannot be told or are wrong at every worker.

    Such a call was made by another version of the task's code. A call with the right names, but with values of another
    type, was not, and is wrong at every worker.
    """
    try:
        names = () if is_too_deep(body) else tuple(_decode_names(body))
    except (ValueError, RecursionError):
        return None
    unknown = sorted(set(names) - _parameters(task))
    if not unknown or len(unknown) > _MOST_NAMES or any(len(name) > _LONGEST_NAME for name in unknown):
        return None  # no function has so many or such long parameters
    return Needs(task.name, arguments=tuple(unknown))


def other_name(task: str, known: Collection[str]) -> str | None:
    """Return the known task that seems to be `task`, of a module that was imported under another name in this worker:
    `jobs.send` for `shop.jobs.send`, or the other way round. None if there is none."""
    for each in sorted(known):
        shorter, longer = sorted((task, each), key=len)
        if "." in shorter and longer.endswith(f".{shorter}"):  # a name without a module says too little
            return each
    return None


def read_needs(data: bytes) -> Needs | None:
    """Return the needs that a worker has sent; None if `data` is not readable."""
    try:
        needs = None if is_too_deep(data) else _decode_needs(data)
        check_numbers(needs, counts=("v",) if needs is not None else ())
    except (ValueError, RecursionError):  # anyone with the permission may write there
        return None
    return needs


def shown_needs(needs: Needs) -> str:
    """Return why a worker cannot run a job with these `needs`, for people: the words that follow "this worker"."""
    if needs.v > headers.WIRE_VERSION:
        return f"is too old for version {needs.v} of the wire format"
    if needs.arguments:
        return f"has its task without the arguments {', '.join(map(repr, needs.arguments))}"
    return "does not know its task, which nothing it imports defines"


def _parameters(task: Task[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(task.fn).parameters)
