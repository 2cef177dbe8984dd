"""The `jetq` command as people use it: real processes, a real server, exit codes and what is printed."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from secrets import token_hex

import pytest

from jetq import Jetq
from jetq.server import running_at
from tests.e2e.project import Process, Project

TASKS = """
import asyncio, os, sys
from typing import Any
from jetq import Reject, task

@task
async def add(x: int, y: int) -> int:
    return x + y

@task
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times

@task
def quiet(secret: str) -> None:
    pass

@task(queue="failing", max_attempts=2, wait=0.0)
def fail(secret: str) -> int:
    raise ValueError("no good")

@task(queue="failing")
def fail_once(marker: str) -> str:
    if not os.path.exists(marker):
        raise Reject("not yet")
    return "at last"

@task(queue="slow")
async def nap(seconds: float) -> str:
    print("napping", flush=True)
    await asyncio.sleep(seconds)
    return "rested"
"""

BLOCKING = """
import time
from jetq import task

@task
async def block(seconds: float) -> None:
    print("asleep now", flush=True)
    time.sleep(seconds)
"""


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    """A directory with `tasks.py`, whose commands work in a namespace of their own on the shared server."""
    made = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"cli-{token_hex(4)}")
    made.write("tasks.py", TASKS)
    return made


def work_off(project: Project, *queues: str) -> str:
    """Run what is queued, and return what the worker wrote."""
    choice = [word for queue in queues for word in ("-q", queue)]
    done = project.jetq("worker", "tasks", "--burst", "--no-plugins", *choice)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def enqueue(project: Project, *words: str) -> str:
    """`jetq call --no-wait WORDS`: the job's id."""
    called = project.jetq("call", "--no-wait", *words)
    assert called.returncode == 0, called.stderr
    return called.stdout.strip()


def one_line(stderr: str) -> str:
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    return lines[0]


# --- dev


def stop(process: Process) -> None:
    process.signal(signal.SIGINT)
    assert process.end() == 0, "\n".join(process.output)
    assert "Traceback" not in "\n".join(process.output)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A directory with `tasks.py`, and nothing that says where a server is."""
    made = Project(tmp_path)
    made.write("tasks.py", TASKS)
    return made


def test_dev_serves_what_call_asks_and_leaves_nothing_behind(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("nats-server on nats://127.0.0.1:")
        dev.wait_for("tasks.add(x: int, y: int) -> int")
        assert "try: jetq call tasks.add 2 2" in dev.wait_for("try:")
        dev.wait_for("serves")

        called = fresh.jetq("call", "tasks.add", "2", "3")
        assert (called.returncode, called.stdout, called.stderr) == (0, "5\n", "")

        wrong = fresh.jetq("call", "tasks.add", "2", "three")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert one_line(wrong.stderr) == "error: tasks.add(x: int, y: int): y: expected int, got str"
        stop(dev)
    assert running_at(fresh.directory / ".jetq") is None


@pytest.mark.slow
def test_dev_reloads_changed_code_and_waits_while_it_is_broken(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("serves")
        fresh.write("tasks.py", TASKS + "\n@task\ndef mul(x: int, y: int) -> int:\n    return x * y\n")
        dev.wait_for("tasks.py changed: starting the worker anew")
        dev.wait_for("tasks.mul(x: int, y: int) -> int")
        assert fresh.jetq("call", "tasks.mul", "4", "5").stdout == "20\n"

        fresh.write("tasks.py", TASKS + "\ndef broken(:\n")
        dev.wait_for("error: module 'tasks' fails to import: SyntaxError")
        dev.wait_for("waiting for a change")

        fresh.write("tasks.py", TASKS)
        dev.wait_for("serves")
        assert fresh.jetq("call", "tasks.add", "4", "5").stdout == "9\n"
        stop(dev)


@pytest.mark.slow
def test_dev_starts_a_worker_again_that_a_job_has_killed(fresh: Project) -> None:
    fresh.write("tasks.py", TASKS + "\n@task(max_crashes=1)\ndef kill() -> None:\n    os._exit(9)\n")
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("serves")
        enqueue(fresh, "tasks.kill")
        dev.wait_for("the worker ended; starting it again")
        dev.wait_for("serves")
        stop(dev)


def test_dev_takes_another_port_when_4222_is_taken_and_keeps_others_out(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py", "--port", "0") as dev:
        dev.wait_for("export NATS_URL=nats://127.0.0.1:")
        dev.wait_for("serves")
        fresh.environment["NATS_URL"] = "nats://127.0.0.1:1"
        second = fresh.jetq("dev", "tasks.py")
        assert second.returncode == 3
        assert second.stderr.startswith("error: the directory .jetq is in use by another nats-server\nhint: ")
        stop(dev)


def test_server_runs_alone_and_is_found_by_its_directory(fresh: Project) -> None:
    with fresh.running("server", "--port", "0") as server:
        port = int(server.wait_for("nats-server on").partition(",")[0].rpartition(":")[2])
        assert fresh.jetq("queue", "ls").stdout == "no queues yet: the first job or worker of a queue makes it\n"
        taken = fresh.jetq("server", "--dir", "elsewhere", "--port", str(port))
        assert taken.returncode == 3
        assert taken.stderr.startswith(f"error: port {port} on 127.0.0.1 is already taken")
        stop(server)


# --- call


def test_call_without_a_server_fails_soon(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project.environment["NATS_URL"] = f"nats://127.0.0.1:{port}"
    before = time.monotonic()
    called = project.jetq("call", "tasks.add", "2", "3")
    assert time.monotonic() - before < 5 + 20  # of which a process's start on a busy machine is some
    assert called.returncode == 3
    assert called.stderr.startswith("error: cannot connect to NATS at nats://127.0.0.1:")
    assert "\nhint: " in called.stderr
    assert "Traceback" not in called.stderr


def test_call_waits_for_the_result_also_of_a_task_that_keeps_none(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        assert project.jetq("call", "tasks.quiet", "x").stdout == "null\n"
        assert project.jetq("call", "tasks.shout", "7", "--times", "2").stdout == '"77"\n'
        assert project.jetq("call", "tasks.shout", "--json", '{"text": "a"}').stdout == '"A"\n'
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


def test_call_of_a_failing_task_shows_the_remote_traceback(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        failed = project.jetq("call", "tasks.fail", "s3cret")
        assert failed.returncode == 1
        assert 'raise ValueError("no good")' in failed.stderr
        *_, error, hint = failed.stderr.splitlines()
        assert error.startswith("error: job ")
        assert error.endswith("failed: ValueError: no good")
        assert hint.startswith("hint: jetq dlq show ")


def test_call_without_the_code_needs_names_and_still_gets_its_result(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        (project.directory / "tasks.py").unlink()
        placed = project.jetq("call", "tasks.add", "2", "3")
        assert placed.returncode == 2
        assert placed.stderr.startswith("error: the code of tasks.add is not here, so its arguments need their names")
        assert project.jetq("call", "tasks.add", "--x", "2", "--y", "3").stdout == "5\n"


@pytest.mark.slow
def test_call_can_be_left_and_says_that_the_job_goes_on(project: Project) -> None:
    with project.running("call", "tasks.add", "2", "3") as call:
        call.wait_for("waiting: queue 'default' has no live worker")
        call.signal(signal.SIGINT)
        assert call.end() == 1
    assert call.output[-1].endswith(f"goes on: jetq job show {call.output[-1].split()[1]}")
    work_off(project)


def test_call_gives_up_waiting_and_the_job_goes_on(project: Project) -> None:
    called = project.jetq("call", "tasks.add", "2", "3", "--timeout", "0.2")
    assert called.returncode == 1
    assert "is still queued after 0.2 s" in called.stderr
    work_off(project)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tasks.ad", "1"], "error: module 'tasks' has no task 'tasks.ad'\nhint: did you mean tasks.add?\n"),
        (["tasks.wholly_other"], "error: module 'tasks' has no task 'tasks.wholly_other'\nhint: it has tasks.add, "),
        (["tasks.add", "1"], "error: tasks.add(x: int, y: int): missing a required argument: 'y'\n"),
        (["tasks.add", "1", "2", "3"], "error: tasks.add(x: int, y: int): takes 2 positional arguments, got 3\n"),
        (["tasks.add", "1", "--z", "3"], "error: tasks.add(x: int, y: int): got an unexpected argument 'z'\n"),
        (["tasks.add", "1", "2", "--queue", "No"], "error: queue 'No' is not allowed"),
        (["bad name", "--x", "1"], "error: task name 'bad name' is not allowed"),
        ([], "error: Missing argument 'TASK'.\nhint: jetq call --help\n"),
    ],
)
def test_call_refuses_what_cannot_work_and_sends_nothing(project: Project, words: list[str], error: str) -> None:
    called = project.jetq("call", *words)
    assert (called.returncode, called.stdout) == (2, "")
    assert called.stderr.startswith(error)
    assert project.jetq("queue", "ls").stdout.startswith("no queues yet")


# --- worker


def test_worker_says_what_it_serves_and_never_a_secret(project: Project) -> None:
    enqueue(project, "tasks.quiet", "s3cret")
    enqueue(project, "tasks.fail", "s3cret")
    said = work_off(project, "default", "failing")
    assert f"namespace {project.environment['JETQ_NAMESPACE']}" in said
    assert "  queue default\n    tasks.add(x: int, y: int) -> int\n" in said
    assert "  not served: slow\n" in said
    assert "s3cret" not in said


def test_worker_logs_json(project: Project) -> None:
    enqueue(project, "tasks.fail", "s3cret")
    done = project.jetq("worker", "tasks", "--burst", "--no-plugins", "-q", "failing", "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["level"] == "error" and line.get("outcome") == "dead" for line in lines)
    banner = json.loads(done.stdout)
    assert banner["queues"].keys() == {"failing"}
    assert banner["namespace"] == project.environment["JETQ_NAMESPACE"]
    assert "s3cret" not in done.stderr


def test_worker_waits_for_its_server_hides_its_password_and_can_be_stopped(project: Project) -> None:
    project.environment["NATS_URL"] = "nats://me:s3cret@127.0.0.1:1"
    with project.running("worker", "tasks", "--no-plugins") as worker:
        assert "jetq worker on nats://127.0.0.1:1, namespace" in worker.wait_for("jetq worker on")
        worker.wait_for("WARNING")
        worker.signal(signal.SIGTERM)
        assert worker.end(5) == 0, "a worker that waits for its server can be stopped"
        assert "s3cret" not in "\n".join(worker.output)


def test_first_signal_lets_jobs_end(project: Project) -> None:
    id = enqueue(project, "tasks.nap", "1.0")
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("napping")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert json.loads(project.jetq("job", "show", id, "--json").stdout)["result"] == "rested"


def test_second_signal_gives_jobs_back_at_once(project: Project) -> None:
    id = enqueue(project, "tasks.nap", "600")
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("napping")
        worker.signal(signal.SIGINT)
        worker.wait_for("stopping: running jobs may end")
        worker.signal(signal.SIGINT)
        assert worker.end() == 1
        assert worker.output[-1].startswith("error: the worker was killed by a second signal")
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    assert (shown["state"], shown["attempt"], shown["errors"]) == ("queued", 1, [])


def test_third_signal_ends_a_worker_whose_loop_a_job_blocks(project: Project) -> None:
    """Guarantee: a worker can be ended by its signals alone, whatever its jobs do."""
    project.write("blocking.py", BLOCKING)
    enqueue(project, "blocking.block", "600")
    with project.running("worker", "blocking", "--no-plugins") as worker:
        worker.wait_for("asleep now")
        deadline = time.monotonic() + 30
        while worker.popen.poll() is None and time.monotonic() < deadline:
            worker.signal(signal.SIGTERM)
            time.sleep(0.5)  # signals that come at once are one, and on a busy machine these may
        assert worker.end() == 1


def test_third_signal_ends_processes_whose_loop_a_job_blocks(project: Project) -> None:
    project.write("blocking.py", BLOCKING)
    enqueue(project, "blocking.block", "600")
    with project.running("worker", "blocking", "--no-plugins", "--processes", "2") as worker:
        worker.wait_for("asleep now")
        for said in ("stopping: running jobs may end", "stopping now", "ending at once"):
            worker.signal(signal.SIGTERM)  # the next after what this one did: two at once are one, and a fourth kills
            worker.wait_for(said)
        assert worker.end() == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tasks:aap"], "error: module 'tasks' imported but has no 'aap'; it defines no app\nhint: "),
        (["app:aap"], "error: module 'app' imported but has no 'aap'; it defines: app\n"),
        (["taskz"], "error: there is no module 'taskz'\nhint: did you mean 'tasks'?\n"),
        ([""], "error: '' names no module\nhint: MODULE, MODULE:APP or file.py"),
        (["broken"], "error: module 'broken' fails to import: ZeroDivisionError: division by zero\n  File "),
        (["empty", "--no-plugins"], "error: there are no tasks to run\nhint: "),
        (["tasks", "-q", "No Queue"], "error: queue 'No Queue' is not allowed"),
        (["tasks", "--processes", "0"], "error: Invalid value for '--processes'"),
        (["tasks", "-c", "0"], "error: Invalid value for '-c' / '--concurrency'"),
    ],
)
def test_worker_refuses_what_cannot_work(project: Project, words: list[str], error: str) -> None:
    project.write("app.py", "from jetq import Jetq\napp = Jetq()\n")
    project.write("broken.py", "1 / 0\n")
    project.write("empty.py", "")
    done = project.jetq("worker", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr


def test_the_traceback_is_shown_when_asked_for(project: Project) -> None:
    project.write("broken.py", "1 / 0\n")
    assert "Traceback" in project.jetq("worker", "broken", "-v").stderr


def test_a_misspelt_variable_is_refused_before_the_worker_starts_and_does_not_stand_in_the_way_of_help(
    project: Project,
) -> None:
    project.environment["JETQ_WORKER_CONCURENCY"] = "5"
    done = project.jetq("worker", "tasks", "--burst")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the environment variable JETQ_WORKER_CONCURENCY is none of jetq's\n"
        "hint: did you mean JETQ_WORKER_CONCURRENCY?\n"
    )
    assert project.jetq("worker", "--help").returncode == 0


def test_every_option_has_a_variable(project: Project) -> None:
    enqueue(project, "tasks.quiet", "x")
    project.environment |= {"JETQ_WORKER_BURST": "1", "JETQ_WORKER_PLUGINS": "0", "JETQ_WORKER_QUEUE": "default slow"}
    assert project.jetq("worker", "tasks").returncode == 0


# --- looking and mending


def test_queues_and_jobs_in_numbers(project: Project) -> None:
    id = enqueue(project, "tasks.quiet", "hello")
    enqueue(project, "tasks.fail", "x")
    header, default, failing = project.jetq("queue", "ls").stdout.splitlines()
    assert header.split() == ["QUEUE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IDLE"]
    assert default.split(maxsplit=6) == ["default", "1", "0", "0", "0", "0", "no live worker"]
    assert failing.split(maxsplit=6) == ["failing", "1", "0", "0", "0", "0", "no live worker"]
    first = json.loads(project.jetq("queue", "ls", "--json").stdout)[0]
    assert first == {
        "name": "default", "ready": 1, "running": 0, "scheduled": 0, "dead": 0, "waiting": 0,
        "paused": False, "paused_until": None, "served": False,
    }  # fmt: skip

    shown = project.jetq("job", "show", id).stdout
    assert 'arguments  {"secret":"***"}' in shown
    assert "state      queued" in shown
    missing = project.jetq("job", "show", "nope")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: job nope is not in any queue")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_job_as_large_as_allowed_is_shown_explained_moved_and_cancelled_and_its_letter_goes_out_and_in(
    project: Project, nats_url: str
) -> None:
    app = Jetq(nats_url, namespace=project.environment["JETQ_NAMESPACE"])
    most = 1024 * 1024 - 32 * 1024 - len('{"text":"","times":"no"}')
    queued = app.send("tasks.shout", {"text": "x" * most}, delay=3600)
    dies = app.send("tasks.shout", {"text": "x" * most, "times": "no"}, queue="failing")
    app.session.close()

    def works(*words: str) -> str:
        done = project.jetq(*words, timeout=60.0)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "state      scheduled" in works("job", "show", queued.id)
    works("job", "why", queued.id)
    works("job", "reschedule", queued.id, "--delay", "2h")
    works("job", "cancel", queued.id)
    work_off(project, "failing")
    works("dlq", "show", dies.id)
    works("dlq", "export", dies.id, "-o", "letters")
    works("dlq", "purge", dies.id, "--yes")
    works("dlq", "import", "letters")
    works("dlq", "replay", dies.id)
    assert "state      queued" in works("job", "show", dies.id)


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


def test_setup_makes_queues_and_can_be_repeated(project: Project) -> None:
    for _ in range(2):
        done = project.jetq("setup", "tasks", "--no-plugins")
        assert (done.returncode, done.stdout) == (
            0,
            "queue default: ready\nqueue failing: ready\nqueue slow: ready\nrecords: ready\n",
        )
    assert len(project.jetq("queue", "ls").stdout.splitlines()) == 4


def test_setup_reports_what_stands_and_differs(project: Project) -> None:
    assert project.jetq("setup", "-q", "email").returncode == 0
    project.environment["JETQ_ACK_WAIT"] = "60"
    done = project.jetq("setup", "-q", "email")
    assert done.returncode == 3
    assert done.stdout.startswith("queue email: differs\n  consumer email of stream ")
    assert "ack_wait is '30 s', jetq needs '60 s'" in done.stdout
    assert done.stderr.startswith("error: what stands was left alone\nhint: ")


def test_an_apps_own_settings_are_used_when_it_is_named(project: Project) -> None:
    project.write("app.py", f"from jetq import Jetq\napp = Jetq(namespace='own-{token_hex(4)}')\n")
    enqueue(project, "tasks.add", "1", "2", "--app", "app")
    assert len(project.jetq("queue", "ls", "-A", "app:app").stdout.splitlines()) == 2
    assert project.jetq("queue", "ls").stdout.startswith("no queues yet")
    project.environment["JETQ_APP"] = "app"
    assert len(project.jetq("queue", "ls").stdout.splitlines()) == 2


# --- plugins


def install(project: Project, distribution: str, module: str, code: str, extra: str = "") -> None:
    """What an installed plugin distribution leaves on the path."""
    project.write(f"{module}.py", code)
    info = f"{distribution.replace('-', '_')}-1.0.dist-info"  # as installers write it: a second `-` would end the name
    project.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    project.write(f"{info}/entry_points.txt", f"[jetq.tasks]\n{distribution} = {module} {extra}\n")
    project.environment["PYTHONPATH"] = f"{project.directory}:{project.environment['PYTHONPATH']}"


PLUGIN = "from jetq import task\n@task(name='shared.f', queue='plug')\ndef f() -> int:\n    return 7\n"


def test_plugins_are_listed_served_and_called(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    listed = project.jetq("plugins")
    assert listed.returncode == 0, listed.stderr
    row = next(line.split() for line in listed.stdout.splitlines() if "plugin-a" in line)
    assert row == ["plugin-a", "plugin-a", "1.0", "plug_a", "shared.f"]

    without = project.jetq("worker", "tasks", "--burst", "--no-plugins").stdout
    assert "shared.f" not in without
    with project.running("worker", "tasks", "--plugin", "plugin-a") as worker:
        worker.wait_for("shared.f() -> int")
        worker.wait_for("serves")
        assert project.jetq("call", "shared.f").stdout == "7\n"


def test_a_setting_of_the_project_says_which_plugins_are_served(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    install(project, "plugin-b", "plug_b", PLUGIN.replace("shared", "other"))
    project.write("pyproject.toml", '[tool.jetq]\nplugins = ["plugin-a"]\n')
    done = project.jetq("worker", "tasks", "--burst")
    chosen = done.stdout
    assert ("shared.f" in chosen, "other.f" in chosen, "jetq_email" in chosen) == (True, False, False), done.stderr
    asked = project.jetq("worker", "tasks", "--burst", "--plugin", "plugin-b").stdout
    assert ("shared.f" in asked, "other.f" in asked) == (False, True)
    project.environment["JETQ_PLUGINS"] = "plugin-c"
    missing = project.jetq("worker", "tasks", "--burst")
    assert (missing.returncode, "there is no plugin 'plugin-c'" in missing.stderr) == (2, True)


def test_dev_tells_of_plugins_on_one_line_and_watches_code_that_is_elsewhere(
    fresh: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    install(fresh, "plugin-a", "plug_a", PLUGIN)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "helping.py").write_text("WORD = 1\n")
    fresh.environment["PYTHONPATH"] += f":{elsewhere}"
    fresh.write("tasks.py", "import helping\n" + TASKS)
    with fresh.running("dev", "tasks.py") as dev:
        assert "plugin-a (queue plug)" in dev.wait_for("plugins: ")
        dev.wait_for("serves")
        fresh.write("beside.py", "1\n")
        (elsewhere / "helping.py").write_text("WORD = 22\n")
        dev.wait_for("helping.py changed: starting the worker anew")
        dev.wait_for("serves")
        stop(dev)
    said = "\n".join(dev.output)
    assert ("shared.f" in said, "beside.py" in said) == (False, False)


def test_two_plugins_with_one_task_name_are_both_named(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    install(project, "plugin-b", "plug_b", PLUGIN)
    done = project.jetq("worker", "tasks", "--plugin", "plugin-a", "--plugin", "plugin-b")
    assert done.returncode == 2
    assert "plugin-a" in done.stderr
    assert "plugin-b" in done.stderr


def test_a_broken_plugin_names_its_distribution(project: Project) -> None:
    install(project, "plugin-c", "plug_c", "import no_such_library\n")
    listed = project.jetq("plugins")
    assert listed.returncode == 2
    assert "(cannot be imported)" in listed.stdout
    assert "plugin-c" in listed.stderr
    worker = project.jetq("worker", "tasks", "--plugin", "plugin-c")
    assert worker.returncode == 2
    assert "plugin-c" in worker.stderr


def test_a_plugin_whose_extra_is_not_installed_is_left_out_unless_asked_for(project: Project) -> None:
    install(project, "plugin-d", "plug_d", "import no_such_library\n", extra="[mail]")
    listed = project.jetq("plugins")
    assert listed.returncode == 0, listed.stderr
    assert "(needs plugin-d[mail])" in listed.stdout
    assert project.jetq("worker", "tasks", "--burst").returncode == 0
    asked = project.jetq("worker", "tasks", "--plugin", "plugin-d")
    assert asked.returncode == 2
    assert "plugin-d" in asked.stderr


def test_version_and_help(project: Project) -> None:
    assert project.jetq("--version").stdout.startswith("jetq 0.1.0")
    assert "JETQ_WORKER_CONCURRENCY" in project.jetq("--help").stdout
    unknown = project.jetq("frobnicate")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: No such command 'frobnicate'.\nhint: jetq --help\n")


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


NO_MAIL = "no mail transport is configured for this worker"


def test_a_plugin_that_is_not_ready_costs_its_jobs_nothing(project: Project) -> None:
    """Guarantee: a worker without a mail server burns no attempt of a mail."""
    id = enqueue(project, "jetq_email.send_email", "ann@example.com", "Hello", "Hi")
    with project.running("worker", "tasks") as worker:
        worker.wait_for(f"not ready: queue email of plugin email: {NO_MAIL}")
        worker.wait_for("serves")
        assert project.jetq("call", "tasks.add", "1", "2").stdout == "3\n"
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    assert (shown["state"], shown["attempt"]) == ("queued", 1)
    assert "plugin-not-ready  email: a worker that is started here leaves it to others" in project.jetq("doctor").stdout
    assert f"(not ready here: {NO_MAIL}" in project.jetq("plugins").stdout
    for words in (["-q", "email"], ["--plugin", "email"], []):
        done = project.jetq("worker", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: plugin email is not ready to serve queue email: {NO_MAIL}")
    project.environment["JETQ_EMAIL_TRANSPORT"] = "console"
    project.environment["JETQ_EMAIL_SENDER"] = "shop@example.com"
    with project.running("worker", "tasks") as worker:
        worker.wait_for("Subject: Hello")


def test_a_router_is_found_where_a_command_is_started(project: Project) -> None:
    project.environment |= {"JETQ_EMAIL_TRANSPORT": "shop_mail:mail", "JETQ_EMAIL_SENDER": "shop@example.com"}
    enqueue(project, "jetq_email.send_email", "ann@example.com", "Hello", "Hi")
    project.environment["PYTHONSAFEPATH"] = "1"  # so that `-m` adds no directory, as the command `jetq` does not
    project.write("shop_mail.py", "from jetq_email import Route, Router\nmail = Router([Route('postmark')])\n")
    lacks = "route postmark: transport postmark is not set up; set JETQ_EMAIL_POSTMARK_TOKEN"
    assert f"(not ready here: {lacks}" in project.jetq("plugins").stdout
    done = project.jetq("worker", "-q", "email", "--plugin", "email")
    assert (done.returncode, lacks in done.stderr) == (2, True), done.stderr
    project.write("shop_mail.py", "from jetq_email import Route, Router\nmail = Router([Route('console')])\n")
    with project.running("worker", "-q", "email", "--plugin", "email") as worker:
        worker.wait_for("Subject: Hello")
