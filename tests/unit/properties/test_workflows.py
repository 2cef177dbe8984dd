"""Any plan, with what was read before acted on late, in any order and again, with deaths, failures, retries and cancels
in between: each member runs once, none begins early, and the workflow ends."""

from __future__ import annotations

import random
import re
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from jetq.model.workflows.evaluate import (
    Action,
    CallBack,
    Close,
    Cover,
    End,
    Expire,
    Feed,
    Fire,
    Measure,
    Reopen,
    Verdict,
    evaluate,
)
from jetq.model.workflows.marks import Marks, has_value, untolerated
from jetq.model.workflows.plan import Edge, Plan, Step, StepCall, check_plan, page_sizes
from tests.unit.properties.examples import examples

Member = tuple[str, int]
DEADLINE = 1_000.0
SEEDS = st.integers(0, 2**32)
"""Of what happens next: drawn one by one, the choices of a muddle would be too many."""
ROUNDS = 4_000
"""More than any plan of this file needs."""


@dataclass
class World:
    """A store that refuses as the real one does, and workers that do what `evaluate` says, more or less."""

    plan: Plan
    chance: random.Random
    sizes: dict[str, int]
    fails: dict[Member, int]
    """How many runs of a member fail before one succeeds."""
    marks: Marks = field(default_factory=Marks)
    jobs: set[Member] = field(default_factory=set)
    runs: Counter[Member] = field(default_factory=Counter)
    deaths: Counter[Member] = field(default_factory=Counter)
    retries: Counter[Member] = field(default_factory=Counter)
    closed: bool = False
    now: float = 0.0

    # --- what is read, and done later

    def look(self) -> list[Action]:
        return list(evaluate(self.plan, deepcopy(self.marks), self.now))

    def do(self, action: Action) -> None:
        """What the store makes of it now, whenever it was decided."""
        marks = self.marks
        match action:
            case Fire(step, member):
                self.store(step, member)
            case Feed(step, start, stop):
                for member in range(start, stop):
                    self.store(step, member)
                if marks.fed.get(step, 0) == start:
                    marks.fed[step] = stop
            case Measure(step):
                marks.sizes.setdefault(step, self.sizes[step])
            case Cover(step, page):
                assert page in self.covered_pages(step)
                marks.full.setdefault(step, set()).add(page)
            case Verdict(step, member):
                if marks.end is None and marks.stop is None and member in marks.bad.get(step, ()):
                    marks.end = "failed"
            case Reopen():
                if marks.end == "failed" and not list(untolerated(self.plan, marks)):
                    marks.end = None
            case End():
                if marks.end is None and marks.stop is None:
                    assert has_value(self.plan, marks)
                    marks.end = "value"
            case Expire():
                if marks.end is None and marks.stop is None:
                    marks.stop = "expired"
            case CallBack(step):
                self.store(step, 0)
            case Close():
                assert marks.end == "value" or marks.stop == "cancelled"
                self.closed = True

    def store(self, step: str, member: int) -> None:
        self.jobs.add((step, member))

    # --- a worker

    def run(self, job: Member) -> None:
        """Run one job to its mark, or die before. A job that left its mark, or that came too late, is dropped."""
        step, member = job
        callback = self.plan.steps[step].callback is not None
        marked = member in self.marks.ok.get(step, set()) | self.marks.bad.get(step, set())
        late = self.marks.stop or self.now > self.plan.deadline
        if self.closed or marked or (late and not callback):
            self.jobs.discard(job)
            return
        assert callback or self.may_begin(step, member), f"{job} began early"
        self.runs[job] += 1
        if self.chance.random() < 0.2:
            self.deaths[job] += 1
            return
        self.end(step, member)
        self.jobs.discard(job)

    def end(self, step: str, member: int) -> None:
        marks, job = self.marks, (step, member)
        if self.fails.get(job, 0) > 0:
            self.fails[job] -= 1
            marks.bad.setdefault(step, set()).add(member)
        elif step == self.plan.last():  # its mark is the end of the workflow
            if marks.stop is None:
                marks.ok.setdefault(step, set()).add(member)
                marks.end = "value"
        else:
            marks.ok.setdefault(step, set()).add(member)

    def may_begin(self, step: str, member: int) -> bool:
        for edge in self.plan.steps[step].edges:
            source = self.plan.steps[edge.source]
            if edge.by == "each" and member not in self.marks.done(edge.source, source):
                return False
            if edge.by == "page" and member not in self.covered_pages(edge.source):
                return False
            if edge.by in ("all", "items") and len(self.covered_pages(edge.source)) < len(
                page_sizes(source, self.members(edge.source))
            ):
                return False
        return True

    def members(self, step: str) -> int:
        members = self.plan.steps[step].members
        return self.sizes[step] if members is None else members

    def covered_pages(self, step: str) -> set[int]:
        done, first, covered = self.marks.done(step, self.plan.steps[step]), 0, set()
        for page, size in enumerate(page_sizes(self.plan.steps[step], self.members(step))):
            if set(range(first, first + size)) <= done:
                covered.add(page)
            first += size
        return covered

    # --- people

    def retry(self) -> None:
        """What failed runs again: its job is stored before its mark goes."""
        if self.closed or self.marks.stop or self.marks.end == "value":
            return
        for step, member in list(untolerated(self.plan, self.marks)):
            self.marks.bad[step].discard(member)
            self.retries[step, member] += 1
            self.store(step, member)
        for name, each in self.plan.steps.items():
            if each.callback and self.marks.end == "failed":
                for marks in (self.marks.ok, self.marks.bad):
                    marks.pop(name, None)
                self.retries[name, 0] += 1

    def cancel(self) -> None:
        if self.marks.end != "value" and not self.closed:
            self.marks.stop = self.marks.stop or "cancelled"

    # --- the example

    def muddle(self, turns: int) -> None:
        """Looks, and what they said done late, in part, and again."""
        decided: list[Action] = []
        for _ in range(turns):
            match self.chance.randrange(6):
                case 0 | 1:
                    decided += self.look()
                case 2 | 3 if decided:
                    action = self.chance.choice(decided)
                    if not (isinstance(action, Cover | Close) and self.closed):
                        self.do(action)
                case _ if self.jobs:
                    self.run(self.chance.choice(sorted(self.jobs)))

    def come_to_rest(self) -> None:
        for _ in range(ROUNDS):
            for job in sorted(self.jobs):
                self.run(job)
            actions = [] if self.closed else self.look()
            if not actions and not self.jobs:
                return
            for action in actions:
                self.do(action)
        pytest.fail(f"it does not end: {self.look()}")


WAYS: tuple[Literal["all", "each", "page"], ...] = ("all", "all", "each", "page")


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, dict[str, int]]:
    """A plan, and how many items the value of a source has."""
    steps: dict[str, Step] = {}
    sizes: dict[str, int] = {}
    for number in range(draw(st.integers(1, 6))):
        name, earlier = f"s{number}", sorted(steps)
        members: int | None = draw(st.sampled_from((0, 1, 1, 2, 5)))
        edges: tuple[Edge, ...] = ()
        if earlier:
            sources = draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True))
            edges = tuple(Edge(each) for each in sources)
            by = draw(st.sampled_from(WAYS))
            if by != "all" and sources and steps[sources[0]].members is not None:
                source = steps[sources[0]]
                assert source.members is not None
                members = source.members if by == "each" else len(page_sizes(source, source.members))
                # It waits for a part of one, and for a part or the whole of others.
                alike = [steps[each].members == members and draw(st.booleans()) for each in sources[1:]]
                others = zip(sources[1:], alike, strict=True)
                edges = (Edge(sources[0], by), *(Edge(each, "each" if same else "all") for each, same in others))
            elif bool(sources) and bool(draw(st.booleans())):
                members, sizes[name] = None, draw(st.integers(0, 5))
                edges = (Edge(sources[0], "items"), *edges[1:])
        pages = (2, 2, 1) if members == 5 and draw(st.booleans()) else ()
        steps[name] = step(
            *edges,
            members=members,
            pages=pages,
            window=draw(st.sampled_from((None, None, 1, 2))),
            tolerates=draw(st.booleans()),
            many=members != 1 or draw(st.booleans()),
        )
    last = f"s{len(steps) - 1}"
    parts = {last}
    if len(steps) > 1:
        parts |= draw(st.sets(st.sampled_from(sorted(steps)), max_size=2))
    value: tuple[Edge, ...] = (Edge(last, into=((),)),)
    if len(parts) > 1:
        value = tuple(Edge(name, into=((index,),)) for index, name in enumerate(sorted(parts)))
    steps["failed"], steps["finally"] = step(callback="failure"), step(callback="end")
    return Plan(life="l", value=value, steps=steps, deadline=DEADLINE), sizes


def step(*edges: Edge, **fields: Any) -> Step:
    return Step(edges, StepCall("tests.work", "default"), **fields)


def needed_of(plan: Plan) -> set[str]:
    """The steps without which there is no value."""
    found: set[str] = set()
    waiting = [edge.source for edge in plan.value]
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting += [edge.source for edge in plan.steps[name].edges if edge.source not in found]
    return found


@given(plans(), SEEDS, st.integers(0, 120))
@examples(400)
def test_each_member_runs_once_and_none_early_and_it_ends_with_the_value(
    made: tuple[Plan, dict[str, int]], seed: int, turns: int
) -> None:
    plan, sizes = made
    check_plan(plan)
    world = World(plan, random.Random(seed), sizes, fails={})
    world.muddle(turns)
    world.come_to_rest()
    assert (world.marks.end, world.marks.stop, world.closed) == ("value", None, True)
    for step in needed_of(plan):
        for member in range(world.members(step)):
            assert world.runs[step, member] - world.deaths[step, member] == 1
    assert world.runs["failed", 0] == 0
    assert world.runs["finally", 0] - world.deaths["finally", 0] == 1


@given(plans(), SEEDS, st.integers(0, 120), st.data())
@examples(400)
def test_what_fails_ends_it_as_failed_until_a_retry_gives_the_value(
    made: tuple[Plan, dict[str, int]], seed: int, turns: int, data: st.DataObject
) -> None:
    plan, sizes = made
    world = World(plan, random.Random(seed), sizes, fails={})
    needed = needed_of(plan)
    every = [(step, member) for step in sorted(needed) for member in range(world.members(step))]
    world.fails = dict.fromkeys(data.draw(st.lists(st.sampled_from(every), max_size=3)) if every else [], 1)
    lasting = [job for job in world.fails if not plan.steps[job[0]].tolerates]
    for _ in range(len(lasting) + 1):  # a retry may find the next one that fails
        world.muddle(turns)
        world.come_to_rest()
        if world.marks.end == "value":
            break
        assert (world.marks.end, world.closed) == ("failed", False)
        assert world.runs["failed", 0] > 0 and world.runs["finally", 0] > 0
        world.retry()
    assert (world.marks.end, world.closed) == ("value", True)
    for step in needed:
        for member in range(world.members(step)):
            job = (step, member)
            assert world.runs[job] - world.deaths[job] == 1 + world.retries[job]


@given(plans(), SEEDS, st.integers(0, 60), st.integers(0, 60))
@examples(200)
def test_after_a_cancel_nothing_begins_but_what_is_called_back(
    made: tuple[Plan, dict[str, int]], seed: int, before: int, after: int
) -> None:
    plan, sizes = made
    world = World(plan, random.Random(seed), sizes, fails={})
    world.muddle(before)
    world.cancel()
    cancelled, so_far = world.marks.stop == "cancelled", world.runs.copy()
    world.muddle(after)
    world.come_to_rest()
    assert world.closed
    if cancelled:
        assert world.marks.end is None
        assert set(world.runs - so_far) == {("finally", 0)}


@given(plans(), SEEDS, st.integers(0, 60))
@examples(200)
def test_past_its_deadline_it_expires_unless_it_had_ended(
    made: tuple[Plan, dict[str, int]], seed: int, before: int
) -> None:
    plan, sizes = made
    world = World(plan, random.Random(seed), sizes, fails={})
    world.muddle(before)
    over = world.marks.end == "value" or has_value(plan, world.marks)
    world.now = DEADLINE + 1
    world.come_to_rest()
    if over:
        assert (world.marks.end, world.closed) == ("value", True)
    else:
        assert (world.marks.stop, world.closed) == ("expired", False)
        assert world.runs["failed", 0] - world.deaths["failed", 0] == 1


def test_what_is_done_or_cannot_begin_yet_is_left_alone() -> None:
    steps = {
        "one": step(),
        "many": step(Edge("one"), members=3, many=True),
        "narrow": step(Edge("one"), members=5, many=True, window=2),
        "join": step(Edge("many"), Edge("narrow")),
    }
    plan = ending_with("join", steps)
    assert list(evaluate(plan, Marks(), 0.0)) == [Fire("one", 0)]
    marks = Marks(ok={"one": {0}})
    assert list(evaluate(plan, marks, 0.0)) == [Feed("many", 0, 3), Feed("narrow", 0, 2)]
    marks.fed, marks.ok["many"], marks.ok["narrow"] = {"many": 3, "narrow": 2}, {0, 2}, {1}
    assert list(evaluate(plan, marks, 0.0)) == [Fire("many", 1), Fire("narrow", 0), Feed("narrow", 2, 3)]
    marks.ok["many"], marks.ok["narrow"] = {0, 1, 2}, {0, 1, 2, 3, 4}
    marks.fed["narrow"] = 5
    assert list(evaluate(plan, marks, 0.0)) == [Fire("join", 0)]


def ending_with(last: str, steps: dict[str, Step]) -> Plan:
    return Plan(life="l", value=(Edge(last, into=((),)),), steps=steps, deadline=DEADLINE)


def test_a_thousand_steps_without_members_end_at_once() -> None:
    none = {"members": 0, "many": True}
    steps = {"s0": step(**none)} | {f"s{n}": step(Edge(f"s{n - 1}"), **none) for n in range(1, 1_000)}
    plan = ending_with("s999", steps)
    check_plan(plan)
    assert list(evaluate(plan, Marks(), 0.0)) == [End()]


def many(*edges: Edge, members: int | None, **fields: Any) -> Step:
    return step(*edges, members=members, many=True, **fields)


IMPOSSIBLE = {
    "its steps wait for one another": {"a": step(Edge("b")), "b": step(Edge("a"))},
    "a: it cannot wait for 'x'": {"a": step(Edge("x"))},
    "a: it cannot wait for 'b'": {"a": step(Edge("b")), "b": step(callback="end")},
    "b: it has other members than 'a'": {"a": many(members=3), "b": many(Edge("a", "each"), members=2)},
    "c: it has other members than 'b'": {
        "a": step(),
        "b": many(Edge("a", "items"), members=None),
        "c": many(Edge("b", "each"), Edge("a", "items"), members=None),
    },
    "b: it has other members than 'a' has pages": {"a": many(members=3), "b": many(Edge("a", "page"), members=2)},
    "b: one step, and no more, gives the items of its members": {"a": step(), "b": many(members=None)},
    "c: one step, and no more, gives the items of its members": {
        "a": step(),
        "c": many(Edge("a", "items"), members=2),
    },
    "d: one step, and no more, gives the items of its members": {
        "a": step(),
        "b": step(),
        "d": many(Edge("a", "items"), Edge("b", "items"), members=None),
    },
    "b: a callback is one call": {"a": step(), "b": many(members=2, callback="end")},
    "b: it has many members, and one value": {"a": step(), "b": step(members=2)},
    "b: nothing says what its members call": {"a": step(), "b": Step()},
    "b: it has a value if it fails, and fails the workflow": {"a": step(), "b": step(instead=Raw(b"1"))},
    "a: its members or its window cannot be": {"a": many(members=-1)},
    "b: its members or its window cannot be": {
        "a": many(Edge("b", "page"), members=2),
        "b": many(members=2**62),  # whose pages alone would take the memory of the machine
    },
    "a: its pages do not hold its members": {"a": many(members=3, pages=(2, 2))},
    "a plan has 1 to 1,000 steps, not 0": {},
    "'a' is no step of its work": {"b": step()},
    "'b.c' is no name of a life or a step": {"a": step(), "b.c": step()},
    "'b c' is no name of a life or a step": {"a": step(), "b c": step()},
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_a_plan_that_cannot_be_followed_is_refused_in_words(said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        check_plan(ending_with("a", IMPOSSIBLE[said]))


def test_a_plan_whose_life_is_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^'a\.>' is no name of a life or a step$"):
        check_plan(Plan(life="a.>", value=(Edge("a"),), steps={"a": step()}, deadline=DEADLINE))


def test_a_plan_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^'' is no step of its work$"):
        check_plan(Plan(life="l", value=(), steps={"a": step()}, deadline=DEADLINE))
