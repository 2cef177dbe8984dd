"""The drawings of a workflow's steps, for a terminal and as a flowchart."""

from __future__ import annotations

from collections.abc import Mapping

from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Edge, Plan, Step, StepCall
from jetq.model.workflows.records import StepState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.views.drawing import draw_flowchart, draw_tree

CALL = StepCall("tests.any", "default")


def plan(value: str, /, **steps: Step) -> Plan:
    return Plan(life="0192abcdef0000", value=(Edge(value),), steps=steps, deadline=4e9)


def after(*sources: str) -> Step:
    return Step(edges=tuple(map(Edge, sources)), call=CALL)


def views(plan: Plan, **given: StepView) -> Mapping[str, StepView]:
    return {name: given.get(name, StepView(name, "waiting", 0, 0, 1)) for name in plan.steps}


def view(name: str, state: StepState, done: int, failed: int = 0, total: int | None = 1, *said: Failure) -> StepView:
    return StepView(name, state, done, failed, total, said)


def test_a_step_stands_below_what_it_waits_for_with_its_state_and_counts() -> None:
    flow = plan(
        "total",
        split=Step(call=CALL),
        transcode=Step(edges=(Edge("split", "items"),), call=CALL, members=None, many=True),
        total=after("transcode"),
    )
    seen = views(
        flow,
        split=view("split", "succeeded", 1),
        transcode=view("transcode", "running", 3, total=25),
        total=view("total", "waiting", 0),
    )
    assert draw_tree(seen, flow) == [
        "split        succeeded  1/1",
        "  transcode  running    3/25",
        "    total    waiting    0/1",
    ]


def test_a_number_that_nobody_knows_is_a_question_mark() -> None:
    flow = plan("many", many=Step(call=CALL, members=None, many=True, edges=()))
    assert draw_tree(views(flow, many=view("many", "waiting", 0, total=None)), flow) == ["many  waiting    0/?"]


def test_a_step_of_several_sources_stands_once_below_the_last_to_begin() -> None:
    flow = plan("end", a=after(), b=after(), c=after("b"), end=after("a", "b", "c"))
    assert draw_tree(views(flow), flow) == [
        "a        waiting    0/1",
        "b        waiting    0/1",
        "  c      waiting    0/1",
        "    end  waiting    0/1, also after a b",
    ]


def test_of_many_sources_only_some_are_named() -> None:
    flow = plan("end", **{f"s{n}": after() for n in range(6)}, end=after(*(f"s{n}" for n in range(6))))
    assert draw_tree(views(flow), flow)[1] == "  end  waiting    0/1, also after s1 s2 s3 and 2 more"


def test_two_edges_of_one_source_are_one_source() -> None:
    flow = plan("end", a=after(), b=after("a"), end=after("b", "a", "a"))
    assert draw_tree(views(flow), flow)[2] == "    end  waiting    0/1, also after a"


def test_callbacks_come_last_and_say_when() -> None:
    flow = plan(
        "work",
        books=Step(call=CALL, callback="end"),
        page=Step(call=CALL, callback="failure"),
        work=after(),
        more=after("work"),
    )
    assert draw_tree(views(flow), flow) == [
        "work    waiting    0/1",
        "  more  waiting    0/1",
        "books   waiting    0/1, at its end",
        "page    waiting    0/1, if it fails",
    ]


def test_the_first_failures_stand_below_a_step_each_on_one_line() -> None:
    flow = plan("many", many=Step(call=CALL, members=9, many=True))
    failures = [Failure("many", n, "failed", "builtins.ValueError", f"no\n {n}") for n in (1, 4, 5, 7)]
    failures[1] = Failure("many", 4, "timeout", "", "x" * 300)
    seen = view("many", "failed", 5, 4, 9, *failures)
    assert draw_tree({"many": seen}, flow) == [
        "many  failed     5/9, 4 failed",
        "    member 1: builtins.ValueError: no 1",
        f"    member 4: timeout: {'x' * 190}…",
        "    member 5: builtins.ValueError: no 5",
        "    and 1 more",
    ]


def test_a_failure_of_the_only_member_names_no_member() -> None:
    seen = view("one", "failed", 0, 1, 1, Failure("one", 0, "failed", "builtins.ValueError", "no"))
    assert draw_tree({"one": seen})[1:] == ["    builtins.ValueError: no"]


def test_without_a_plan_the_steps_stand_one_below_the_other() -> None:
    seen = {"a": view("a", "succeeded", 1), "longer": view("longer", "failed", 0, 1)}
    assert draw_tree(seen) == ["a       succeeded  1/1", "longer  failed     0/1, 1 failed"]
    assert draw_tree({}) == []


def test_the_longest_chain_is_drawn_and_not_indented_without_end() -> None:
    names = [f"s{n}" for n in range(1_000)]
    flow = plan(names[-1], **{name: after(*names[max(0, n - 1) : n]) for n, name in enumerate(names)})
    lines = draw_tree(views(flow), flow)
    assert len(lines) == 1_000
    assert lines[-1] == f"{' ' * 24}s999  waiting    0/1"


def test_a_flowchart_has_each_step_with_its_state_and_each_edge() -> None:
    flow = plan(
        "total",
        split=Step(call=CALL),
        each=Step(edges=(Edge("split", "items"),), call=CALL, members=None, many=True),
        total=after("each"),
        page=Step(call=CALL, callback="failure"),
    )
    seen = views(flow, split=view("split", "succeeded", 1), each=view("each", "running", 3, 1, 25))
    lines = draw_flowchart(seen, flow).splitlines()
    assert lines[:-6] == [
        "flowchart TD",
        '    s0["split<br/>1/1"]:::succeeded',
        '    s1["each<br/>3/25, 1 failed"]:::running',
        '    s2["total<br/>0/1"]:::waiting',
        '    s3(["page<br/>0/1"]):::waiting',
        "    s0 -->|for each item| s1",
        "    s1 --> s2",
        "    s2 -. if it fails .-> s3",
    ]
    assert [line.split()[:2] for line in lines[-6:]] == [
        ["classDef", state] for state in ("waiting", "running", "succeeded", "failed", "cancelled", "expired")
    ]


def test_members_that_follow_members_are_said_at_their_edge() -> None:
    many = Step(call=CALL, members=2, many=True)
    flow = plan(
        "b", a=many, b=Step(edges=(Edge("a", "each"),), call=CALL, members=2, many=True),
        c=Step(edges=(Edge("a", "page"),), call=CALL, members=1, many=True),
    )  # fmt: skip
    drawn = draw_flowchart(views(flow), flow)
    assert "    s0 -->|each| s1\n    s0 -->|each group| s2\n" in drawn


def test_a_name_cannot_be_more_than_a_text_of_a_flowchart() -> None:
    steps = {'x"]; click s0 "javascript:alert(1)"': Step(call=CALL)}
    flow = plan(next(iter(steps)), **steps)
    label = draw_flowchart(views(flow), flow).splitlines()[1]
    assert label == '    s0["x#34;#93;#59; click s0 #34;javascript:alert#40;1#41;#34;<br/>0/1"]:::waiting'
