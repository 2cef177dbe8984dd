"""`jetq doctor`: what is wrong, in words, in JSON and as an exit code."""

from __future__ import annotations

import json

from tests.e2e.cli.commands import enqueue, work_off
from tests.e2e.project import Project


def test_doctor_says_what_is_wrong_in_words_in_json_and_as_a_code(project: Project) -> None:
    healthy = project.jetq("doctor")
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert "durability" in healthy.stdout
    assert healthy.stdout.endswith("\nnothing is wrong\n")

    notes = project.jetq("doctor", "tasks")
    assert (notes.returncode, notes.stderr) == (0, "")
    assert "note  no-queue  default: the queue is not made yet" in notes.stdout

    wrong = project.jetq("doctor", "--monitor", "ftp://host")
    assert wrong.returncode == 2
    assert "is no URL of a server's monitoring" in wrong.stderr

    project.jetq("call", "--no-wait", "tasks.add", "1", "2")
    ill = project.jetq("doctor")
    assert ill.returncode == 1
    assert "problem  no-worker  default: no live worker serves it; 1 jobs wait" in ill.stdout
    assert "  hint: `jetq worker ... -q default` starts one" in ill.stdout
    assert ill.stderr == "error: 1 thing found wrong or weak\n"

    as_json = project.jetq("doctor", "--json")
    found = json.loads(as_json.stdout)
    assert as_json.returncode == 1
    assert not found["healthy"]
    assert [(each["severity"], each["code"], each["about"]) for each in found["findings"]] == [
        ("problem", "no-worker", "default")
    ]
    assert found["durability"]["kind"] == "single"
    assert found["queues"][0]["ready"] == 1

    work_off(project, "default")
    enqueue(project, "tasks.fail", "x")
    work_off(project, "failing")
    assert project.jetq("doctor").returncode == 0
    dead = project.jetq("doctor", "--max-age", "1d")
    assert dead.returncode == 1
    assert "problem  many-dead  failing: more than 0 jobs are dead that died in the last 1d" in dead.stdout
    assert project.jetq("doctor", "--max-dead", "1", "--max-age", "1d").returncode == 0


def test_doctor_without_a_server_that_can_be_used_ends_with_the_code_of_the_broker(project: Project) -> None:
    project.environment["NATS_URL"] = "nats://127.0.0.1:1"
    nobody = project.jetq("doctor", "--json")
    assert (nobody.returncode, nobody.stdout) == (3, "")
    assert "connection refused" in nobody.stderr
