"""Functions in processes: what comes back, what ends them, and that nobody else is hurt."""

from __future__ import annotations

import asyncio
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

from jetq.context import JobContext
from jetq.errors import Reject
from jetq.failures import capture
from jetq.process_pool import ProcessDied, ProcessPool
from jetq.task import Task
from tests.apps import process_tasks as tasks

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")]


def context() -> JobContext:
    return JobContext("an-id", 2, 3, "t", "q", datetime.now(UTC), None, "w")


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    made = ProcessPool(2)
    yield made
    await made.aclose()
    assert not made._children


async def call(pool: ProcessPool, task: Task[..., Any], *args: object) -> Any:
    return await pool.run(task.fn, args, {}, context=context)


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
    assert failure.type == "tests.apps.process_tasks.Odd"
    assert "in fails_oddly" in failure.traceback


async def test_what_cannot_be_pickled_is_refused_and_the_process_goes_on(pool: ProcessPool) -> None:
    first = await call(pool, tasks.pid)
    with pytest.raises(Reject, match="what it returned cannot be sent back"):
        await call(pool, tasks.returns_a_lock)
    with pytest.raises(Reject, match="its arguments cannot be sent"):
        await call(pool, tasks.logs, lambda: None)
    assert await pool.run(tasks.returns_a_lock.fn, (), {}, context=context, wants_value=False) is None
    assert await call(pool, tasks.pid) == first


@pytest.mark.parametrize("endless", [tasks.loops, tasks.sleeps_in_c], ids=["python", "c"])
async def test_a_cancelled_call_is_killed_and_its_neighbour_goes_on(
    pool: ProcessPool, endless: Task[..., Any], tmp_path: Path
) -> None:
    neighbour = asyncio.create_task(call(pool, tasks.waits, str(tmp_path / "neighbour"), 1.0))
    looping = asyncio.create_task(call(pool, endless, str(tmp_path / "started")))
    await until((tmp_path / "started").exists)
    (pid,) = [child._process.pid for child in pool._children if child not in pool._idle][-1:]
    looping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looping
    assert await neighbour == "done"
    await until(lambda: len(pool._children) == 1)
    assert pid is not None
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
    await until(lambda: not pool._children)
    assert await call(pool, tasks.pid) != pid


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
    await asyncio.sleep(0.1)
    assert len(seated) == 1
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


async def test_its_log_is_the_workers_log(pool: ProcessPool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await call(pool, tasks.logs, "from afar")
    assert [(record.name, record.message) for record in caplog.records if record.name == "app.of.the.user"] == [
        ("app.of.the.user", "from afar")
    ]


def test_processes_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio
        from tests.apps import process_tasks as tasks
        from tests.unit.test_process_pool import context
        from jetq.process_pool import ProcessPool
        async def main():
            pool = ProcessPool(2)
            print(await pool.run(tasks.pid.fn, (), {{}}, context=context), flush=True)
            await pool.run(tasks.waits.fn, ({str(tmp_path / "started")!r}, 60), {{}}, context=context)
        asyncio.run(main())
        """)
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.kill()
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
