"""Exceptions as stored values, and why a job is dead."""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import force_setattr

from jetq.model.extended import Extended

__all__ = ["AttemptError", "DeadReason", "Failure", "stable_type_name"]


DeadReason = Literal["failed", "rejected", "crashed", "timeout", "unknown-task", "undecodable", "bad-arguments"]
"""Why a job is dead: out of attempts or not worth one, `Reject` raised, killed its worker too often, its thread never
ended, no worker knows the task, unreadable bytes, or arguments that do not fit the signature."""


class Failure(Extended, frozen=True, omit_defaults=True):
    """An exception as text."""

    type: str
    """`module.qualname` of the exception's class, or `jetq.X` (`stable_type_name`)."""

    message: str
    """The exception's message."""

    traceback: str = ""
    """The traceback as text; empty where there was none."""

    args: tuple[Any, ...] | None = None
    """The constructor's arguments, when JSON can hold them; None otherwise."""

    def __post_init__(self) -> None:
        _name_type(self)


class AttemptError(Extended, frozen=True, omit_defaults=True):
    """How one attempt ended, short enough to travel with the job."""

    attempt: int
    """The number of the attempt, from 1."""

    type: str
    """The exception's class, as in `Failure`."""

    message: str
    """The exception's message."""

    at: float
    """When the attempt ended, in unix seconds."""

    worker: str = ""
    """The worker that ran it; empty where that is not known."""

    def __post_init__(self) -> None:
        _name_type(self)


def stable_type_name(name: str) -> str:
    """Return the name under which the exception class `name`, as `module.qualname`, is stored and shown.

    A class of jetq's own is `jetq.X`, in whatever module it lives: what is stored outlives a move of that module. A
    name with its module, as earlier versions stored it, comes out the same way.
    """
    return f"jetq.{name.rpartition('.')[2]}" if name.startswith("jetq.") else name


def _name_type(value: AttemptError | Failure) -> None:
    """Give the class of `value` its stable name: an earlier version named it by its module."""
    if value.type.startswith("jetq."):
        force_setattr(value, "type", stable_type_name(value.type))
