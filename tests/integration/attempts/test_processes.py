"""Tasks that run in processes: their end is real, and their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jetq import Jetq, JobCancelled, JobTimeout, TaskFailed
from tests.apps import process_tasks as tasks
from tests.apps.working import fresh_app, share, tasks_of, working

pytestmark = pytest.mark.anyio


def _app(url: str) -> Jetq:
    app = fresh_app(url)
    share(app, *tasks_of(tasks))
    return app


async def test_results_and_exceptions_cross(nats_url: str) -> None:
    app = _app(nats_url)
    async with working(app):
        job = await app.asend("tests.apps.process_tasks.whoami")
        assert await job.aresult() == (job.id, 1)
        with pytest.raises(LookupError, match="no such thing") as caught:
            await (await app.asend("tests.apps.process_tasks.fails", max_attempts=1, result_ttl=60)).aresult()
        assert "in fails" in str(caught.value.__cause__)
        assert await (await app.asend("tests.apps.process_tasks.asks_again")).aresult() == 2
        with pytest.raises(TaskFailed, match="cannot be sent back"):
            await (await app.asend("tests.apps.process_tasks.returns_a_lock")).aresult()


@pytest.mark.parametrize("name", ["loops", pytest.param("sleeps_in_c", marks=pytest.mark.slow)])
async def test_what_loops_for_ever_is_ended_at_its_timeout_and_its_neighbours_go_on(
    nats_url: str, tmp_path: Path, name: str
) -> None:
    app = _app(nats_url)
    async with working(app):
        neighbour = await app.asend(
            "tests.apps.process_tasks.waits", {"started": str(tmp_path / "neighbour"), "seconds": 2.0}
        )
        endless = await app.asend(
            f"tests.apps.process_tasks.{name}", {"started": str(tmp_path / "started")}, result_ttl=60
        )
        with pytest.raises(JobTimeout):
            await endless.aresult(timeout=20)
        assert await neighbour.aresult() == "done"
        assert (await neighbour.ainfo()).attempt == 1
        assert (await app.asend("tests.apps.process_tasks.pid")).id
        (entry,) = await (await app.session.broker()).dead("default", id=endless.id)
    assert entry.letter.failure.type == "jetq.JobTimeout"


async def test_a_killed_process_is_a_crash_of_its_own_job_alone(nats_url: str, tmp_path: Path) -> None:
    app = _app(nats_url)
    starts = tmp_path / "starts"
    async with working(app):
        neighbour = await app.asend(
            "tests.apps.process_tasks.waits", {"started": str(tmp_path / "neighbour"), "seconds": 1.0}
        )
        dying = await app.asend("tests.apps.process_tasks.dies", {"how": "kill", "starts": str(starts)}, result_ttl=60)
        with pytest.raises(TaskFailed, match="killed by SIGKILL"):
            await dying.aresult(timeout=20)
        assert await neighbour.aresult() == "done"
        (entry,) = await (await app.session.broker()).dead("default", id=dying.id)
    assert starts.read_text() == "xx"  # max_crashes=2
    assert (entry.letter.reason, entry.letter.attempt) == ("crashed", 1)


async def test_a_cancelled_process_is_killed(nats_url: str, tmp_path: Path) -> None:
    app = _app(nats_url)
    async with working(app):
        job = await app.asend("tests.apps.process_tasks.waits", {"started": str(tmp_path / "started"), "seconds": 60.0})
        async with asyncio.timeout(10):
            while not (tmp_path / "started").exists():
                await asyncio.sleep(0.01)
        assert await job.acancel() == "stopped"
        with pytest.raises(JobCancelled):
            await job.aresult()


async def test_a_stopping_worker_gives_what_runs_in_processes_back(nats_url: str, tmp_path: Path) -> None:
    app = _app(nats_url)
    async with working(app, grace=0.2):
        job = await app.asend("tests.apps.process_tasks.waits", {"started": str(tmp_path / "started"), "seconds": 60.0})
        async with asyncio.timeout(10):
            while not (tmp_path / "started").exists():
                await asyncio.sleep(0.01)
    broker = await app.session.broker()
    found = await broker.find("default", job.id)
    assert found is not None and (found.state, found.in_flight) == ("queued", False)
    await app.session.aclose()
