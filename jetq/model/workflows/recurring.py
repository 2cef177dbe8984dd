"""A workflow that is started again and again: its plan without what differs from one time to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Raw

from jetq.model.extended import Versioned
from jetq.model.redaction import RedactedRepr
from jetq.model.workflows.plan import Edge, Plan, Step

__all__ = ["MOST_BYTES", "RecurringPlan"]

MOST_BYTES = 64 * 1024
"""The most bytes of a recurring plan as JSON, before it is sealed. The broker stores it with the schedule, and hands it
out whole at each time."""


class RecurringPlan(RedactedRepr, Versioned, frozen=True, omit_defaults=True, kw_only=True):
    """A plan that is started at each time of a schedule."""

    value: tuple[Edge, ...]
    """Where the value of the workflow comes from, as in a plan."""

    steps: Mapping[str, Step]
    """The steps by name."""

    bodies: Mapping[str, Sequence[Raw]] = {}
    """The arguments of the members of a step, by the step's name, where each member has arguments of its own."""

    expires: float
    """Seconds from the start to the deadline."""

    keep: float = 3600.0
    """For how many seconds the value is kept once the work has ended."""

    def plan(self, life: str, now: float) -> Plan:
        """Return the plan of a workflow that is started at `now`, in unix seconds."""
        return Plan(life=life, value=self.value, steps=self.steps, deadline=now + self.expires, keep=self.keep)
