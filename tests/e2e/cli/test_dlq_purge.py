"""`jetq dlq list`, `show`, `replay` and `purge`."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cli.commands import enqueue, work_off
from tests.e2e.project import Project


@pytest.mark.slow
def test_dead_letters_are_listed_shown_replayed_and_purged(project: Project) -> None:
    marker = project.directory / "marker"
    id = enqueue(project, "tasks.fail_once", str(marker))
    other = enqueue(project, "tasks.fail", "x")
    work_off(project, "failing")

    header, *rows = project.jetq("dlq", "list").stdout.splitlines()
    assert header.split() == ["JOB", "QUEUE", "TASK", "REASON", "ATTEMPT", "AGE", "ERROR"]
    assert {row.split()[0] for row in rows} == {id, other}
    assert [
        each["id"] for each in json.loads(project.jetq("dlq", "list", "--task", "tasks.fail", "--json").stdout)
    ] == [other]
    assert len(project.jetq("dlq", "list", "--limit", "1").stdout.splitlines()) == 3

    shown = project.jetq("dlq", "show", other).stdout
    assert shown.count("ValueError: no good") >= 3  # both attempts, and the traceback
    assert 'arguments  {"secret":"***"}' in shown
    details = json.loads(project.jetq("dlq", "show", other, "--json").stdout)
    assert [error["attempt"] for error in details["errors"]] == [1, 2]
    assert details["arguments"] == {"secret": "***"}

    marker.touch()
    assert project.jetq("dlq", "replay", id).stdout == "replayed 1 job\n"
    work_off(project, "failing")
    assert json.loads(project.jetq("job", "show", id, "--json").stdout)["result"] == "at last"

    assert project.jetq("dlq", "replay", "--task", "tasks.fail").stdout == "replayed 1 job\n"
    work_off(project, "failing")
    again = json.loads(project.jetq("dlq", "show", other, "--json").stdout)
    assert (again["replays"], len(again["errors"])) == (1, 4)

    refused = project.jetq("dlq", "purge", "--all", input="n\n")
    assert refused.returncode == 1
    assert project.jetq("dlq", "purge", "--all", input="y\n").stdout == "dropped 1 dead letter\n"
    assert project.jetq("dlq", "list").stdout == "no dead letters\n"
    assert project.jetq("dlq", "purge", "--all", "--yes").stdout == "dropped 0 dead letters\n"


@pytest.mark.parametrize("words", [["replay"], ["purge"], ["replay", "-q", "a"], ["purge", "--task", "a", "--all"]])
def test_replay_and_purge_want_to_know_which(project: Project, words: list[str]) -> None:
    done = project.jetq("dlq", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: say which: one or more IDs, filters such as --task NAME, or --all\nhint: jetq dlq "
    )
