"""Functions in processes: what comes back, what ends them, and that nobody else is hurt."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jetq import Jetq
from jetq.client.task import Task
from jetq.encoding.failures import capture
from jetq.errors import JetqError, RateLimited, Reject, Retry, Snooze
from jetq.model.definitions.wrappers import NeverRan
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq.worker.pools.errors import ProcessDied
from jetq.worker.pools.processes import ProcessPool
from tests.apps import process_tasks as tasks
from tests.apps.staying import stays_so_for

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")]


def context() -> JobContext:
    return JobContext("an-id", 2, 3, "t", "q", datetime.now(UTC), None, "w")


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    made = ProcessPool(2)
    yield made
    await made.aclose()
    assert not made.processes


async def call(pool: ProcessPool, task: Task[..., Any], *args: object, wants_value: bool = True) -> Any:
    return await pool.run(task.fn, args, {}, context=context, wants_value=wants_value)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_process_is_started_once_and_serves_call_after_call(pool: ProcessPool) -> None:
    pids = {await call(pool, tasks.pid) for _ in range(5)}
    assert len(pids) == 1
    assert pids != {os.getpid()}
    assert len({*await asyncio.gather(*(call(pool, tasks.pid) for _ in range(20)))}) <= 2


async def test_the_job_is_known_there(pool: ProcessPool) -> None:
    assert await call(pool, tasks.whoami) == ("an-id", 2)


async def test_an_exception_comes_back_with_its_class_and_its_frames(pool: ProcessPool) -> None:
    with pytest.raises(LookupError, match="no such thing") as caught:
        await call(pool, tasks.fails)
    assert "in fails" in capture(caught.value).traceback
    with pytest.raises(Exception, match="one and two") as odd:
        await call(pool, tasks.fails_oddly)
    failure = capture(odd.value)
    assert type(odd.value) is tasks.Odd
    assert failure.type == "tests.apps.process_tasks.Odd"
    assert "in fails_oddly" in failure.traceback


async def test_what_steers_a_job_comes_back_with_what_it_says(pool: ProcessPool) -> None:
    with pytest.raises(Snooze) as snooze:
        await call(pool, tasks.snoozes)
    assert snooze.value.after == 7
    with pytest.raises(Retry) as retry:
        await call(pool, tasks.retries)
    assert (retry.value.after, retry.value.arguments) == (3, {"a": 1})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("snooze", {"after": 7.0}),
        ("limited", {"after": 8.0}),
        ("retry", {"after": 3.0, "arguments": {"a": 1}}),
        ("reject", {"reason": "order 17: no address", "order": 17}),
        ("holding", {"code": 5}),
    ],
)
async def test_what_is_in_a_group_comes_back_as_it_would_alone(
    kind: str, expected: dict[str, Any], pool: ProcessPool
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await call(pool, tasks.raises_a_group, kind)
    odd, inner = caught.value.exceptions
    assert type(odd) is tasks.Odd and str(odd) == "one and two"
    assert isinstance(inner, ExceptionGroup)
    local, steering = inner.exceptions
    assert (type(local).__name__, str(local)) == ("Local", "from nowhere")
    kinds = {
        "snooze": Snooze, "limited": RateLimited, "retry": Retry, "reject": tasks.OddReject, "holding": tasks.Holding
    }  # fmt: skip
    assert type(steering) is kinds[kind]
    assert vars(steering) == expected
    assert "in raises_a_group" in capture(caught.value).traceback


async def test_an_exception_that_is_returned_comes_back_though_nobody_wants_the_value(pool: ProcessPool) -> None:
    value = await pool.run(tasks.returns_a_retry.fn, (), {}, context=context, wants_value=False)
    assert isinstance(value, Retry) and value.after == 1


async def test_an_exception_that_cannot_cross_whole_keeps_its_class_or_else_its_name(pool: ProcessPool) -> None:
    with pytest.raises(tasks.Holding, match="code 5") as holding:
        await call(pool, tasks.fails_holding)
    assert vars(holding.value) == {"code": 5}
    with pytest.raises(Exception, match="from nowhere") as local:
        await call(pool, tasks.fails_locally)
    assert type(local.value).__name__ == "Local"
    assert "in fails_locally" in capture(local.value).traceback


async def test_a_job_leaves_nothing_to_the_next_and_its_surroundings_are_the_workers(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/worker")
    assert [await call(pool, tasks.sets_a_variable) for _ in range(2)] == [1, 1]
    assert (await call(pool, tasks.environment))["PYTHONPATH"] == "/of/the/worker"


async def test_what_is_enqueued_there_goes_to_the_app_of_the_worker(pool: ProcessPool) -> None:
    token = CURRENT.set(Current(context, Jetq("nats://nowhere:1", namespace="of-the-worker", token="a-token")))
    try:
        assert await call(pool, tasks.namespaces) == ("of-the-worker", "of-the-worker")
    finally:
        CURRENT.reset(token)


async def test_a_file_named_like_a_module_of_jetq_or_python_harms_nobody(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("queue", "jetq", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert await call(pool, tasks.whoami) == ("an-id", 2)


async def test_large_values_cross(pool: ProcessPool) -> None:
    data = os.urandom(5_000_000)
    assert await call(pool, tasks.same, data) == data


@pytest.mark.parametrize(("task", "what"), [(tasks.unawaited, "a coroutine"), (tasks.unread, "a generator")])
@pytest.mark.parametrize("wanted", [True, False])
async def test_code_that_has_not_run_is_no_value(pool: ProcessPool, task: Any, what: str, wanted: bool) -> None:
    with pytest.raises(NeverRan, match=f"{task.fn.__name__} returned {what}, and what is in it never ran"):
        await call(pool, task, wants_value=wanted)


async def test_what_cannot_be_pickled_is_refused_and_the_process_goes_on(pool: ProcessPool) -> None:
    first = await call(pool, tasks.pid)
    with pytest.raises(Reject, match="what it returned cannot be sent back"):
        await call(pool, tasks.returns_a_lock)
    with pytest.raises(Reject, match="what it returned cannot be sent back"):
        await call(pool, tasks.returns_the_unreadable)
    with pytest.raises(Reject, match="its arguments cannot be sent"):
        await call(pool, tasks.logs, lambda: None)
    assert await pool.run(tasks.returns_a_lock.fn, (), {}, context=context, wants_value=False) is None
    assert await call(pool, tasks.pid) == first


@pytest.mark.parametrize("endless", [tasks.loops, tasks.sleeps_in_c], ids=["python", "c"])
async def test_a_cancelled_call_is_killed_and_its_neighbour_goes_on(
    pool: ProcessPool, endless: Task[..., Any], tmp_path: Path
) -> None:
    neighbour = asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "neighbour"), 0.5))
    looping = asyncio.create_task(call(pool, endless, str(tmp_path / "started")))
    await until((tmp_path / "started").exists)
    looping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looping
    assert await neighbour == "done"
    await until(lambda: pool.processes == 1)
    assert await call(pool, tasks.whoami) == ("an-id", 2)


@pytest.mark.parametrize(("how", "words"), [("exit", "exit code 3"), ("kill", "killed by SIGKILL")])
async def test_a_death_is_that_calls_alone(pool: ProcessPool, how: str, words: str, tmp_path: Path) -> None:
    neighbour = asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "neighbour"), 0.5))
    await until((tmp_path / "neighbour").exists)
    with pytest.raises(ProcessDied, match=words):
        await call(pool, tasks.dies, how, str(tmp_path / "starts"))
    assert await neighbour == "done"
    assert await call(pool, tasks.whoami) == ("an-id", 2)


async def test_one_that_dies_idle_is_replaced_without_a_word(pool: ProcessPool) -> None:
    pid = await call(pool, tasks.pid)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not pool.processes)
    assert await call(pool, tasks.pid) != pid


async def test_one_that_has_just_died_idle_is_not_charged_to_the_next_call(pool: ProcessPool) -> None:
    pid = await call(pool, tasks.pid)
    os.kill(pid, signal.SIGKILL)  # and the event loop had no chance to see it
    assert await call(pool, tasks.pid) != pid


async def test_what_a_dead_one_has_forked_is_killed_too(pool: ProcessPool, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with pytest.raises(ProcessDied, match="exit code 3; its code"):
        await call(pool, tasks.forks_and_dies, str(started))
    await until(lambda: not alive(int(started.read_text())))


async def test_what_one_that_dies_idle_has_left_is_killed_too(pool: ProcessPool) -> None:
    pid, left = await call(pool, tasks.leaves_a_child)
    assert alive(left)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(left))


async def test_what_a_task_forks_does_not_speak_for_it(pool: ProcessPool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert [await call(pool, tasks.forks_and_returns) for _ in range(2)] == ["the process"] * 2
    assert "from the forked one" not in caplog.messages


async def test_what_it_has_started_is_killed_too(pool: ProcessPool, tmp_path: Path) -> None:
    started = tmp_path / "started"
    running = asyncio.create_task(call(pool, tasks.has_a_child, str(started)))
    await until(lambda: started.exists() and started.read_text())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not alive(int(started.read_text())))


async def test_the_time_of_a_call_begins_when_it_gets_a_seat(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    seated: list[float] = []

    def seat() -> JobContext:
        seated.append(time.monotonic())
        return context()

    first = asyncio.create_task(pool.run(tasks.waits.fn, (str(tmp_path / "a"), 0.5), {}, context=seat))
    await until((tmp_path / "a").exists)
    second = asyncio.create_task(pool.run(tasks.pid.fn, (), {}, context=seat))
    third = asyncio.create_task(pool.run(tasks.pid.fn, (), {}, context=seat))
    await stays_so_for(0.1, lambda: len(seated) == 1)
    third.cancel()
    assert await first == "done"
    assert await second
    assert len(seated) == 2
    await pool.aclose()


async def test_a_module_that_cannot_be_imported_there_is_that_calls_error(pool: ProcessPool, tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "only_here"}
    exec("def ghost(): pass", namespace)
    with pytest.raises(ModuleNotFoundError, match="only_here"):
        await pool.run(namespace["ghost"], (), {}, context=context)
    assert await call(pool, tasks.whoami) == ("an-id", 2)


async def test_an_import_that_fails_there_is_an_error_each_time_and_costs_no_process(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_a_library.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    raise ImportError('libfoo is missing')\ndef fn(): pass\n"
    )
    fn = importlib.import_module("needs_a_library").fn
    first = await call(pool, tasks.pid)
    for _ in range(2):
        with pytest.raises(ImportError, match="libfoo is missing"):
            await pool.run(fn, (), {}, context=context)
    assert await call(pool, tasks.pid) == first


async def test_the_time_of_a_call_begins_when_its_module_is_imported(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = tmp_path / "imported"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_import.py").write_text(
        "import os, pathlib, time\n"
        f"if os.getpid() != {os.getpid()}:\n    time.sleep(0.3)\n    pathlib.Path({str(imported)!r}).touch()\n"
        "def fn(): return 5\n"
    )
    fn = importlib.import_module("slow_to_import").fn
    begun: list[bool] = []

    def begin() -> JobContext:
        begun.append(imported.exists())
        return context()

    assert await pool.run(fn, (), {}, context=begin) == 5
    assert begun == [True]


async def test_a_call_that_is_cancelled_while_its_process_starts_leaves_nothing(tmp_path: Path) -> None:
    for steps in range(10):
        pool = ProcessPool(1)
        running = asyncio.create_task(call(pool, tasks.pid))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await pool.aclose()
        assert not pool.processes
        gc.collect()  # what was left open is a ResourceWarning, which is an error


async def test_a_closed_pool_has_no_processes_and_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ProcessPool(2)
    idle, other = await asyncio.gather(call(pool, tasks.pid), call(pool, tasks.pid))
    running = [asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "started"), 60.0))]
    await until((tmp_path / "started").exists)
    running += [asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "late"), 60.0)) for _ in range(3)]
    await asyncio.sleep(0)
    await pool.aclose()
    errors = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(error, JetqError) for error in errors)
    assert not alive(idle) and not alive(other)
    assert not pool.processes
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    with pytest.raises(JetqError, match="the worker has ended"):
        await call(pool, tasks.pid)


async def test_its_log_is_the_workers_log(pool: ProcessPool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await call(pool, tasks.logs, "from afar")
    assert [(record.name, record.message) for record in caplog.records if record.name == "app.of.the.user"] == [
        ("app.of.the.user", "from afar")
    ]


async def test_levels_set_at_the_worker_hold_for_its_log(pool: ProcessPool, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("app.of.the.user")
    logger.setLevel(logging.ERROR)
    try:
        await call(pool, tasks.logs, "from afar")
    finally:
        logger.setLevel(logging.NOTSET)
    assert "from afar" not in caplog.messages


async def test_a_log_record_that_cannot_be_read_is_lost_and_its_job_is_not(
    pool: ProcessPool, caplog: pytest.LogCaptureFixture
) -> None:
    first = await call(pool, tasks.pid)
    assert await call(pool, tasks.logs_the_unreadable) == first
    assert "a log record from a process is lost: ValueError" in caplog.messages
    assert await call(pool, tasks.pid) == first


async def test_what_it_prints_is_printed(
    pool: ProcessPool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    await call(pool, tasks.prints, "half a line")
    assert capfd.readouterr().out == "half a line"
    running = asyncio.create_task(call(pool, tasks.prints_and_waits, "before the end", str(tmp_path / "started")))
    await until((tmp_path / "started").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert capfd.readouterr().out == "before the end\n"


def test_it_works_under_uvloop(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        pool = ProcessPool(1)
        assert await call(pool, tasks.whoami) == ("an-id", 2)
        with pytest.raises(ProcessDied, match="exit code 3"):
            await call(pool, tasks.dies, "exit", str(tmp_path / "starts"))
        running = asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "started"), 60.0))
        await until((tmp_path / "started").exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        pid = await call(pool, tasks.pid)
        await pool.aclose()
        assert not alive(pid)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    ("how", "neighbour"),
    [(["package/main_of_tasks.py"], "steps"), (["-m", "package.main_of_tasks"], ".steps")],
    ids=["file", "module"],
)
def test_functions_and_classes_of_the_main_module_are_found(tmp_path: Path, how: list[str], neighbour: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "steps.py").write_text("STEP = 1\n")
    (package / "main_of_tasks.py").write_text(
        textwrap.dedent(f"""
        from {neighbour} import STEP
        import asyncio
        from dataclasses import dataclass
        from tests.unit.worker.pools.test_processes import context
        from jetq import task
        from jetq.worker.pools.processes import ProcessPool
        @dataclass
        class Point:
            x: int
        @task(run_in="process")
        def right(point: Point) -> Point:
            return Point(point.x + STEP)
        async def main():
            pool = ProcessPool(1)
            for x in (1, 2):
                point = await pool.run(right.fn, (Point(x),), {{}}, context=context)
                print(point == Point(x + 1))
            await pool.aclose()
        if __name__ == "__main__":
            asyncio.run(main())
        """)
    )
    root = str(Path(__file__).parents[4])
    done = subprocess.run(
        [sys.executable, *how],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


def test_processes_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio
        from tests.apps import process_tasks as tasks
        from tests.unit.worker.pools.test_processes import context
        from jetq.worker.pools.processes import ProcessPool
        async def main():
            pool = ProcessPool(2)
            print(await pool.run(tasks.pid.fn, (), {{}}, context=context), flush=True)
            await pool.run(tasks.has_a_child.fn, ({str(tmp_path / "started")!r},), {{}}, context=context)
        asyncio.run(main())
        """)
    )
    root = str(Path(__file__).parents[4])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while not ((tmp_path / "started").exists() and (tmp_path / "started").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.kill()
    while alive(pid) or alive(int((tmp_path / "started").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
