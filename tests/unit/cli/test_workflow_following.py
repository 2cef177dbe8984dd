"""The progress of a workflow: a tree in its own place on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, cast

import pytest

from jetq.cli import workflow_following
from jetq.cli.workflow_following import follow_workflow
from jetq.encoding.sealer import Sealer
from jetq.model.workflows.plan import Edge, Plan, Step, StepCall
from jetq.model.workflows.records import StepState, WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.views.viewing import WorkflowView

CALL = StepCall("tests.any", "default")
PLAN = Plan(
    life="0192abcdef0000",
    value=(Edge("second"),),
    steps={"first": Step(call=CALL, members=3, many=True), "second": Step(edges=(Edge("first"),), call=CALL)},
    deadline=4e9,
)


def seen(state: WorkflowState, done: int, second: StepState = "waiting") -> WorkflowView:
    steps = {
        "first": StepView("first", "succeeded" if done == 3 else "running", done, 0, 3),
        "second": StepView("second", second, int(second == "succeeded"), 0, 1),
    }
    return WorkflowView("w", "default", state, steps, PLAN)


def followed(monkeypatch: pytest.MonkeyPatch, *views: WorkflowView) -> WorkflowView:
    left = list(views)

    async def view_workflow(*_: object) -> WorkflowView:
        return left.pop(0)

    monkeypatch.setattr(workflow_following, "view_workflow", view_workflow)
    monkeypatch.setattr(workflow_following, "LOOK_EVERY", 0.0)
    end = asyncio.run(follow_workflow(cast("Any", None), Sealer(None), "w"))
    assert not left
    return end


COURSE: Sequence[WorkflowView] = (
    seen("running", 1),
    seen("running", 1),
    seen("running", 3, "running"),
    seen("succeeded", 3, "succeeded"),
)


def test_elsewhere_each_change_of_a_step_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert followed(monkeypatch, *COURSE) is COURSE[-1]
    assert capsys.readouterr().out.splitlines() == [
        "first  running  1/3",
        "second  waiting  0/1",
        "first  succeeded  3/3",
        "second  running  0/1",
        "second  succeeded  1/1",
    ]


def test_on_a_terminal_the_tree_takes_the_place_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    followed(monkeypatch, COURSE[0], COURSE[-1])
    first, second = capsys.readouterr().out.split("\x1b[2F\x1b[J")
    assert first == "first     running    1/3\n  second  waiting    0/1\n"
    assert second == "first     succeeded  3/3\n  second  succeeded  1/1\n"


def test_a_tree_is_not_larger_than_its_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "2")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    followed(monkeypatch, COURSE[0], COURSE[-1])
    assert capsys.readouterr().out == "  second  waiting  \n\x1b[1F\x1b[J  second  succeeded\n"
