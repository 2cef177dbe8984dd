"""`jetq dlq` as people use it: dead letters chosen, replayed at a pace, edited, and carried in files."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.project import Project

TASKS = """
from jetq import Reject, Secret, task

@task(max_attempts=1)
def divide(x: int, by: int, *, pin: Secret[str] = "") -> float:
    print("divided with", pin, flush=True)
    return x / by

@task(max_attempts=1)
def refuse(name: str) -> None:
    raise Reject("no")
"""


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    """A directory with `tasks.py`, whose commands work in a namespace of their own on the shared server."""
    made = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"dlq-{token_hex(4)}")
    made.write("tasks.py", TASKS)
    return made


def ok(project: Project, *words: str, input: str | None = None) -> str:
    """What `jetq WORDS` prints; it succeeds."""
    done = project.jetq(*words, input=input)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(project: Project, code: int, *words: str) -> str:
    """What `jetq WORDS` complains of."""
    done = project.jetq(*words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), (done.stdout, done.stderr)
    return done.stderr


def work_off(project: Project) -> str:
    return ok(project, "worker", "tasks", "--burst", "--no-plugins", "--concurrency", "1")  # so they die in order


def dead(project: Project, *calls: tuple[str, ...]) -> list[str]:
    """The ids of jobs that have died."""
    ids = [ok(project, "call", "--no-wait", *call).strip() for call in calls]
    work_off(project)
    return ids


def listed(project: Project, *words: str) -> list[str]:
    return [each["id"] for each in json.loads(ok(project, "dlq", "list", "--json", *words))]


@pytest.mark.slow
def test_letters_are_chosen_and_replayed_at_a_pace(project: Project) -> None:
    a, b, c = dead(
        project, ("tasks.divide", "1", "--by", "0"), ("tasks.refuse", "x"), ("tasks.divide", "2", "--by", "0")
    )
    assert listed(project, "--error", "ZeroDivisionError") == [a, c]
    assert listed(project, "--reason", "rejected", "--since", "1h") == [b]
    assert listed(project, "--until", "1h") == []
    assert listed(project, "--all") == [a, b, c]
    assert ok(project, "dlq", "list", "--limit", "1").endswith(
        "the first 1 of 3 in all; --limit shows more, --all every one\n"
    )
    assert "expected a time like 2026-08-01T12:00" in fails(project, 2, "dlq", "list", "--since", "yesterday")
    assert "IDs say which already" in fails(project, 2, "dlq", "replay", a, "--task", "tasks.divide")

    dry = ok(project, "dlq", "replay", "--task", "tasks.divide", "--dry-run").splitlines()
    assert [line.split()[0] for line in dry] == ["JOB", a, c, "would"]
    assert listed(project) == [a, b, c]
    assert "rate is a number from 1 and a unit" in fails(project, 2, "dlq", "replay", "--all", "--rate", "fast")
    paced = ok(project, "dlq", "replay", "--error", "ZeroDivisionError", "--limit", "1", "--rate", "100/s")
    assert paced == "replayed 1 job\n"
    assert listed(project) == [b, c]
    purged = project.jetq("dlq", "purge", "--reason", "rejected", input="y\n")
    assert "Drop the dead letters of every task in every queue, dead for rejected for good?" in purged.stderr
    assert purged.stdout == "dropped 1 dead letter\n"
    assert listed(project) == [c]


@pytest.mark.slow
def test_a_replay_ends_in_order_when_interrupted(project: Project) -> None:
    dead(project, *(("tasks.divide", str(number), "--by", "0") for number in range(3)))
    with project.running("dlq", "replay", "--all", "--rate", "1/h") as replay:
        while len(listed(project)) == 3:
            pass  # each look takes a process of its own
        replay.signal(signal.SIGINT)
        assert replay.end() == 1
    assert replay.output == [
        "replayed 1 job, 2 remain",
        "error: interrupted",
        "hint: the same command goes on with those that remain",
    ]
    assert ok(project, "dlq", "replay", "--all") == "replayed 2 jobs\n"
    assert listed(project) == []


def editor(project: Project, code: str) -> None:
    """Let the editor be a program that changes `text`."""
    script = project.write(
        "editor.py",
        f"import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\nprint(text)\n{code}\n"
        "import os\nfile.write_text(text)\nos.utime(file, (1, 1))\n",
    )
    project.environment["VISUAL"] = f"{sys.executable} {script}"


def test_a_job_is_edited_in_an_editor_and_replayed(project: Project) -> None:
    (id,) = dead(project, ("tasks.divide", "6", "--by", "0", "--pin", "s3cret"))
    editor(project, "text = text.replace('0', '\"zero\"')")
    refused = fails(project, 2, "dlq", "edit", id, "-A", "tasks")
    assert refused == "error: tasks.divide(x: int, by: int, *, pin: Secret[str] = ...): by: expected int, got str\n"

    editor(project, "text = text.replace('0', '3')")
    done = ok(project, "dlq", "edit", id, "-A", "tasks")
    assert done.endswith(f"replayed job {id} with other arguments\n")
    assert '"pin": "***"' in done
    assert "s3cret" not in done
    assert "divided with s3cret" in work_off(project)
    shown = json.loads(ok(project, "job", "show", id, "--json"))
    assert (shown["state"], shown["result"]) == ("succeeded", 2.0)


@pytest.mark.slow
def test_an_editor_that_changes_nothing_or_too_little_leaves_the_job_dead(project: Project) -> None:
    (id,) = dead(project, ("tasks.divide", "6", "--by", "0", "--pin", "s3cret"))
    assert fails(project, 2, "dlq", "edit", id) == (
        "error: task tasks.divide is not defined here, so nothing can check arguments for it\n"
        "hint: name the module that defines it: -A tasks\n"
    )
    editor(project, "pass")
    assert ok(project, "dlq", "edit", id, "-A", "tasks").endswith(f"nothing is changed, so job {id} stays dead\n")
    editor(project, 'text = text[:-2] + \', "x": "***"}\'')
    refused = fails(project, 2, "dlq", "edit", id, "-A", "tasks")
    assert "x: was changed, and a part of it is still hidden (***)" in refused
    assert listed(project) == [id]


@pytest.mark.slow
def test_a_job_is_edited_without_an_editor_and_tells_it_when_it_dies_again(project: Project) -> None:
    (id,) = dead(project, ("tasks.divide", "6", "--by", "0"))
    assert "--set by: expected NAME=VALUE" in fails(project, 2, "dlq", "edit", id, "-A", "tasks", "--set", "by")
    assert "by: expected int, got str" in fails(project, 2, "dlq", "edit", id, "-A", "tasks", "--set", "by=no")
    assert "unexpected argument 'of'" in fails(project, 2, "dlq", "edit", id, "-A", "tasks", "--set", "of=1")
    assert "stays dead" in ok(project, "dlq", "edit", id, "-A", "tasks", "--set", "by=0")
    ok(project, "dlq", "edit", id, "-A", "tasks", "--set", "x=7", "--set", "pin=9876")
    work_off(project)
    shown = json.loads(ok(project, "dlq", "show", id, "-A", "tasks", "--json"))
    assert (shown["edits"], shown["replays"], len(shown["errors"])) == (1, 1, 2)
    assert shown["arguments"] == {"x": 7, "by": 0, "pin": "***"}
    assert re.search("edited +1 times", ok(project, "dlq", "show", id))


def test_letters_are_carried_in_a_file_and_come_back_as_they_were(project: Project) -> None:
    dead(project, ("tasks.divide", "1", "--by", "0", "--pin", "é"))
    file = project.directory / "dead.jsonl"
    assert ok(project, "dlq", "export", "-o", "dead.jsonl") == "exported 1 dead letter to dead.jsonl\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert ok(project, "dlq", "import", "dead.jsonl") == "imported 0 dead letters; 1 already there\n"
    ok(project, "dlq", "purge", "--all", "--yes")
    assert ok(project, "dlq", "import", "-", input=before.decode()) == "imported 1 dead letter\n"
    ok(project, "dlq", "export", "-o", "dead.jsonl", "--force")
    assert file.read_bytes() == before


@pytest.mark.slow
def test_an_export_spares_what_is_there_and_an_import_goes_where_it_is_told(project: Project) -> None:
    ids = dead(project, ("tasks.divide", "1", "--by", "0"), ("tasks.refuse", "x"))
    file = project.write("dead.jsonl", "kept")
    refused = fails(project, 2, "dlq", "export", "-o", "dead.jsonl", "--task", "tasks.refuse")
    assert refused == "error: dead.jsonl is there already\nhint: another name, or --force\n"
    assert file.read_text() == "kept"
    assert "no dead letter of job nope" in fails(project, 1, "dlq", "export", "nope", "-o", "other.jsonl")
    assert [name for name in os.listdir(project.directory) if "other" in name] == []
    file.write_text(ok(project, "dlq", "export"))
    assert ok(project, "dlq", "export", ids[1]).encode() == file.read_bytes().splitlines(keepends=True)[1]

    project.environment["JETQ_NAMESPACE"] += "-other"
    assert ok(project, "dlq", "import", "dead.jsonl", "-q", "moved") == "imported 2 dead letters\n"
    assert listed(project, "-q", "moved") == ids
    ok(project, "dlq", "edit", ids[0], "-A", "tasks", "--set", "by=1")
    ok(project, "worker", "tasks", "--burst", "--no-plugins", "-q", "moved")
    assert json.loads(ok(project, "job", "show", ids[0], "--json"))["result"] == 1.0


@pytest.mark.slow
def test_of_a_file_with_a_bad_line_nothing_is_imported(project: Project) -> None:
    dead(project, ("tasks.refuse", "x"))
    good = ok(project, "dlq", "export")
    ok(project, "dlq", "purge", "--all", "--yes")
    project.write("dead.jsonl", f"{good}\n{good.replace('rejected', 'bored')}")
    refused = fails(project, 2, "dlq", "import", "dead.jsonl")
    assert refused.startswith("error: dead.jsonl, line 3: its letter is unreadable: header Jetq-Letter is unreadable: ")
    assert refused.endswith("; nothing was imported\n")
    assert fails(project, 2, "dlq", "import", "none.jsonl").startswith("error: cannot read none.jsonl: No such file")
    assert listed(project) == []


SEALED = """
from jetq import Jetq, SignedPayloads
from tasks import divide

app = Jetq(payloads=SignedPayloads({"first": bytes(32)}))
"""


@pytest.mark.slow
def test_sealed_arguments_are_opened_and_sealed_again_by_the_app_that_is_named(project: Project) -> None:
    project.write("sealed.py", SEALED)
    id = ok(project, "call", "--no-wait", "-A", "sealed", "tasks.divide", "6", "--by", "0").strip()
    ok(project, "worker", "sealed", "--burst", "--no-plugins")
    ok(project, "dlq", "export", "-o", "dead.jsonl")
    ok(project, "dlq", "purge", "--all", "--yes")

    refused = fails(project, 2, "dlq", "import", "dead.jsonl", "-q", "moved")
    assert refused.startswith("error: dead.jsonl, line 1: the arguments of tasks.divide: a sealed payload (key first)")
    ok(project, "dlq", "import", "dead.jsonl", "-q", "moved", "-A", "sealed")
    assert "this app has no payload codec" in fails(project, 2, "dlq", "edit", id, "-A", "tasks", "--set", "by=3")
    ok(project, "dlq", "edit", id, "-A", "sealed", "--set", "by=3")

    ok(project, "worker", "sealed", "--burst", "--no-plugins", "-q", "moved")
    assert json.loads(ok(project, "job", "show", id, "-A", "sealed", "--json"))["result"] == 2.0
