"""How a work becomes steps: works of one shape side by side are the members of one step.

A group of a hundred thousand chains of two calls is two steps. Works of a group that have not one shape are steps of
their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

from msgspec import Raw, Struct
from msgspec.structs import replace

from jetq.client.call import Call, Work
from jetq.client.workflows.parts import Called, Each, Group, Input, Many, Part, all_sources, in_order, part, sources
from jetq.errors import WorkflowError
from jetq.model.workflows.plan import MOST_MEMBERS, MOST_STEPS, NOTHING, PAGE, Edge, Spot, Step, StepCall

__all__ = ["Shape", "shape"]

T = TypeVar("T")

_NO_LETTER = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 31
"""Characters of a name that is made here, without its number. A name has at most 36 with it."""


class Shape(Struct, frozen=True):
    """A work as steps.

    value: where its value comes from. bodies: the arguments of the members of a step, by the step's name, where each
    member has arguments of its own. calls: a call of each step.
    """

    steps: dict[str, Step]
    value: tuple[Edge, ...]
    bodies: dict[str, tuple[bytes, ...]]
    calls: dict[str, Call[Any]]

    @property
    def keep(self) -> float:
        """For how many seconds the value is kept: as the last calls say of their results, and an hour at least."""
        last = [self.calls[edge.source] for edge in self.value if edge.source in self.calls]
        return max([3_600.0, *(call.effective.result_ttl or 0.0 for call in last)])


def shape(work: Work[Any]) -> Shape:
    """Return `work` as steps, each after those it waits for. Raises WorkflowError for a work that cannot be a
    workflow."""
    alone: set[int] = set()
    while True:
        try:
            return _Shaper(work, alone).shape()
        except _NeededAlone as found:
            alone.add(id(found.work))


class _Mixed(Exception):
    """Works that have not one shape."""


class _NeededAlone(Exception):
    """A work is needed by itself, so that it has to be a step, and not one of the members of a step."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work


class _Column(Struct, eq=False):
    """Works side by side, `size` of them, and where the value of each is.

    unit: the value is that of a member of `step`, the list of the values of a page of the step, or, of one work, the
    whole value of the step. listed: there is no step, and the value of each work, a group, is the list of the values of
    its members. settles: the value may be a failure.
    """

    size: int
    step: str = ""
    unit: Literal["member", "page", "whole"] = "member"
    listed: bool = False
    settles: bool = False


class _Place(Struct, frozen=True):
    """Where works are: among many, in pages of these sizes. name: what their step is called, if they do not say it.
    window: how many of them are in the queue at once."""

    many: bool = False
    pages: tuple[int, ...] = ()
    name: str | None = None
    window: int | None = None


class _Shaper:
    """Makes the steps of one work. alone: the ids of the works that must not be one of many members."""

    def __init__(self, work: Work[Any], alone: set[int]) -> None:
        self._work = work
        self._alone = alone
        self._every = [each for each in in_order(work, all_sources) if isinstance(each, Part)]
        self._given = {each.name for each in self._every if not isinstance(each, Group)}
        self._steps: dict[str, Step] = {}
        self._bodies: dict[str, tuple[bytes, ...]] = {}
        self._calls: dict[str, Call[Any]] = {}
        self._placed: dict[int, tuple[_Column, int]] = {}

    def shape(self) -> Shape:
        self._columns([self._work], _Place())
        value = tuple(self._edges([self._work], Input(self._work, ((),)), one_each=False))
        self._call_back()
        self._tolerate(value)
        if len(self._steps) > MOST_STEPS:
            raise WorkflowError(
                f"a workflow has at most {MOST_STEPS:,} steps, and this one has {len(self._steps):,}",
                hint="works of one shape are the members of one step: the same tasks and options, in the same order",
            )
        return Shape(self._steps, value, self._bodies, self._calls)

    def _call_back(self) -> None:
        callbacks = {(id(each.call), each.when): each for part in self._every for each in part.callbacks}
        for each in callbacks.values():
            call = _step_call(each.call, each.call.body)
            self._add(None, each.call, Step(call=call, callback=each.when), None)

    def _tolerate(self, value: Sequence[Edge]) -> None:
        """Find the steps whose failure does not make the workflow fail: who takes their value does without."""
        needs: dict[str, list[bool]] = {name: [] for name in self._steps}
        for edge in value:
            needs[edge.source].append(not edge.settles)
        for name, step in reversed(self._steps.items()):  # each after all that wait for it
            tolerates = bool(step.instead) or (bool(needs[name]) and not any(needs[name]))
            self._steps[name] = replace(step, tolerates=tolerates)
            for edge in step.edges:
                alone = edge.by in ("each", "page") or not step.many  # so that it can fail in the place of the source
                needs[edge.source].append(not edge.settles and not (tolerates and alone))

    # --- works side by side

    def _columns(self, works: Sequence[Work[Any]], place: _Place) -> _Column:
        """Place `works` and what they wait for, and return their column. Raises _Mixed if they have not one shape."""
        orders = [in_order(each, sources) for each in works]
        depth = len(orders[0])
        if any(len(order) != depth for order in orders):
            raise _Mixed
        for level in range(depth):
            row = [order[level] for order in orders]
            last = level == depth - 1
            if len(row) > 1 and not last and all(each is row[0] for each in row):  # all of them wait for this one
                self._put(row[:1], _Place())
            else:
                self._put(row, place if last else _Place(place.many, window=place.window))
        column, _ = self._placed[id(works[0])]
        if column.size != len(works) or any(self._placed[id(w)] != (column, i) for i, w in enumerate(works)):
            raise _Mixed
        return column

    def _put(self, row: list[Work[Any]], place: _Place) -> None:
        """Make one step of the works in `row`, unless they have their steps."""
        known = [id(each) in self._placed for each in row]
        if all(known):
            return
        ids = {id(each) for each in row}
        if any(known) or len(ids) < len(row) or (len(row) > 1 and ids & self._alone):
            raise _Mixed
        if ids & self._alone:
            place = _Place(name=place.name)
        parts: list[Any] = [part(each) for each in row]
        if len({type(each) for each in parts}) > 1:
            raise _Mixed
        if isinstance(parts[0], Called):
            column = self._put_calls(parts, place)
        elif isinstance(parts[0], Each):
            column = self._put_each(parts, place)
        else:
            column = self._put_groups(parts, place)
        for index, each in enumerate(row):
            self._placed[id(each)] = (column, index)

    def _put_calls(self, row: list[Called[Any]], place: _Place) -> _Column:
        first = row[0]
        like = (first.call.task, first.call.queue, first.call.settings, first.instead, first.name)
        for each in row[1:]:
            if (each.call.task, each.call.queue, each.call.settings, each.instead, each.name) != like:
                raise _Mixed
        edges = self._all_edges(row)
        bodies = {each.call.body for each in row}
        step = Step(
            edges,
            _step_call(first.call, first.call.body if len(bodies) == 1 else None),
            members=len(row),
            many=place.many,
            pages=place.pages,
            window=None if any(edge.by in ("each", "page") for edge in edges) else place.window,
            instead=first.instead,
        )
        name = self._add(first.name, first.call, step, place.name)
        if len(bodies) > 1:
            self._bodies[name] = tuple(each.call.body for each in row)
        return _Column(len(row), name)

    def _put_each(self, row: list[Each[Any]], place: _Place) -> _Column:
        first = _alike(row)
        if first.bodies is None:
            return self._put_items(row, place)
        if any(each.bodies is None for each in row):
            raise _Mixed
        calls = [each.call for each in row if each.bodies] or [first.call]
        for call in calls:
            if (call.task, call.queue, call.settings) != (calls[0].task, calls[0].queue, calls[0].settings):
                raise _Mixed
        edges = self._all_edges(row)
        bodies = tuple(body for each in row for body in each.bodies or ())
        pages = _pages([len(each.bodies or ()) for each in row], place)
        same = len(set(bodies)) == 1
        step = Step(
            edges,
            _step_call(calls[0], bodies[0] if same else None),
            members=len(bodies),
            many=True,
            pages=pages,
            window=first.at_once,
        )
        name = self._add(first.name, calls[0], step, place.name)
        if bodies and not same:
            self._bodies[name] = bodies
        return _Column(len(row), name, "page" if place.many else "whole", settles=first.settles)

    def _put_items(self, row: list[Each[Any]], place: _Place) -> _Column:
        """Place one task that is called with each item of a value."""
        (first, *others) = row
        if others or place.many:
            raise _Mixed
        edges = self._all_edges(row)
        (items,) = (edge for edge in edges if edge.by == "items")
        source = self._steps[items.source]
        members = None
        if source.many and source.members is not None:  # then item i is there as soon as member i or page i is
            by: Literal["page", "each"] = "page" if source.pages else "each"
            members = len(source.pages) if source.pages else source.members
            edges = tuple(replace(edge, by=by) if edge is items else edge for edge in edges)
        call = _step_call(first.call, first.call.body)
        step = Step(edges, call, members=members, many=True, window=first.at_once)
        return _Column(1, self._add(first.name, first.call, step, place.name), "whole", settles=first.settles)

    def _put_groups(self, row: list[Group[Any]], place: _Place) -> _Column:
        first = _alike(row)
        if first.settles and any(isinstance(member, Many) for each in row for member in each.members):
            raise WorkflowError(
                "a failure cannot take the place of a whole list: this group has groups",
                hint="settle the inner ones: group(group(...).settled() for ...)",
            )
        before = self._mark()
        try:
            return self._put_members(row, place)
        except _Mixed:
            self._go_back(before)
        if len({len(each.members) for each in row}) > 1:
            raise _Mixed
        if first.at_once is not None:
            raise WorkflowError(
                "a window needs works of one shape, and these are not", hint="give each shape a group of its own"
            )
        place = _Place(place.many, name=first.name or place.name)
        for alike in zip(*(each.members for each in row), strict=True):
            self._columns(alike, place)
        return _Column(len(row), listed=True, settles=first.settles)

    def _put_members(self, row: list[Group[Any]], place: _Place) -> _Column:
        """Place the members of all groups as those of one step. Raises _Mixed if they have not one shape."""
        first = row[0]
        members = [member for each in row for member in each.members]
        pages = _pages([len(each.members) for each in row], place)
        unit: Literal["page", "whole"] = "page" if place.many else "whole"
        if not members:
            step = Step(members=0, many=True, pages=pages)
            return _Column(len(row), self._add(first.name, None, step, place.name), unit)
        inner = self._columns(members, _Place(True, pages, first.name or place.name, first.at_once))
        if inner.listed or inner.unit == "whole" or (inner.unit == "page" and place.many):
            raise _Mixed
        step = self._steps[inner.step]
        if not step.many or (inner.unit == "member" and step.pages != pages):
            raise _Mixed
        return _Column(len(row), inner.step, unit, settles=first.settles or inner.settles)

    # --- what they wait for

    def _all_edges(self, row: Sequence[Called[Any] | Each[Any]]) -> tuple[Edge, ...]:
        """Return what the works in `row` wait for. Raises _Mixed if they do not all wait in the same way."""
        inputs = [(*each.inputs, *(Input(work, ()) for work in each.waits_for)) for each in row]
        if any([(i.spots, i.item) for i in each] != [(i.spots, i.item) for i in inputs[0]] for each in inputs):
            raise _Mixed
        found: dict[Edge, list[Spot]] = {}
        for alike in zip(*inputs, strict=True):
            works, one_each = [each.work for each in alike], isinstance(row[0], Called)
            for edge in self._edges(works, alike[0], one_each=one_each):
                found.setdefault(replace(edge, into=()), []).extend(edge.into)
        return tuple(replace(edge, into=tuple(spots)) for edge, spots in found.items())

    def _edges(
        self, works: Sequence[Work[Any]], input: Input, *, one_each: bool = True, settles: bool = False
    ) -> Iterator[Edge]:
        """Yield the edges to `works`, of which each work that waits takes one, or all the same one. one_each: each work
        that waits is one member."""
        column, _ = self._placed[id(works[0])]
        same = all(each is works[0] for each in works)
        if not same and [self._placed[id(each)] for each in works] != [(column, i) for i in range(column.size)]:
            raise _Mixed
        settles = settles or column.settles
        if column.listed:
            if input.item:
                raise WorkflowError(
                    "each takes the items of one list, and this group has works of several shapes",
                    hint="give each shape a group of its own",
                )
            for index, members in enumerate(zip(*(_members(each) for each in works), strict=True)):
                spots = tuple((*spot, index) for spot in input.spots)
                yield from self._edges(members, replace(input, spots=spots), one_each=one_each, settles=settles)
            return
        whole = column.unit == "whole" or not self._steps[column.step].many
        if same and not whole and (column.size > 1 or len(works) > 1 or not one_each):
            raise _NeededAlone(works[0])
        if not same and not one_each:
            raise _Mixed
        by: Literal["all", "items", "page", "each"] = "items" if input.item else "all"
        if not whole:
            by = "page" if column.unit == "page" else "each"
        yield Edge(column.step, by, input.spots, settles)

    # --- the steps

    def _add(self, given: str | None, call: Call[Any] | None, step: Step, inherited: str | None) -> str:
        """Add a step and return its name: as it was `given`, or else made of `inherited` or of the task's name."""
        name = given
        if name is None:
            base = inherited or ("group" if call is None else call.task.rpartition(".")[2])
            base = _NO_LETTER.sub("_", base)[:_LONGEST_NAME]
            name, number = base, 1
            while name in self._steps or name in self._given:
                number += 1
                name = f"{base}-{number}"
        elif name in self._steps:
            raise WorkflowError(f"two steps are named {name!r}", hint="a name is of one step of a workflow")
        if (step.members or 0) > MOST_MEMBERS:
            raise WorkflowError(f"step {name} has {step.members:,} members, and the most are {MOST_MEMBERS:,}")
        self._steps[name] = step
        if call is not None:
            self._calls[name] = call
        return name

    def _mark(self) -> tuple[int, ...]:
        return len(self._steps), len(self._bodies), len(self._calls), len(self._placed)

    def _go_back(self, mark: tuple[int, ...]) -> None:
        """Forget what was added since `mark`."""
        added: tuple[dict[Any, Any], ...] = (self._steps, self._bodies, self._calls, self._placed)
        for each, size in zip(added, mark, strict=True):
            while len(each) > size:
                each.popitem()


def _members(work: Work[Any]) -> tuple[Work[Any], ...]:
    assert isinstance(work, Group)
    return work.members


def _alike(row: Sequence[T]) -> T:
    """Return the first of `row`. Raises _Mixed if others have other options."""
    options = [(each.name, each.at_once, each.settles) for each in row if isinstance(each, Each | Group)]
    if any(each != options[0] for each in options):
        raise _Mixed
    return row[0]


def _pages(sizes: list[int], place: _Place) -> tuple[int, ...]:
    """Return the pages of the members of several groups: none of a group that is not one of many."""
    if not place.many:
        return ()
    if place.pages or max(sizes) > PAGE:
        raise _Mixed
    return tuple(sizes)


def _step_call(call: Call[Any], body: bytes | None) -> StepCall:
    return StepCall(
        call.task,
        call.queue,
        NOTHING if body is None else Raw(body),
        call.effective.priority,
        call.settings.carrying(),
        call.effective.expires,
    )
