"""Putting calls together: what each method gives, and the mistakes that are refused where they are written."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import operator
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

import jetq
from jetq import ArgumentError, Call, Jetq, Task, Work, WorkflowError, each, group, task
from jetq.client.workflows.inputs import Placeholder
from jetq.client.workflows.parts import Called
from jetq.client.workflows.shape import Shape, shape
from tests.apps.fresh import no_app_yet, own_tasks


@dataclass
class Order:
    id: str
    lines: list[str]


class Tasks:
    fetch: Task[[str], str]
    words: Any
    total: Any
    store: Any
    collect: Any
    keyed: Any
    opaque: Any


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Tasks]]:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)

    def fetch(url: str) -> str: ...  # type: ignore[empty-body]

    def words(page: str, minimum: int = 3) -> int: ...  # type: ignore[empty-body]

    def total(counts: list[int], title: str = "") -> int: ...  # type: ignore[empty-body]

    def store(order: Order, at: Path) -> None: ...

    def collect(*parts: int, **named: dict[str, list[int]]) -> None: ...

    def keyed(user: int) -> int: ...  # type: ignore[empty-body]

    def opaque(value: Any, other=None): ...  # type: ignore[no-untyped-def]

    for fn in (fetch, words, total, store, collect, opaque):
        setattr(Tasks, fn.__name__, task(name=f"tests.{fn.__name__}")(fn))
    Tasks.keyed = task(name="tests.keyed", key="sync:{user}")(keyed)
    yield Tasks


def steps(work: Work[Any]) -> dict[str, Any]:
    return dict(shape(work).steps)


def spots(made: Shape, step: str) -> dict[str, tuple[Any, ...]]:
    return {edge.source: edge.into for edge in made.steps[step].edges}


def body(made: Shape, step: str) -> bytes:
    call = made.steps[step].call
    assert call is not None and call.body
    return bytes(call.body)


# --- the value of another


def test_a_value_goes_wherever_lists_tuples_and_dicts_reach(tasks: type[Tasks]) -> None:
    a, b = tasks.fetch.bind("a") | tasks.words, tasks.fetch.bind("b") | tasks.words
    made = shape(tasks.collect.bind(a.out, 2, b.out, k={"x": [1, a.out], "y": [b.out]}))
    assert spots(made, "collect") == {
        "words": (("parts", 0), ("named", "k", "x", 1)),
        "words-2": (("parts", 2), ("named", "k", "y", 0)),
    }
    assert body(made, "collect") == b'{"parts":[null,2,null],"named":{"k":{"x":[1,null],"y":[null]}}}'


def test_a_value_by_name_or_place_stands_alone(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    for call in (tasks.words.bind(page.out), tasks.words.bind(page=page.out), page | tasks.words):
        made = shape(call)
        assert spots(made, "words") == {"fetch": (("page",),)}
        assert body(made, "words") == b"{}"


def test_what_stands_beside_a_value_is_checked_where_it_is_written(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    with pytest.raises(ArgumentError, match=r"tests.words\(page: str, minimum: int = 3\): minimum: expected int"):
        tasks.words.bind(page.out, "3")
    with pytest.raises(ArgumentError, match="missing"):
        tasks.store.bind(at=page.out)
    with pytest.raises(ArgumentError, match="nothing"):
        tasks.words.bind(page.out, nothing=1)
    with pytest.raises(ArgumentError, match="cannot encode"):
        tasks.total.bind([page.out, object()])
    with pytest.raises(ArgumentError, match="order"):
        tasks.store.bind(Order("1", [1]), at=page.out)  # type: ignore[list-item]
    made = shape(tasks.store.bind(Order("1", ["a"]), at=page.out))
    assert body(made, "store") == b'{"order":{"id":"1","lines":["a"]}}'


def test_a_value_within_another_object_is_refused_where_it_is_written(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    with pytest.raises(ArgumentError):
        tasks.store.bind(Order(page.out, []), at=Path("x"))
    with pytest.raises(WorkflowError):
        tasks.opaque.bind({page.out})
    with pytest.raises(WorkflowError):
        tasks.opaque.bind({page.out: 1})
    nested: list[Any] = [page.out]
    nested.append(nested)
    with pytest.raises(ArgumentError, match="nested deeper"):
        tasks.opaque.bind(nested)
    circular: list[Any] = []
    circular += [circular, circular]
    with pytest.raises(ArgumentError):
        tasks.opaque.bind(circular)


def test_without_a_value_the_errors_of_a_call_are_those_of_always(tasks: type[Tasks]) -> None:
    with pytest.raises(ArgumentError, match="expected str") as told:
        cast("Any", tasks.fetch).bind(3)
    assert told.value.__cause__ is None


USES: dict[str, Callable[[Any], Any]] = {
    "if": lambda value: 1 if value else 2,
    "not": lambda value: not value,
    "and": lambda value: value and 1,
    "str": str,
    "f-string": lambda value: f"{value}",
    "f-string with a format": lambda value: f"{value:>3}",
    "%": lambda value: "%s" % value,  # noqa: UP031
    "format": "{}".format,
    "list": list,
    "for": lambda value: [each for each in value],
    "unpack": lambda value: (*value,),
    "dict": dict,
    "len": len,
    "sum": lambda value: sum([value]),
    "sorted": lambda value: sorted([value, value]),
    "max": lambda value: max([value, 1]),
    "attribute": lambda value: value.url,
    "method": lambda value: value.upper(),
    "setting": lambda value: setattr(value, "url", 1),
    "item": lambda value: value[0],
    "slice": lambda value: value[1:],
    "setting an item": lambda value: operator.setitem(value, 0, 1),
    "deleting an item": lambda value: operator.delitem(value, 0),
    "in": lambda value: 1 in value,
    "equal": lambda value: value == 1,
    "unequal": lambda value: value != 1,
    "equal, the other way": lambda value: value == 1,
    "less": lambda value: value < 1,
    "greater, from the right": lambda value: 1 > value,
    "hash": hash,
    "set": lambda value: {value},
    "int": int,
    "float": float,
    "index": lambda value: [1, 2][value],
    "round": round,
    "ceil": math.ceil,
    "add": lambda value: value + 1,
    "add, from the right": lambda value: 1 + value,
    "text and value": lambda value: "a" + value,
    "times": lambda value: value * 2,
    "divided": lambda value: value / 2,
    "negative": operator.neg,
    "or": lambda value: value | 1,
    "call": lambda value: value(),
    "with": lambda value: value.__enter__(),
    "await": lambda value: value.__await__(),
    "path": lambda value: Path("a") / value,
    "open": open,
    "bytes": bytes,
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "match": lambda value: _matched(value),
    "+=": lambda value: value.__iadd__(1),
    "delay": lambda value: value.delay(),
    "after": lambda value: value.after(),
}


def _matched(value: Any) -> int:
    match value:
        case 1:
            return 1
        case _:
            return 2


@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_value_that_does_not_exist_yet_is_refused(tasks: type[Tasks], use: str) -> None:
    with pytest.raises((WorkflowError, AttributeError if use == "setting" else WorkflowError)):
        USES[use](tasks.fetch.bind("a").out)


def test_tools_may_look_at_the_placeholder(tasks: type[Tasks], caplog: pytest.LogCaptureFixture) -> None:
    value: Any = tasks.fetch.bind("a").out
    assert repr(value) == "<the value of a step>"
    assert repr([value]) == "[<the value of a step>]"
    assert isinstance(value, Placeholder)
    assert not callable(getattr(value, "__wrapped__", None))
    inspect.isawaitable(value)
    with caplog.at_level(logging.INFO):
        logging.getLogger("tests").info("%r", value)


# --- one after the other


def test_a_task_gets_the_value_and_a_work_only_waits(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    made = shape(page | tasks.words | tasks.collect.bind(1))
    assert spots(made, "words") == {"fetch": (("page",),)}
    assert spots(made, "collect") == {"words": ()}
    made = shape(page | tasks.words.options(queue="slow"))
    assert made.steps["words"].call is not None and made.steps["words"].call.queue == "slow"


def test_what_is_no_task_and_no_work_cannot_follow(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    for wrong in (print, "words", None, page.out, inspect.signature(print)):
        with pytest.raises(WorkflowError):
            page | wrong  # type: ignore[operator]
    with pytest.raises(ArgumentError):
        page | tasks.store


def test_all_first_calls_begin_after_the_others(tasks: type[Tasks]) -> None:
    before = tasks.keyed.options(key=None).bind(1)
    pages = group(tasks.fetch.bind(url) | tasks.words for url in "abc")
    made = shape((pages | tasks.total).after(before))
    assert spots(made, "fetch") == {"keyed": ()}
    assert spots(made, "words") == {"fetch": (("page",),)}
    assert spots(made, "total") == {"words": (("counts",),)}
    made = shape((tasks.fetch.bind("a") | tasks.words).after(before).after(tasks.fetch.bind("b")))
    assert spots(made, "keyed") == {"fetch": ()}


def test_a_work_stays_as_it_was(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    chain = page | tasks.words
    chain.named("x"), chain.after(page), chain.or_else(1), chain.finally_(page), group([page]).settled()
    assert list(steps(chain)) == ["fetch", "words"]
    assert not any(step.callback or step.tolerates or step.instead for step in steps(chain).values())
    assert steps(page) == steps(tasks.fetch.bind("a"))


def test_one_work_at_several_places_is_one_step(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    one, two = page | tasks.words, tasks.words.bind(page.out, 5)
    assert list(steps(tasks.total.bind([one.out, two.out, one.out]))) == ["fetch", "words", "words-2", "total"]


# --- names


def test_steps_are_called_as_they_say_or_like_their_tasks(tasks: type[Tasks]) -> None:
    work = tasks.total.bind([(tasks.fetch.bind(url) | tasks.words).named(f"count-{url}").out for url in "ab"])
    assert list(steps(work)) == ["fetch", "count-a", "fetch-2", "count-b", "total"]
    auto = tasks.total.bind([tasks.words.bind("a").out, tasks.words.bind("b").named("words").out])
    assert list(steps(auto)) == ["words-2", "words", "total"]
    twice = tasks.total.bind([tasks.words.bind(each).named("w").out for each in "ab"])
    with pytest.raises(WorkflowError, match="two steps are named 'w'"):
        shape(twice)
    for wrong in ("", "a b", "a.b", "x" * 37, "é", "*", 3):
        with pytest.raises(WorkflowError, match="1 to 36 letters"):
            tasks.fetch.bind("a").named(wrong)  # type: ignore[arg-type]


def test_the_name_of_a_group_is_that_of_its_last_step(tasks: type[Tasks]) -> None:
    counts = group(tasks.fetch.bind(url) | tasks.words for url in "ab").named("counts")
    assert list(steps(counts)) == ["fetch", "counts"]
    assert list(steps(each(tasks.words, ["a"]).named("counts"))) == ["counts"]
    mixed = group([tasks.fetch.bind("a"), tasks.words.bind("b")]).named("both")
    assert list(steps(mixed)) == ["both", "both-2"]


# --- many


def test_a_group_takes_works_and_nothing_else(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    for wrong in (page, tasks.fetch, 3, [tasks.fetch], ["a"], [page.out], [None]):
        with pytest.raises(WorkflowError):
            group(wrong)  # type: ignore[arg-type]
    assert steps(group([]))["group"].members == 0
    with pytest.raises(WorkflowError, match="window"):
        group([page]).window(0)
    with pytest.raises(WorkflowError, match="window"):
        shape(group([page, tasks.words.bind("b")]).window(2))


def test_each_takes_a_task_and_its_items(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    for wrong in ("abc", b"abc", 3, None, page):
        with pytest.raises(WorkflowError):
            each(tasks.fetch, wrong)  # type: ignore[arg-type]
    with pytest.raises(WorkflowError, match="calls a task"):
        each(print, ["a"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="expected str"):
        each(tasks.fetch, ["a", 3])  # type: ignore[arg-type]
    assert steps(each(tasks.fetch, []))["fetch"].members == 0
    made = shape(each(tasks.words, iter(["a", "b"]), minimum=1).window(7))
    assert (made.steps["words"].members, made.steps["words"].window) == (2, 7)
    assert made.bodies["words"] == (b'{"page":"a","minimum":1}', b'{"page":"b","minimum":1}')


def test_the_items_may_be_values(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    made = shape(each(tasks.words, page.out))
    (edge,) = made.steps["words"].edges
    assert (edge.source, edge.by, edge.into, made.steps["words"].members) == ("fetch", "items", (("page",),), None)
    made = shape(each(tasks.words, each(tasks.fetch, ["a", "b"]).out))
    (edge,) = made.steps["words"].edges
    assert (edge.by, made.steps["words"].members) == ("each", 2)
    several = each(tasks.words, [page.out, "b", (page | tasks.fetch).out])
    assert shape(several | tasks.total).steps["total"].edges[0].into == (("counts", 0),)


def test_too_many_steps_are_refused_with_their_number(tasks: type[Tasks]) -> None:
    work: Work[Any] = tasks.fetch.bind("a")
    for number in range(1_000):
        work = work | tasks.fetch.bind(str(number))
    with pytest.raises(WorkflowError, match="at most 1,000 steps, and this one has 1,001"):
        shape(work)


# --- failures and callbacks


def test_a_value_in_place_of_a_failure_covers_what_only_this_work_needs(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    made = steps((page | tasks.words).or_else(0))
    assert (made["fetch"].tolerates, made["words"].tolerates, bytes(made["words"].instead)) == (True, True, b"0")
    made = steps(tasks.total.bind([(page | tasks.words).or_else(0).out, tasks.words.bind(page.out, 9).out]))
    assert (made["fetch"].tolerates, made["words"].tolerates, made["words-2"].tolerates) == (False, True, False)
    with pytest.raises(WorkflowError, match="settled"):
        group([page]).or_else(1)
    with pytest.raises(WorkflowError, match="or_else: cannot encode"):
        page.or_else(object())


def test_settled_says_it_where_the_value_is_taken(tasks: type[Tasks]) -> None:
    pages = group([tasks.fetch.bind(url) for url in "ab"])
    made = shape(pages.settled() | tasks.opaque)
    assert made.steps["fetch"].tolerates
    assert [edge.settles for edge in made.steps["opaque"].edges] == [True]
    made = shape(tasks.opaque.bind(pages.settled().out, pages.out))
    assert not made.steps["fetch"].tolerates
    assert [edge.settles for edge in shape(pages.settled()).value] == [True]
    with pytest.raises(WorkflowError, match="inner"):
        shape(group([pages]).settled())


def test_a_list_of_unknown_size_must_be_there(tasks: type[Tasks]) -> None:
    made = steps(each(tasks.words, tasks.fetch.bind("a").out).settled())
    assert (made["fetch"].tolerates, made["words"].tolerates) == (False, True)


def test_callbacks_are_calls_and_belong_to_the_whole(tasks: type[Tasks]) -> None:
    page, tell = tasks.fetch.bind("a"), tasks.opaque.bind("failed")
    made = steps(page.on_failure(tell) | tasks.words.bind("b").finally_(tell).finally_(tell))
    assert {name: step.callback for name, step in made.items() if step.callback} == {
        "opaque": "failure",
        "opaque-2": "end",
    }
    for wrong in (tasks.opaque, page | tasks.words, group([page]), print, tasks.words.bind(page.out)):
        for attach in (page.on_failure, page.finally_):
            with pytest.raises(WorkflowError, match="callback"):
                attach(wrong)  # type: ignore[arg-type]


# --- what no step may be


def test_a_call_with_a_key_is_no_step_unless_the_key_is_taken_off(tasks: type[Tasks]) -> None:
    page = tasks.fetch.bind("a")
    keyed = tasks.keyed.bind(1)
    makers: tuple[Callable[[], Any], ...] = (
        lambda: keyed | tasks.total,
        lambda: page | keyed,
        lambda: page | tasks.keyed,
        lambda: group([keyed]),
        lambda: each(tasks.keyed, [1]),
        lambda: each(tasks.keyed, page.out),
        lambda: tasks.keyed.bind(page.out),
        lambda: keyed.after(page),
        lambda: keyed.named("x"),
        lambda: page.on_failure(keyed),
        lambda: shape(keyed),
        lambda: tasks.total.bind([keyed.out]),
        lambda: tasks.fetch.options(key="x").bind("a") | tasks.words,
    )
    for make in makers:
        with pytest.raises(WorkflowError, match="has a key"):
            shape(make())
    without = tasks.keyed.options(key=None)
    assert without.bind(1).key is None
    assert list(steps(page | without)) == ["fetch", "keyed"]


@pytest.mark.parametrize("option", [{"id": "a"}, {"delay": 5}, {"key": "k", "throttle": 5}])
def test_an_option_about_one_job_is_refused_by_name(tasks: type[Tasks], option: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match=r"has the option|has a key"):
        shape(tasks.fetch.options(**option).bind("a") | tasks.words)


def test_options_of_a_step_reach_its_jobs(tasks: type[Tasks]) -> None:
    bound = tasks.fetch.options(max_attempts=7, timeout=None, expires=60, queue="slow")
    call = steps(bound.bind("a") | tasks.words)["fetch"].call
    assert (call.meta.max_attempts, call.meta.timeout, call.expires, call.queue) == (7, None, 60.0, "slow")
    made = steps(group([bound.bind("a"), tasks.fetch.bind("a")]))
    assert len(made) == 2


def test_a_work_is_no_call(tasks: type[Tasks]) -> None:
    app = Jetq()
    work = tasks.words.bind(tasks.fetch.bind("a").out)
    assert isinstance(work, Called) and not isinstance(work, Call)
    with pytest.raises(ArgumentError, match="waits for others"):
        app.enqueue(cast("Call[Any]", work))
    with pytest.raises(ArgumentError, match="waits for others"):
        app.enqueue(cast("Call[Any]", group([tasks.fetch.bind("a")])))


def test_no_argument_is_shown(tasks: type[Tasks]) -> None:
    secret = "sesame"
    page = tasks.fetch.bind(secret)
    for work in (page, page | tasks.words, group([page]), each(tasks.fetch, [secret]), page.or_else(secret)):
        assert secret not in repr(work)


def test_the_public_names_are_there() -> None:
    assert isinstance(jetq.group([]), jetq.Many)
    assert issubclass(jetq.Many, jetq.Work)
