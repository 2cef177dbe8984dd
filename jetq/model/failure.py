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
    """An exception as text.

    type: `module.qualname` of its class, or `jetq.X` (`stable_type_name`).
    args: the constructor's arguments, when JSON can hold them.
    """

    type: str
    message: str
    traceback: str = ""
    args: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        _name_type(self)


class AttemptError(Extended, frozen=True, omit_defaults=True):
    """How one attempt ended, short enough to travel with the job. type: as of `Failure`."""

    attempt: int
    type: str
    message: str
    at: float
    worker: str = ""

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
