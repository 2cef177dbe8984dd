"""Any work: its steps give the value that its calls give one by one, and each call is made once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from jetq import Call, Task, Work, each, group, task
from jetq.client.workflows.parts import Called, Each, Group, Input, all_sources, in_order
from jetq.client.workflows.shape import Shape, shape
from jetq.encoding.filling import filled, whole
from jetq.model.workflows.plan import PAGE, Edge, Plan, Step, check_plan, page_sizes
from tests.apps.fresh import own_tasks
from tests.unit.properties.examples import examples

own: dict[str, Task[..., Any]] = {}
decode = partial(msgspec.json.decode, strict=True)
raw = Raw


@pytest.fixture(scope="module", autouse=True)
def tasks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        own_tasks(patch)
        for name in "fgh":

            def fn(x: Any = None, *rest: Any, **named: Any) -> Any: ...

            own[name] = task(name=f"tests.{name}")(fn)
        yield


# --- what it gives, by the calls one by one


class ByCalls:
    """Evaluates a work as its author reads it."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.runs = 0

    def of(self, work: Work[Any]) -> Any:
        for one in in_order(work, all_sources):
            if id(one) not in self.values:
                self.values[id(one)] = self.one(one)
        return self.values[id(work)]

    def one(self, work: Work[Any]) -> Any:
        match work:
            case Call():
                return self.run(work.task, work.body, ())
            case Called():
                return self.run(work.call.task, work.call.body, work.inputs)
            case Group():
                return [self.values[id(member)] for member in work.members]
            case Each(call=None):
                return []
            case Each(call=Call() as call, bodies=None):
                (items,) = (one for one in work.inputs if one.item)
                return [self.run(call.task, call.body, work.inputs, n) for n in range(len(self.values[id(items.work)]))]
            case Each(call=Call() as call, bodies=bodies):
                return [self.run(call.task, body, work.inputs) for body in bodies or ()]
        raise AssertionError(work)

    def run(self, name: str, body: bytes, inputs: Sequence[Input], item: int = 0) -> Any:
        self.runs += 1
        arguments = decode(body)
        for one in inputs:
            value = self.values[id(one.work)]
            for spot in one.spots:
                put(arguments, spot, value[item] if one.item else value)
        return [name, arguments]


def put(holder: Any, spot: Sequence[str | int], value: Any) -> None:
    for step in spot[:-1]:
        holder = holder[step]
    holder[spot[-1]] = value


# --- what it gives, by its steps


class BySteps:
    """Evaluates a plan as workers do: each member of each step by itself."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.values: dict[str, list[bytes]] = {}
        self.runs = 0
        for name, step in shape.steps.items():
            if not step.callback:
                self.values[name] = [self.run(name, step, member) for member in range(self.members(step))]

    def members(self, step: Step) -> int:
        if step.members is not None:
            return step.members
        (items,) = (edge for edge in step.edges if edge.by == "items")
        return len(decode(self.value(items.source)))

    def run(self, name: str, step: Step, member: int) -> bytes:
        self.runs += 1
        assert step.call is not None
        body = bytes(step.call.body) if step.call.body else self.shape.bodies[name][member]
        values = [(spot, raw(self.taken(edge, member))) for edge in step.edges for spot in edge.into]
        return msgspec.json.encode([step.call.task, raw(filled(body, values))])

    def taken(self, edge: Edge, member: int) -> bytes:
        match edge.by:
            case "all":
                return self.value(edge.source)
            case "each":
                return self.values[edge.source][member]
            case "items":
                return msgspec.json.encode(decode(self.value(edge.source))[member])
            case "page":
                return self.page(edge.source, member)

    def value(self, name: str) -> bytes:
        step = self.shape.steps[name]
        if not step.many:
            return self.values[name][0]
        if step.pages:
            return listed([self.page(name, page) for page in range(len(step.pages))])
        return listed(self.values[name])

    def page(self, name: str, page: int) -> bytes:
        values = self.values[name]
        sizes = page_sizes(self.shape.steps[name], len(values))
        start = sum(sizes[:page])
        return listed(values[start : start + sizes[page]])

    def result(self) -> Any:
        return decode(whole((spot, raw(self.value(edge.source))) for edge in self.shape.value for spot in edge.into))


def listed(values: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"


# --- any work


def many(fn: Any, *args: Any) -> Work[Any]:
    made: Work[Any] = cast(Any, each)(fn, *args)
    return made


class Author:
    """Puts works together as people do, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.works: list[Work[Any]] = [self.task().bind(0)]

    def task(self) -> Task[..., Any]:
        return own[self.chance.choice("fgh")]

    def any(self) -> Work[Any]:
        return self.chance.choice(self.works[-6:])

    def write(self, steps: int) -> Work[Any]:
        for _ in range(steps):
            self.works.append(self.write_one())
        return self.works[-1]

    def write_one(self) -> Work[Any]:
        chance, f, g = self.chance, self.task(), self.task()
        some = range(chance.choice((0, 1, 2, 3)))
        match chance.randrange(14):
            case 0:
                return f.bind(chance.randrange(3))
            case 1:
                return f.bind(self.any().out, [1, self.any().out], k={"a": (self.any().out, 2)})
            case 2:
                return self.any() | f
            case 3:
                return self.any() | self.any()
            case 4:
                return group(self.any() for _ in some)
            case 5:
                return group(f.bind(n) | g for n in some) | f
            case 6:
                return group(group(f.bind([n, m]) for m in range(chance.randrange(3))) | g for n in some)
            case 7:
                shared = self.any()
                return group(f.bind(shared.out, n) | g for n in some) | g
            case 8:
                return many(f, [chance.randrange(3) for _ in some], self.any().out)
            case 9:
                return each(f, self.any().out, k=self.any().out)
            case 10:
                return group(group([f.bind(x.out, 1), g.bind(x.out, n)]) | g for n, x in enumerate(map(f.bind, some)))
            case 11:
                return each(f, [self.any().out, 1, self.any().out])
            case 12:
                return self.any().after(self.any())
            case _:
                return group(each(f, range(chance.randrange(3))) | g for _ in some)


@given(st.integers(0, 2**32), st.integers(1, 12))
@examples(1_000)
def test_the_steps_give_what_the_calls_give_and_none_is_made_twice(seed: int, steps: int) -> None:
    work = Author(random.Random(seed)).write(steps)
    by_calls, made = ByCalls(), shape(work)
    check_plan(Plan(life="l", value=made.value, steps=made.steps, deadline=1.0))
    value = by_calls.of(work)
    by_steps = BySteps(made)
    assert by_steps.result() == value
    assert by_steps.runs == by_calls.runs
    assert all(len(bodies) == made.steps[name].members for name, bodies in made.bodies.items())


@given(st.integers(0, 2**32))
@examples(50)
def test_chains_of_one_shape_are_the_members_of_two_steps(seed: int) -> None:
    count = random.Random(seed).choice((1, 2, PAGE, PAGE + 1))
    made = shape(group(own["f"].bind(n) | own["g"] for n in range(count)) | own["h"])
    assert [step.members for step in made.steps.values()] == [count, count, 1]
