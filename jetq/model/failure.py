"""Exceptions as stored values, and why a job is dead."""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import force_setattr

from jetq.model.extended import Extended

__all__ = ["AttemptError", "DeadReason", "Failure", "stable_type_name"]


DeadReason = Literal["failed", "rejected", "crashed", "timeout", "unknown-task", "undecodable", "bad-arguments"]
"""Why a job is dead. In the same order: its attempts are used up or its exception is not worth another, `Reject` was
raised, the job killed its worker too often, its thread never ended, no worker knows the task, the bytes are unreadable,
or the arguments do not fit the signature."""


class Failure(Extended, frozen=True, omit_defaults=True):
    """An exception as text."""

    type: str
    """`module.qualname` of the exception's class, or `jetq.X` (`stable_type_name`)."""

    message: str
    """The exception's message."""

    traceback: str = ""
    """The traceback as text; empty if the exception had none."""

    args: tuple[Any, ...] | None = None
    """The arguments of the exception's constructor, if JSON can hold them; None otherwise."""

    def __post_init__(self) -> None:
        _name_type(self)


class AttemptError(Extended, frozen=True, omit_defaults=True):
    """How one attempt ended, short enough to be stored with the job."""

    attempt: int
    """The number of the attempt, from 1."""

    type: str
    """The exception's class, as in `Failure`."""

    message: str
    """The exception's message."""

    at: float
    """When the attempt ended, in unix seconds."""

    worker: str = ""
    """The worker that ran the attempt; empty if jetq does not know the worker."""

    def __post_init__(self) -> None:
        _name_type(self)


def stable_type_name(name: str) -> str:
    """Return the name under which the exception class `name`, as `module.qualname`, is stored and shown.

    A class X of jetq's own is stored as `jetq.X`, without its module, so that stored names stay right when the class
    moves to another module. Earlier versions stored the name with its module; such a name becomes `jetq.X` too.
    """
    return f"jetq.{name.rpartition('.')[2]}" if name.startswith("jetq.") else name


def _name_type(value: AttemptError | Failure) -> None:
    """Give the exception's class in `value` its stable name. Earlier versions stored the name with its module."""
    if value.type.startswith("jetq."):
        force_setattr(value, "type", stable_type_name(value.type))
