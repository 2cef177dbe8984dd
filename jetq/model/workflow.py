"""Workflows: the plan, the marks that its steps leave, and what has to be done next.

A plan is immutable, and each member of a step leaves one mark, which is written once. Everything else follows from the
two. Nothing here has a clock or does I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from msgspec import Struct, field

from jetq.model.extended import Versioned

__all__ = [
    "MOST_MEMBERS",
    "MOST_STEPS",
    "PAGE",
    "Action",
    "CallBack",
    "Close",
    "Cover",
    "Edge",
    "End",
    "Expire",
    "Feed",
    "Fire",
    "Marks",
    "Measure",
    "Plan",
    "Reopen",
    "Step",
    "Verdict",
    "check_plan",
    "evaluate",
    "is_covered",
    "untolerated",
]

PAGE = 1_000
"""Members of a step that are counted, looked at and read together. A look at a page of 1,000 marks takes the server
0.6 ms at any size of the step; one look at 100,000 marks takes 80 ms, and holds up publishers (nats-server 2.15.1)."""

MOST_STEPS = 1_000
"""The most steps of a plan."""

MOST_MEMBERS = 10_000_000
"""The most members of a step whose plan says how many there are: a plan that says more, which anyone may write, would
take the memory of whoever counts its pages."""


# --- the plan


class Edge(Struct, frozen=True, omit_defaults=True):
    """Says that a step waits for another step, its `source`."""

    source: str
    """The name of the other step."""

    by: Literal["all", "page", "each"] = "all"
    """What the step waits for. all: the step begins when all members of the source are done. page: its member p begins
    when page p of the source is covered. each: its member i begins when member i of the source is done."""


class Step(Struct, frozen=True, omit_defaults=True):
    """One step of a plan: a call, or any number of members, each of which is a job."""

    edges: tuple[Edge, ...] = ()
    """What the step waits for; empty for a step that begins at once. Its member i waits for all of them."""

    members: int | None = 1
    """How many members the step has, from 0. None: as many as the value of its only source has items."""

    pages: tuple[int, ...] = ()
    """The members of each page, where a page is a group within a group. Empty: `PAGE` members each."""

    window: int | None = None
    """At most about so many members are in the queue at once; None for all of them."""

    tolerates: bool = False
    """Whether a member that has failed counts as done: its failure, or another value, takes the place of its value."""

    callback: Literal["failure", "end"] | None = None
    """When the step is called back. failure: when the workflow has failed or expired. end: when it has ended in
    whatever way. None for a step of the work itself."""


class Plan(Versioned, frozen=True, omit_defaults=True, kw_only=True):
    """An open workflow, as it was created. Storing the plan creates the workflow."""

    life: str
    """Names this run of the workflow. Whatever belongs to the run carries it, so that an id can be used again."""

    last: str
    """The name of the step whose value is the value of the workflow."""

    steps: Mapping[str, Step]
    """The steps by name."""

    deadline: float
    """The broker's time, in unix seconds, after which no member begins any more."""


def check_plan(plan: Plan) -> None:
    """Raise ValueError for a plan that cannot be followed. Anyone with the permission may have written it."""
    if not 0 < len(plan.steps) <= MOST_STEPS:
        raise ValueError(f"a plan has 1 to {MOST_STEPS:,} steps, not {len(plan.steps):,}")
    if plan.last not in plan.steps or plan.steps[plan.last].callback:
        raise ValueError(f"{plan.last!r} is no step of its work")
    for name, step in plan.steps.items():  # first of all steps, because the pages of another one are counted below
        if not 0 <= (step.members or 0) <= MOST_MEMBERS or (step.window is not None and step.window < 1):
            raise ValueError(f"{name}: its members or its window cannot be")
    for name, step in plan.steps.items():
        _check_step(plan, name, step)
    try:
        TopologicalSorter({name: [edge.source for edge in step.edges] for name, step in plan.steps.items()}).prepare()
    except CycleError:
        raise ValueError("its steps wait for one another") from None


def _check_step(plan: Plan, name: str, step: Step) -> None:
    for edge in step.edges:
        source = plan.steps.get(edge.source)
        if source is None or source.callback or step.callback:
            raise ValueError(f"{name}: it cannot wait for {edge.source!r}")
        if edge.by == "each" and step.members != source.members:
            raise ValueError(f"{name}: it has other members than {edge.source!r}")
        if edge.by == "page" and (source.members is None or step.members != len(page_sizes(source, source.members))):
            raise ValueError(f"{name}: it has other members than {edge.source!r} has pages")
    if step.members is None and (len(step.edges) != 1 or step.edges[0].by != "all"):
        raise ValueError(f"{name}: one step, and no more, gives the items of its members")
    if step.callback and step.members != 1:
        raise ValueError(f"{name}: a callback is one call")
    if step.pages and (min(step.pages) < 0 or max(step.pages) > PAGE or sum(step.pages) != step.members):
        raise ValueError(f"{name}: its pages do not hold its members")


def page_sizes(step: Step, members: int) -> tuple[int, ...]:
    """Return how many members each page of `step` has, which has `members` in all."""
    if step.pages:
        return step.pages
    whole, rest = divmod(members, PAGE)
    return (PAGE,) * whole + (rest,) * bool(rest)


# --- the marks


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


def _covered_pages(marks: Marks, name: str, step: Step, members: int) -> Iterator[int]:
    done, first = marks.done(name, step), 0
    for page, size in enumerate(page_sizes(step, members)):
        if all(member in done for member in range(first, first + size)):
            yield page
        first += size


# --- what to do


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
    elif is_covered(plan, marks, plan.last):
        yield End()
    elif now > plan.deadline:
        yield Expire()
    else:
        for name, step in plan.steps.items():
            if not step.callback:
                yield from _of_step(plan, marks, name, step)


def _after_the_end(plan: Plan, marks: Marks) -> Iterator[Action]:
    kinds = {"end"} if marks.stop == "cancelled" or marks.end == "value" else {"end", "failure"}
    due = [
        name
        for name, step in plan.steps.items()
        if step.callback in kinds and not marks.ok.get(name) and not marks.bad.get(name)
    ]
    yield from map(CallBack, due)
    if not due and "failure" not in kinds:  # a failed workflow is kept open, because it may be retried
        yield Close()


def _of_step(plan: Plan, marks: Marks, name: str, step: Step) -> Iterator[Action]:
    if not all(is_covered(plan, marks, edge.source) for edge in step.edges if edge.by == "all"):
        return
    members = marks.members(name, step)
    if members is None:
        yield Measure(name)
        return
    partial = [edge for edge in step.edges if edge.by != "all"]
    if partial:
        yield from _members_of_edges(plan, marks, name, partial)
    else:
        yield from _next_members(marks, name, step, members)
    if len(page_sizes(step, members)) > 1:
        full = marks.full.get(name, set())
        yield from (Cover(name, page) for page in _covered_pages(marks, name, step, members) if page not in full)


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
    return set(_covered_pages(marks, edge.source, source, members))
