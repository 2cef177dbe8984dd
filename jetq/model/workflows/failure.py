"""How a step of a workflow ended without a value."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Failure", "Reason"]

Reason = Literal["failed", "crashed", "timeout", "rejected", "expired", "cancelled", "forbidden", "bad-arguments"]


class Failure(Struct, frozen=True, tag_field="jetq", tag="failure"):
    """How a step, or one member of a step, ended without a value. Plain data, so that it can be an argument."""

    step: str
    """The name of the step."""

    index: int
    """The number of the member, from 0; 0 for a step of one call."""

    reason: Reason
    """What happened."""

    type: str
    """The class of the exception, as `module.qualname`; empty if there was none."""

    message: str
    """The message of the exception, or a sentence."""
