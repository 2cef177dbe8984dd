"""`jetq workflow`: listing workflows, and showing their steps as a tree, as a flowchart and as they go on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from jetq import Jetq
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import encode_closed, encode_plan
from jetq.model.workflows import names
from jetq.model.workflows.plan import Edge, Plan, Step, StepCall
from jetq.model.workflows.records import Closed, Totals
from tests.e2e.cli.commands import one_line
from tests.e2e.project import Project

FLOWS = """
import os, sys
from jetq import Jetq, each, task

app = Jetq()

@task
async def split(text: str) -> list[str]:
    return text.split()

@task(max_attempts=1)
async def size(word: str) -> int:
    if word == "bad" and not os.path.exists("mended"):
        raise ValueError(f"no {word}")
    return len(word)

@task
async def total(sizes: list[int]) -> int:
    return sum(sizes)

@task
async def books() -> None:
    pass

@task(queue="slow")
async def add(a: int, b: int) -> int:
    return a + b

def words(text):
    return (each(size, split.bind(text).out) | total).finally_(books.bind())

if __name__ == "__main__":
    for id, text in zip(sys.argv[1::2], sys.argv[2::2]):
        (add.bind(1, 2).named("sum") if text == "ADD" else words(text)).delay(id=id)
"""


@pytest.fixture
def flows(project: Project) -> Project:
    project.write("flows.py", FLOWS)
    return project


def store(project: Project, *ids_and_texts: str) -> None:
    ran = subprocess.run(
        [sys.executable, "flows.py", *ids_and_texts],
        cwd=project.directory, env=project.environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def run(project: Project) -> None:
    done = project.jetq("worker", "flows", "--burst", "--no-plugins")
    assert done.returncode == 0, done.stderr


def test_nothing_is_stored_yet(project: Project) -> None:
    assert project.jetq("workflow", "ls").stdout == "no workflows yet: .delay() of a work stores one\n"
    assert project.jetq("workflow", "ls", "--json").stdout == "[]\n"
    assert project.jetq("workflow", "ls", "--state", "failed").stdout == "no such workflow stands\n"
    missing = project.jetq("workflow", "show", "nope")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: no workflow nope is stored\nhint: ")
    assert one_line(project.jetq("workflow", "show", "no such id").stderr).startswith("error: workflow id 'no such id'")
    both = project.jetq("workflow", "show", "x", "--json", "--mermaid")
    assert (both.returncode, both.stderr.splitlines()[0]) == (
        2, "error: --mermaid, --follow and --json exclude each other",
    )  # fmt: skip


def test_workflows_are_listed_the_newest_first(flows: Project) -> None:
    store(flows, "b-first", "one two", "a-second", "one bad")
    run(flows)
    store(flows, "c-third", "ADD")
    header, *rows = flows.jetq("workflow", "ls").stdout.splitlines()
    assert header.split() == ["WORKFLOW", "QUEUE", "STATE", "STEPS", "AGE"]
    assert [row.split()[:4] for row in rows] == [
        ["c-third", "slow", "running", "0/1"],
        ["a-second", "default", "failed", "2/4"],
        ["b-first", "default", "succeeded", "4/4"],
    ]

    def listed(*words: str) -> list[str]:
        return [each["id"] for each in json.loads(flows.jetq("workflow", "ls", "--json", *words).stdout)]

    assert listed("--limit", "2") == ["c-third", "a-second"]
    assert listed("-q", "default") == ["a-second", "b-first"]
    assert listed("--state", "succeeded") == ["b-first"]
    assert listed("--state", "failed", "-q", "slow") == []
    first = json.loads(flows.jetq("workflow", "ls", "--json", "--limit", "1").stdout)[0]
    assert {name: first[name] for name in ("queue", "state", "done", "total")} == {
        "queue": "slow", "state": "running", "done": 0, "total": 1,
    }  # fmt: skip


def test_a_schedule_of_a_workflow_says_which_steps_it_has(flows: Project) -> None:
    (flows.directory / "nights.py").write_text(
        "from flows import add, app, words\n"
        "app.schedule('nightly', words('one two'), cron='0 2 * * *')\n"
        "app.schedule('sum', add.bind(1, 2), every=3600)\n"
    )
    ran = subprocess.run(
        [sys.executable, "nights.py"], cwd=flows.directory, env=flows.environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    rows = {row.split()[0]: row for row in flows.jetq("schedule", "ls").stdout.splitlines()}
    assert rows["nightly"].endswith("  workflow: split, size, total, books")
    assert rows["sum"].endswith("  flows.add")
    shown = flows.jetq("schedule", "show", "nightly").stdout.splitlines()
    assert "workflow  split, size, total, books" in shown
    assert not [line for line in shown if line.startswith(("task", "arguments"))]
    listed = {each["name"]: each for each in json.loads(flows.jetq("schedule", "ls", "--json").stdout)}
    assert (listed["nightly"]["steps"], listed["nightly"]["arguments"]) == (["split", "size", "total", "books"], None)
    assert (listed["sum"]["steps"], listed["sum"]["arguments"]) == (None, {"a": 1, "b": 2})
    job = flows.jetq("schedule", "run", "nightly").stdout.strip()
    run(flows)
    assert flows.jetq("workflow", "show", f"nightly-{job}").stdout.splitlines()[2] == "state     succeeded"


def test_a_workflow_is_shown_with_its_steps_and_their_failures(flows: Project) -> None:
    store(flows, "w", "one bad three")
    before = flows.jetq("workflow", "show", "w").stdout.splitlines()
    assert before[:3] == ["workflow  w", "queue     default", "state     running"]
    assert [line.split()[0] for line in before[3:5]] == ["began", "deadline"]
    assert before[5:] == [
        "steps",
        "  split      running    0/1",
        "    size     waiting    0/?",
        "      total  waiting    0/1",
        "  books      waiting    0/1, at its end",
    ]
    run(flows)
    after = flows.jetq("workflow", "show", "w").stdout.splitlines()
    assert after[2] == "state     failed"
    assert after[after.index("steps") + 1 :] == [
        "  split      succeeded  1/1",
        "    size     failed     2/3, 1 failed",
        "        member 1: builtins.ValueError: no bad",
        "      total  waiting    0/1",
        "  books      succeeded  1/1, at its end",
    ]
    shown = json.loads(flows.jetq("workflow", "show", "w", "--json").stdout)
    assert (shown["id"], shown["state"], [each["name"] for each in shown["steps"]]) == (
        "w", "failed", ["split", "size", "total", "books"],
    )  # fmt: skip
    assert shown["began"] < shown["ended"] < shown["deadline"]
    assert shown["steps"][1] == {
        "name": "size", "state": "failed", "done": 2, "failed": 1, "total": 3, "after": ["split"],
        "failures": [
            {"step": "size", "index": 1, "reason": "failed", "type": "builtins.ValueError", "message": "no bad"}
        ],
    }  # fmt: skip


def test_a_workflow_is_printed_as_a_flowchart(flows: Project) -> None:
    store(flows, "w", "one two")
    lines = flows.jetq("workflow", "show", "w", "--mermaid").stdout.splitlines()
    assert lines[0] == "flowchart TD"
    assert '    s0["split<br/>0/1"]:::running' in lines
    assert "    s0 -->|for each item| s1" in lines


def test_a_workflow_is_followed_to_its_end(flows: Project) -> None:
    store(flows, "w", "one two")
    with flows.running("workflow", "show", "w", "--follow") as following:
        following.wait_for("split  running  0/1")
        run(flows)
        following.wait_for("workflow w has succeeded")
        assert following.end() == 0
    assert {"split  succeeded  1/1", "size  succeeded  2/2", "total  succeeded  1/1"} <= set(following.output)
    assert len(set(following.output)) == len(following.output)


def test_the_end_of_a_failed_workflow_is_an_exit_code(flows: Project) -> None:
    store(flows, "w", "bad")
    run(flows)
    followed = flows.jetq("workflow", "show", "w", "-f")
    assert followed.returncode == 1
    assert one_line(followed.stderr) == "error: workflow w has not succeeded: it is failed"


def write_plans(project: Project, nats_url: str, plans: Mapping[str, bytes]) -> None:
    app = Jetq(nats_url, namespace=project.environment["JETQ_NAMESPACE"])

    async def write() -> None:
        broker = await app.session.broker()
        for id, plan in plans.items():
            await broker.write_entry(names.plan("default", id), plan)
        await app.session.aclose()

    asyncio.run(write())


def test_a_plan_that_anyone_may_have_written_is_shown_or_refused_with_words(project: Project, nats_url: str) -> None:
    steps = {"one": Step(call=StepCall("tasks.add", "default"))}
    plan = Plan(life="no-life", value=(Edge("one"),), steps=steps, deadline=1e300)
    hostile = Plan(life="no.life", value=(Edge("one"),), steps=steps, deadline=4e9)
    closed = Closed(life="no-life", closed="succeeded", at=1e300, steps={"one": Totals(1, 1)})
    sealer = Sealer(None)
    write_plans(
        project,
        nats_url,
        {
            "odd": encode_plan(plan, "odd", sealer),
            "over": encode_closed(closed),
            "broken": b"{",
            "hostile": encode_plan(hostile, "hostile", sealer),
        },
    )
    odd = project.jetq("workflow", "show", "odd")
    assert odd.stdout.splitlines() == [
        "workflow  odd", "queue     default", "state     running", "deadline  1e+300", "steps",
        "  one  running    0/1",
    ], odd.stderr  # fmt: skip
    over = project.jetq("workflow", "show", "over")
    assert over.stdout.splitlines()[2:] == [
        "state     succeeded", "ended     1e+300", "steps", "  one  succeeded  1/1",
    ], over.stderr  # fmt: skip
    drawn = project.jetq("workflow", "show", "over", "--mermaid")
    assert (drawn.returncode, drawn.stderr.splitlines()[0]) == (
        1, "error: workflow over is over, and its plan is not kept",
    )  # fmt: skip
    broken = project.jetq("workflow", "show", "broken")
    assert broken.returncode == 1
    assert one_line(broken.stderr).startswith("error: workflow broken cannot be read: plan: unreadable")
    listed = project.jetq("workflow", "ls")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "WORKFLOW", "broken", "hostile", "odd", "over",
    ]  # fmt: skip


def test_a_failed_workflow_is_retried_and_goes_on_to_its_value(flows: Project) -> None:
    store(flows, "w", "one bad")
    run(flows)
    assert flows.jetq("workflow", "retry", "w", "--step", "split").stdout == (
        "nothing of workflow w in step split has failed\n"
    )
    assert flows.jetq("workflow", "retry", "w", "--step", "nosuch").returncode == 2
    flows.write("mended", "")
    before = json.loads(flows.jetq("workflow", "show", "w", "--json").stdout)["deadline"]
    again = flows.jetq("workflow", "retry", "w", "--step", "size", "--expires", "12h")
    assert again.stdout == "1 job of workflow w runs again\n", again.stderr
    assert json.loads(flows.jetq("workflow", "show", "w", "--json").stdout)["deadline"] < before - 86_400
    run(flows)
    assert flows.jetq("workflow", "show", "w", "--follow").returncode == 0


def test_a_workflow_is_cancelled_once(flows: Project) -> None:
    store(flows, "w", "one two", "ended", "ADD")
    assert flows.jetq("workflow", "cancel", "w").stdout == "workflow w is cancelled\n"
    assert "\nstate     cancelled\n" in flows.jetq("workflow", "show", "w").stdout
    run(flows)
    assert flows.jetq("workflow", "cancel", "ended").stdout == "workflow ended had finished already\n"
    late = flows.jetq("workflow", "retry", "w")
    assert late.returncode == 2
    assert "was cancelled" in late.stderr
    assert flows.jetq("workflow", "cancel", "nope").returncode == 1
