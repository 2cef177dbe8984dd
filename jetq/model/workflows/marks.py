"""The marks of a workflow: what its members leave when they end, and what that says of its steps.

Each mark is written once. Whoever reads marks may have read a part of them only.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Literal

from msgspec import Struct, field

from jetq.model.workflows.plan import Plan, Step, page_sizes

__all__ = ["Mark", "Marks", "covered_pages", "has_value", "is_covered", "untolerated"]

Mark = Literal["ok", "bad"]
"""What a member leaves when it ends. ok: its value. bad: its failure."""


class Marks(Struct):
    """What is stored of one life, or a part of it."""

    ok: dict[str, set[int]] = field(default_factory=dict)
    """The members that left a value, by step."""

    bad: dict[str, set[int]] = field(default_factory=dict)
    """The members that ended without a value, by step."""

    full: dict[str, set[int]] = field(default_factory=dict)
    """The pages that are known to be covered, by step; only of steps with more than one page."""

    sizes: dict[str, int] = field(default_factory=dict)
    """How many members a step has whose plan does not say it."""

    fed: dict[str, int] = field(default_factory=dict)
    """How many members of a step were stored as jobs, counted from the first."""

    end: Literal["value", "failed"] | None = None
    """How the work has ended; None while it goes on."""

    stop: Literal["cancelled", "expired"] | None = None
    """Why the work must not go on; None while it may."""

    def done(self, name: str, step: Step) -> AbstractSet[int]:
        """Return the members of a step that are done: those that left a value, or a failure that the step tolerates."""
        ok = self.ok.get(name, set())
        return ok | self.bad.get(name, set()) if step.tolerates else ok

    def members(self, name: str, step: Step) -> int | None:
        """Return how many members a step has; None while nobody knows."""
        return self.sizes.get(name) if step.members is None else step.members


def has_value(plan: Plan, marks: Marks) -> bool:
    """Return whether everything that the value of the workflow is made of is done."""
    return all(is_covered(plan, marks, edge.source) for edge in plan.value)


def untolerated(plan: Plan, marks: Marks) -> Iterator[tuple[str, int]]:
    """Yield step and member of each failure that makes the workflow fail."""
    for name, step in plan.steps.items():
        if not step.tolerates and not step.callback:
            for member in sorted(marks.bad.get(name, ())):
                yield name, member


def is_covered(plan: Plan, marks: Marks, name: str) -> bool:
    """Return whether all members of a step are done; of a step without members, whether what it waits for is. Of a step
    with several pages only `full` pages count."""
    asked, waiting = {name}, [name]
    while waiting:  # not by recursion, because up to a thousand steps without members may follow one another
        name = waiting.pop()
        step = plan.steps[name]
        members = marks.members(name, step)
        if members is None:
            return False
        if members > 0 and not _are_done(marks, name, step, members):
            return False
        sources = {edge.source for edge in step.edges} if members == 0 else set()
        waiting += sources - asked
        asked |= sources
    return True


def _are_done(marks: Marks, name: str, step: Step, members: int) -> bool:
    sizes = page_sizes(step, members)
    if len(sizes) > 1:
        return len(marks.full.get(name, ())) >= len(sizes)
    return len(marks.done(name, step)) >= members


def covered_pages(marks: Marks, name: str, step: Step, members: int) -> Iterator[int]:
    done, first = marks.done(name, step), 0
    for page, size in enumerate(page_sizes(step, members)):
        if all(member in done for member in range(first, first + size)):
            yield page
        first += size
