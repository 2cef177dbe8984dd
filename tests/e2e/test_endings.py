"""A worker that is told to end has ended in its time, whatever its jobs do, and what it says of them is true."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.project import Process, Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

TASKS = """
import asyncio, contextlib, ctypes, os, signal, sys, threading, time
from jetq import Jetq, task

def begun(name):
    with open("begun", "a") as file:
        file.write(f"{name}\\n")
    print(f"begun {name} by {os.getpid()}", flush=True)

@contextlib.asynccontextmanager
async def lifespan(app):
    how = os.environ.get("LIFE", "")
    if how == "hangs at its start":
        begun("lifespan")
        await asyncio.sleep(3600)
    if how == "raises at its start":
        raise ConnectionError("no database")
    yield
    if how == "raises at its end":
        raise ConnectionError("no database any more")
    if how == "hangs at its end":
        await asyncio.sleep(3600)
    if how == "swallows at its end":
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

async def on_expired(job):
    begun("hook")
    await asyncio.sleep(3600)

app = Jetq(lifespan=lifespan, on_expired=on_expired)

@app.task(timeout=None)
async def swallows() -> None:
    begun("swallows")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@app.task(timeout=None)
def thread_swallows() -> None:
    begun("thread_swallows")
    while True:
        try:
            time.sleep(0.1)
        except BaseException:
            pass

@app.task(timeout=None)
def blocks() -> None:
    begun("blocks")
    time.sleep(3600)

@app.task(timeout=None)
async def blocks_loop() -> None:
    begun("blocks_loop")
    time.sleep(3600)

@app.task(timeout=None)
async def blocks_loop_in_c() -> None:
    # Like a database driver: a call that does not come back to Python at a signal.
    lock, c = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    c.pthread_mutex_lock(lock)
    begun("blocks_loop_in_c")
    c.pthread_mutex_lock(lock)

@app.task(timeout=None, run_in="process")
def in_process() -> None:
    begun("in_process")
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass

@app.task
async def leaves_a_task() -> None:
    async def left() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    app.left = asyncio.create_task(left())
    begun("leaves_a_task")

@app.task
async def leaves_an_exit() -> None:
    async def left() -> None:
        await asyncio.sleep(0)
        sys.exit(3)
    app.left = asyncio.create_task(left())
    begun("leaves_an_exit")

@app.task
def leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    begun("leaves_a_thread")

@app.task
async def quick() -> None:
    begun("quick")
"""

DEAF = ["swallows", "thread_swallows", "blocks"]
BLOCKING = ["blocks_loop", "blocks_loop_in_c"]
LONG = 60.0


EXITING = """
@app.task
def exits() -> None:
    os._exit(3)

@app.task
async def exits_on_the_loop() -> None:
    os._exit(3)

@app.task
def forks() -> None:
    child = os.fork()
    if not child:
        os._exit(3)
    os.waitpid(child, 0)
    begun("forks")
"""


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    made = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"end-{token_hex(4)}")
    made.write("tasks.py", TASKS)
    made.write("enqueue.py", "import sys, tasks\nprint(getattr(tasks, sys.argv[1]).delay().id)\n")
    return made


def enqueue(project: Project, task: str) -> str:
    words = [sys.executable, "enqueue.py", task]
    done = subprocess.run(
        words, cwd=project.directory, env=project.environment, check=True, timeout=LONG, stdout=subprocess.PIPE
    )
    return done.stdout.decode().strip()


def state(project: Project, id: str) -> tuple[str, int]:
    """The job's state, and the number of its attempt."""
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    return shown["state"], shown.get("attempt", 1)


@pytest.mark.parametrize("task", DEAF)
def test_a_second_signal_ends_what_does_not_end(project: Project, task: str) -> None:
    """Guarantee: who is told twice ends in 2 s, and a job that does not end runs again, uncharged, once it is gone."""
    id = enqueue(project, task)
    with project.running("worker", "tasks", "--no-plugins", "--grace", "600") as worker:
        worker.wait_for(f"begun {task}", LONG)
        end_at_once(worker)
        said = "\n".join(worker.output)
        assert f"tasks.{task} {id} does not end: it is cut off with this process, and runs again in 5 s" in said
        assert f"tasks.{task} {id} is put off" in said
    assert state(project, id) in (("scheduled", 1), ("queued", 1))


@pytest.mark.slow
def test_what_was_cut_off_runs_again(project: Project) -> None:
    enqueue(project, "blocks")
    with project.running("worker", "tasks", "--no-plugins", "--grace", "600", "--processes", "2") as worker:
        worker.wait_for("begun blocks", LONG)
        end_at_once(worker)
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("begun blocks", LONG)
    assert (project.directory / "begun").read_text().split() == ["blocks", "blocks"]


def end_at_once(worker: Process) -> None:
    """Tell it to end, and once more."""
    worker.signal(signal.SIGTERM)
    worker.wait_for("stopping:", LONG)
    worker.signal(signal.SIGTERM)
    assert worker.end(LONG) == 1


@pytest.mark.parametrize("task", BLOCKING)
def test_a_second_signal_ends_a_worker_whose_loop_is_blocked(project: Project, task: str) -> None:
    id = enqueue(project, task)
    with project.running("worker", "tasks", "--no-plugins", "--grace", "600") as worker:
        worker.wait_for(f"begun {task}", LONG)
        worker.signal(signal.SIGTERM)
        time.sleep(0.3)  # signals that come at once are one
        worker.signal(signal.SIGTERM)
        assert worker.end(LONG) == 1
        assert f"tasks.{task} {id} is cut off: it runs again when its lease has ended" in "\n".join(worker.output)
    assert state(project, id)[0] == "running"


def test_a_process_of_a_task_ends_with_its_worker(project: Project) -> None:
    id = enqueue(project, "in_process")
    with project.running("worker", "tasks", "--no-plugins", "--grace", "600") as worker:
        worker.wait_for("begun in_process", LONG)
        end_at_once(worker)
        assert f"tasks.in_process {id} is given back" in "\n".join(worker.output)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["leaves_a_task", "leaves_a_thread"])
def test_what_a_job_leaves_running_does_not_keep_the_process(project: Project, task: str) -> None:
    """Guarantee: neither a task that swallows its cancellation nor a thread keeps a worker's process at its end."""
    enqueue(project, task)
    assert project.jetq("worker", "tasks", "--no-plugins", "--burst", timeout=LONG).returncode == 0
    assert (project.directory / "begun").read_text().split() == [task]


@pytest.mark.slow
def test_what_a_job_leaves_running_does_not_end_the_worker(project: Project) -> None:
    """Guarantee: a SystemExit out of a task that a job has left behind ends no worker."""
    enqueue(project, "leaves_an_exit")
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("SystemExit came out of something that a job left running", LONG)
        enqueue(project, "quick")
        worker.wait_for("begun quick", LONG)
        worker.signal(signal.SIGTERM)
        assert worker.end(LONG) == 0


def test_a_lifespan_that_hangs_at_its_start_is_ended_by_a_signal(project: Project) -> None:
    project.environment["LIFE"] = "hangs at its start"
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("begun lifespan", LONG)
        worker.signal(signal.SIGTERM)
        assert worker.end(LONG) == 0


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raises at its start", "failed at its start, so no job was run: ConnectionError: no database\n"),
        ("raises at its end", "failed at its end: ConnectionError: no database any more\n"),
    ],
)
def test_a_lifespan_that_raises_is_told_with_its_place(project: Project, how: str, told: str) -> None:
    project.environment["LIFE"] = how
    done = project.jetq("worker", "tasks", "--no-plugins", "--burst")
    assert done.returncode == 1
    assert f"error: the app's lifespan {told}  File " in done.stderr
    assert "in a library" not in done.stderr
    assert ("raise ConnectionError" in done.stderr, "Traceback" in done.stderr) == (True, False)
    told_all = project.jetq("worker", "tasks", "--no-plugins", "--burst", "-v")
    assert f"jetq: the app's lifespan raised this at its {how.rpartition(' ')[2]}" in told_all.stderr


def test_a_lifespan_without_its_decorator_is_told(project: Project) -> None:
    project.write("tasks.py", TASKS.replace("@contextlib.asynccontextmanager\n", ""))
    done = project.jetq("worker", "tasks", "--no-plugins", "--burst")
    assert "Jetq(lifespan=...) gives something of type async_generator, no async context manager" in done.stderr
    assert "hint: decorate the function with @contextlib.asynccontextmanager" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("task", ["exits", "exits_on_the_loop"])
def test_a_job_that_ends_its_worker_without_a_word_is_named_first(project: Project, task: str) -> None:
    project.write("tasks.py", TASKS + EXITING)
    enqueue(project, task)
    with project.running("worker", "tasks", "--no-plugins") as worker:
        line = worker.wait_for("calls os._exit(3) at ", LONG)
        assert worker.end(LONG) == 3
    assert f"tasks.{task} " in line
    assert "tasks.py:" in line
    assert "its 1 jobs run again" in line


def test_a_child_that_a_job_forks_may_end_without_a_word(project: Project) -> None:
    project.write("tasks.py", TASKS + EXITING)
    enqueue(project, "forks")
    done = project.jetq("worker", "tasks", "--no-plugins", "--burst", timeout=LONG)
    assert (done.returncode, "os._exit" in done.stderr) == (0, False), done.stderr
    assert (project.directory / "begun").read_text() == "forks\n"


@pytest.mark.parametrize("how", ["hangs at its end", "swallows at its end"])
def test_a_lifespan_that_hangs_at_its_end_is_cut_off(project: Project, how: str) -> None:
    project.environment["LIFE"] = how
    enqueue(project, "quick")
    with project.running("worker", "tasks", "--no-plugins", "--grace", "600") as worker:
        worker.wait_for("begun quick", LONG)
        end_at_once(worker)
        assert "lifespan did not end in time" in "\n".join(worker.output)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
@pytest.mark.parametrize("what", [*DEAF, *BLOCKING, "hangs at its end", "swallows at its end"])
def test_one_signal_ends_a_worker_in_its_time(project: Project, what: str, processes: list[str]) -> None:
    """Guarantee: within its grace time and 12 s of a signal a worker has ended, whatever its jobs and its app do."""
    task = "quick"
    if what.startswith(("hangs", "swallows at")):
        project.environment["LIFE"] = what
    else:
        task = what
    enqueue(project, task)
    with project.running("worker", "tasks", "--no-plugins", "--grace", "1", *processes) as worker:
        worker.wait_for(f"begun {task}", LONG)
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.end(LONG)
        assert time.monotonic() - began < 1 + 12 + 10, "and some seconds for a busy machine"
