"""What has to be done next in a workflow, of its plan and its marks alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from jetq.model.workflows.marks import Marks, covered_pages, has_value, is_covered, untolerated
from jetq.model.workflows.plan import WHOLE, Edge, Plan, Step, page_sizes
from jetq.model.workflows.records import WorkflowState

__all__ = [
    "Action",
    "CallBack",
    "Close",
    "Cover",
    "End",
    "Expire",
    "Feed",
    "Fire",
    "Measure",
    "Reopen",
    "Verdict",
    "callbacks_at",
    "evaluate",
]


class Fire(Struct, frozen=True):
    """Store the job of one member, unless it is stored, or has left its letter."""

    step: str
    member: int


class Feed(Struct, frozen=True):
    """Store the jobs of the members from `start` up to `stop`, which is not one of them; then note how far it came."""

    step: str
    start: int
    stop: int


class Measure(Struct, frozen=True):
    """Store how many members a step has: as many as the value of its source has items."""

    step: str


class Cover(Struct, frozen=True):
    """Note that a page of a step is covered."""

    step: str
    page: int


class Verdict(Struct, frozen=True):
    """Note that the workflow has failed, because this member has."""

    step: str
    member: int


class Reopen(Struct, frozen=True):
    """Take back that the workflow has failed, because no failure is left that it does not tolerate."""


class End(Struct, frozen=True):
    """Note that the work has ended with its value."""


class Expire(Struct, frozen=True):
    """Note that the deadline has passed."""


class CallBack(Struct, frozen=True):
    """Store the job of a callback."""

    step: str


class Close(Struct, frozen=True):
    """Close the workflow: what is kept of it goes into its plan, and its marks go."""


Action = Fire | Feed | Measure | Cover | Verdict | Reopen | End | Expire | CallBack | Close


def evaluate(plan: Plan, marks: Marks, now: float) -> Iterator[Action]:
    """Yield what has to be done next. `now` is the broker's time, in unix seconds.

    Each action may be done again, by anyone and in any order, with what was read before: it is refused, or changes
    nothing, if it was done. An action that is not done is yielded again the next time.

    Guarantee: tests/unit/properties/test_workflows.py: in any order, with any repeats and deaths in between, each
    member runs once, none begins early, and the workflow ends.
    """
    failed = next(untolerated(plan, marks), None)
    if marks.end == "failed" and marks.stop is None and failed is None:
        yield Reopen()
    elif marks.end is not None or marks.stop is not None:
        yield from _after_the_end(plan, marks)
    elif failed is not None:
        yield Verdict(*failed)
    elif has_value(plan, marks):
        yield End()
    elif now > plan.deadline:
        yield Expire()
    else:
        for name, step in plan.steps.items():
            if not step.callback:
                yield from _of_step(plan, marks, name, step)


def callbacks_at(plan: Plan, state: WorkflowState) -> Sequence[str]:
    """Return the steps that are called when a workflow has come to `state`."""
    if state == "running":
        return []
    kinds = ("failure", "end") if state in ("failed", "expired") else ("end",)
    return [name for name, step in plan.steps.items() if step.callback in kinds]


def _after_the_end(plan: Plan, marks: Marks) -> Iterator[Action]:
    state: WorkflowState = marks.stop or ("succeeded" if marks.end == "value" else "failed")
    due = [name for name in callbacks_at(plan, state) if not marks.ok.get(name) and not marks.bad.get(name)]
    yield from map(CallBack, due)
    if not due and state in ("succeeded", "cancelled"):  # another is kept open, because it may be retried
        yield Close()


def _of_step(plan: Plan, marks: Marks, name: str, step: Step) -> Iterator[Action]:
    if not all(is_covered(plan, marks, edge.source) for edge in step.edges if edge.by in WHOLE):
        return
    members = marks.members(name, step)
    if members is None:
        yield Measure(name)
        return
    partial = [edge for edge in step.edges if edge.by not in WHOLE]
    if partial:
        yield from _members_of_edges(plan, marks, name, partial)
    else:
        yield from _next_members(marks, name, step, members)
    if len(page_sizes(step, members)) > 1:
        full = marks.full.get(name, set())
        yield from (Cover(name, page) for page in covered_pages(marks, name, step, members) if page not in full)


def _next_members(marks: Marks, name: str, step: Step, members: int) -> Iterator[Action]:
    """Yield the members that were fed and left no mark, and those that are to be fed next."""
    marked = marks.ok.get(name, set()) | marks.bad.get(name, set())
    fed = min(marks.fed.get(name, 0), members) if members > 1 else members
    yield from (Fire(name, member) for member in range(fed) if member not in marked)
    stop = members if step.window is None else min(members, len(marked) + step.window)
    if fed < stop:
        yield Feed(name, fed, stop)


def _members_of_edges(plan: Plan, marks: Marks, name: str, edges: Sequence[Edge]) -> Iterator[Action]:
    """Yield the members whose page or member of each source is done, and that left no mark."""
    marked = marks.ok.get(name, set()) | marks.bad.get(name, set())
    ready = set.intersection(*(_done_of(marks, plan.steps[edge.source], edge) for edge in edges))
    yield from (Fire(name, member) for member in sorted(ready - marked))


def _done_of(marks: Marks, source: Step, edge: Edge) -> set[int]:
    """Return the members or pages of `source` that are done."""
    if edge.by == "each":
        return set(marks.done(edge.source, source))
    members = marks.members(edge.source, source) or 0
    return set(covered_pages(marks, edge.source, source, members))
