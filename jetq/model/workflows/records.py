"""What is stored of a workflow beside its plan and the marks of its members: how it has ended, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

from jetq.model.extended import Versioned
from jetq.model.redaction import RedactedRepr
from jetq.model.workflows.plan import NOTHING

__all__ = ["Closed", "Ended", "StepState", "Totals", "WorkflowState"]

WorkflowState = Literal["running", "succeeded", "failed", "cancelled", "expired"]


class Ended(RedactedRepr, Versioned, frozen=True, omit_defaults=True, kw_only=True):
    """How the work has ended. It takes the place of the mark of the step whose value is that of the workflow."""

    how: Literal["value", "failed"]
    """value: the work has its value. failed: a member has failed."""

    value: Raw = NOTHING
    """The value as JSON; `NOTHING` if it is sealed, or put together of marks."""

    sealed: bytes | None = None
    """The sealed value; None if it is not sealed, or put together of marks."""

    step: str = ""
    """The step of the member that has failed, or whose value this is; empty if the value is put together, and in
    ends of earlier versions."""

    member: int = 0
    """The number of that member."""


StepState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "expired"]


class Totals(Struct, frozen=True, omit_defaults=True):
    """How many members a step had, how many of them ended in either way, and what that is for the step."""

    total: int | None = None
    done: int = 0
    failed: int = 0
    state: StepState = "succeeded"


class Closed(RedactedRepr, Versioned, frozen=True, omit_defaults=True, kw_only=True):
    """A workflow that is over: what is kept in the place of its plan."""

    life: str
    """The run that is over."""

    closed: WorkflowState
    """How it has ended."""

    at: float
    """When, in unix seconds."""

    value: Raw = NOTHING
    """The value as JSON; `NOTHING` without one, and if it is sealed."""

    sealed: bytes | None = None
    """The sealed value; None without one, and if it is not sealed."""

    steps: Mapping[str, Totals] = {}
    """What became of each step."""
