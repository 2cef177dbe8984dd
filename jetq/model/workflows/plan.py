"""The plan of a workflow: its steps, what they call, and what they wait for. A plan never changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from msgspec import Raw, Struct

from jetq.model.extended import Versioned
from jetq.model.job import DEFAULT_META, Level, Meta
from jetq.model.redaction import RedactedRepr

__all__ = [
    "EXPIRES",
    "MOST_MEMBERS",
    "MOST_STEPS",
    "NOTHING",
    "PAGE",
    "WHOLE",
    "Edge",
    "Plan",
    "Spot",
    "Step",
    "StepCall",
    "check_plan",
    "page_sizes",
]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""A life, or a step: both are tokens of the names of records and ids of jobs."""

PAGE = 1_000
"""Members of a step that are counted, looked at and read together. A look at a page of 1,000 marks takes the server
0.6 ms at any size of the step; one look at 100,000 marks takes 80 ms, and holds up publishers (nats-server 2.15.1)."""

NOTHING = Raw(b"")
"""The JSON of no value, where a value may be any JSON, also null."""

EXPIRES = 31 * 86_400.0
"""Seconds after which no step of a workflow begins any more, unless it says so itself."""

MOST_STEPS = 1_000
"""The most steps of a plan."""

MOST_MEMBERS = 10_000_000
"""The most members of a step whose plan says how many there are: a plan that says more, which anyone may write, would
take the memory of whoever counts its pages."""

Spot = tuple[str | int, ...]
"""A spot in arguments or in another JSON value: a parameter's name, and then keys and indices. Empty: all of it."""


class Edge(Struct, frozen=True, omit_defaults=True):
    """Says that a step waits for another step, its `source`, and where it takes the value of the source."""

    source: str
    """The name of the other step."""

    by: Literal["all", "items", "page", "each"] = "all"
    """What the step waits for, and what it takes. all: the step begins when all members of the source are done, and
    takes the whole value. items: the same, but member i takes item i of the value, a list. page: member p begins when
    page p of the source is covered, and takes the values of that page. each: member i begins when member i of the
    source is done, and takes the value of that member."""

    into: tuple[Spot, ...] = ()
    """The spots in the arguments that take the value. Empty: the step only waits."""

    settles: bool = False
    """Whether the failure of a member of the source takes the place of its value."""


WHOLE = frozenset({"all", "items"})
"""The edges that wait for the whole of their source."""


class StepCall(RedactedRepr, Struct, frozen=True, omit_defaults=True):
    """What the jobs of a step have in common."""

    task: str
    """The name of the task."""

    queue: str
    """The queue of the jobs."""

    body: Raw = NOTHING
    """The arguments as a JSON object by parameter name, without the values of other steps. `NOTHING` if each member has
    arguments of its own, which are stored in pages beside the plan."""

    level: Level = "normal"
    """The priority of the jobs."""

    meta: Meta = DEFAULT_META
    """The options of the call that the worker needs."""

    expires: float | None = None
    """Seconds after which a job that was stored is not started any more; None for never."""


class Step(Struct, frozen=True, omit_defaults=True):
    """One step of a plan: a call, or any number of members, each of which is a job."""

    edges: tuple[Edge, ...] = ()
    """What the step waits for; empty for a step that begins at once. Its member i waits for all of them."""

    call: StepCall | None = None
    """The call; None for a step that never has a member."""

    members: int | None = 1
    """How many members the step has, from 0. None: as many as the value whose `items` they take."""

    many: bool = False
    """Whether the value of the step is a list: the values of its members, or of each page a list of them if the step
    has `pages`. Otherwise the step has one member, whose value it is."""

    pages: tuple[int, ...] = ()
    """The members of each page, where a page is a group within a group. Empty: `PAGE` members each."""

    window: int | None = None
    """At most about so many members are in the queue at once; None for all of them."""

    tolerates: bool = False
    """Whether a member that has failed counts as done. Otherwise it makes the workflow fail."""

    instead: Raw = NOTHING
    """The JSON value of a member that has failed. `NOTHING`: it has none, and whoever needs one fails as well."""

    callback: Literal["failure", "end"] | None = None
    """When the step is called back. failure: when the workflow has failed or expired. end: when it has ended in
    whatever way. None for a step of the work itself."""


class Plan(Versioned, frozen=True, omit_defaults=True, kw_only=True):
    """An open workflow, as it was created. Storing the plan creates the workflow."""

    life: str
    """Names this run of the workflow. Whatever belongs to the run carries it, so that an id can be used again."""

    value: tuple[Edge, ...]
    """Where the value of the workflow comes from. The work has ended when the whole of each of these steps is done."""

    steps: Mapping[str, Step]
    """The steps by name."""

    deadline: float
    """The broker's time, in unix seconds, after which no member begins any more."""

    begins: float | None = None
    """When the first members begin, in unix seconds; None for at once."""

    keep: float = 3600.0
    """For how many seconds the value is kept once the work has ended."""

    def last(self) -> str | None:
        """Return the step whose one value is the value of the workflow; None if the value is put together."""
        whole = len(self.value) == 1 and self.value[0].into == ((),)
        return self.value[0].source if whole and not self.steps[self.value[0].source].many else None


def check_plan(plan: Plan) -> None:
    """Raise ValueError for a plan that cannot be followed. Anyone with the permission may have written it."""
    if not 0 < len(plan.steps) <= MOST_STEPS:
        raise ValueError(f"a plan has 1 to {MOST_STEPS:,} steps, not {len(plan.steps):,}")
    for name in (plan.life, *plan.steps):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a life or a step")
    for edge in plan.value or (Edge(""),):
        if edge.source not in plan.steps or plan.steps[edge.source].callback or edge.by != "all":
            raise ValueError(f"{edge.source!r} is no step of its work")
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
        if edge.by == "each" and (source.members is None or step.members != source.members):
            raise ValueError(f"{name}: it has other members than {edge.source!r}")
        if edge.by == "page" and (source.members is None or step.members != len(page_sizes(source, source.members))):
            raise ValueError(f"{name}: it has other members than {edge.source!r} has pages")
    if [edge.by for edge in step.edges].count("items") != (step.members is None):
        raise ValueError(f"{name}: one step, and no more, gives the items of its members")
    if not step.many and step.members != 1:
        raise ValueError(f"{name}: it has many members, and one value")
    if step.call is None and step.members != 0:
        raise ValueError(f"{name}: nothing says what its members call")
    if step.instead and not step.tolerates:
        raise ValueError(f"{name}: it has a value if it fails, and fails the workflow")
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
