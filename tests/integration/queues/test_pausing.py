"""Pause, resume and purge: nothing of a paused queue is started, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from jetq import Jetq, ResultExpired, Worker, current_job
from jetq.broker import Broker
from jetq.model.queue_info import QueueInfo
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, share, until, working
from tests.e2e.project import Project
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


async def _info(broker: Broker, queue: str = "default") -> QueueInfo:
    return next(info for info in await broker.queues() if info.name == queue)


class Work:
    """An app with tasks of two queues that write down what ran."""

    def __init__(self, url: str, app: Jetq | None = None) -> None:
        self.app = app = app or fresh_app(url)
        self.ran: list[str] = []
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

        @app.task(name="quick")
        async def quick(what: str) -> str:
            self.ran.append(what)
            return what

        @app.task(name="quick-elsewhere", queue="elsewhere")
        async def elsewhere(what: str) -> str:
            self.ran.append(what)
            return what

        @app.task(name="long", max_attempts=3, wait=0.1)
        async def long(fail: bool) -> str:
            self.ran.append(f"long {current_job().attempt}")
            self.started.set()
            await self.go_on.wait()
            if fail:
                raise ConnectionError
            return "ended"

        self.quick, self.elsewhere, self.long = quick, elsewhere, long


async def test_live_workers_start_nothing_of_a_paused_queue_and_what_runs_ends(nats_url: str) -> None:
    work = Work(nats_url)
    other = Jetq(nats_url, namespace=work.app.settings.namespace)
    share(other, work.quick, work.elsewhere, work.long)
    async with working(work.app, grace=1), working(other, grace=1):
        broker = await work.app.session.broker()
        running = await work.long.adelay(False)
        await work.started.wait()
        await broker.pause("default")
        jobs = [await work.quick.adelay(f"held {n}") for n in range(5)]
        jobs += [await work.quick.options(delay=0.3).adelay("due meanwhile")]
        assert await (await work.elsewhere.adelay("elsewhere")).aresult() == "elsewhere"
        work.go_on.set()
        assert await running.aresult() == "ended"
        await stays_so_for(1.5, lambda: work.ran == ["long 1", "elsewhere"])
        info = await _info(broker)
        assert (info.ready, info.running, info.scheduled) == (6, 0, 0)

        await broker.resume("default")
        assert [await job.aresult() for job in jobs] == [f"held {n}" for n in range(5)] + ["due meanwhile"]
        assert (await _info(broker)).paused_until is None


async def test_a_resume_is_heard_at_once(nats_url: str) -> None:
    work = Work(nats_url)
    async with working(work.app, grace=1):
        broker = await work.app.session.broker()
        took = []
        for n in range(3):  # without its nudge the server hands out up to 5 s later, so three in a row tell
            await broker.pause("default")
            job = await work.quick.adelay(str(n))
            await asyncio.sleep(0.3)
            resumed = time.monotonic()
            await broker.resume("default")
            await job.aresult()
            took.append(time.monotonic() - resumed)
        assert sum(took) < 3.0, took


async def test_a_pause_with_an_end_ends_by_itself(nats_url: str) -> None:
    work = Work(nats_url)
    async with working(work.app, grace=1):
        broker = await work.app.session.broker()
        end = time.time() + 1.0
        await broker.pause("default", end)
        job = await work.quick.adelay("held")
        assert await job.aresult() == "held"
        assert (await job.ainfo()).ended is not None
        assert time.time() >= end


@pytest.mark.slow
async def test_a_pause_outlasts_a_killed_server_and_new_workers(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    work = Work(server.url)
    async with working(work.app, grace=1):
        broker = await work.app.session.broker()
        await broker.pause("default")
        await asyncio.sleep(0.3)  # the server writes to its disk in a moment
        server.kill()
        server.start()
        async with asyncio.timeout(20):
            held = await work.quick.options(id="held").adelay("held")
        assert await (await work.elsewhere.adelay("elsewhere")).aresult(timeout=30) == "elsewhere"
        await asyncio.sleep(1.0)
    again = Work(server.url, Jetq(server.url, namespace=work.app.settings.namespace))
    async with working(again.app, grace=1):
        await again.elsewhere.adelay("elsewhere again")
        await until(lambda: again.ran)
        await stays_so_for(0.5, lambda: (work.ran, again.ran) == (["elsewhere"], ["elsewhere again"]))
        broker = await again.app.session.broker()
        assert (await _info(broker)).paused_until is not None
        await broker.resume("default")
        assert await again.app.job(held.id).aresult() == "held"
    assert again.ran == ["elsewhere again", "held"]


async def test_a_burst_worker_does_not_wait_for_what_is_held_back(nats_url: str) -> None:
    work = Work(nats_url)
    broker = await work.app.session.broker()
    await broker.pause("default")
    await work.quick.adelay("held")
    await work.elsewhere.adelay("elsewhere")
    worker = Worker(work.app, burst=True)
    running = asyncio.create_task(worker.run())
    ended, _ = await asyncio.wait([running], timeout=5)
    worker.stop()
    await running
    assert ended
    assert work.ran == ["elsewhere"]
    assert (await _info(broker)).ready == 1
    await work.app.session.aclose()


async def test_a_burst_worker_on_a_paused_queue_waits_for_what_runs(nats_url: str) -> None:
    work = Work(nats_url)
    job = await work.long.adelay(False)
    worker = Worker(work.app, burst=True)
    running = asyncio.create_task(worker.run())
    await work.started.wait()
    await (await work.app.session.broker()).pause("default")
    await stays_so_for(0.5, lambda: not running.done())
    work.go_on.set()
    async with asyncio.timeout(10):
        await running
    assert await job.aresult() == "ended"
    await work.app.session.aclose()


@pytest.mark.slow
async def test_a_purge_counts_what_waits_spares_schedules_and_what_runs_is_not_retried(nats_url: str) -> None:
    work = Work(nats_url)
    async with working(work.app, grace=1):
        broker = await work.app.session.broker()
        await work.app.aschedule("beats", work.quick.bind("beat"), every=3600)
        running = await work.long.adelay(True)
        await work.started.wait()
        await broker.pause("default")
        jobs = [await work.quick.options(key=f"k{n}").adelay(str(n)) for n in range(4)]
        jobs += [await work.quick.options(delay=delay).adelay("later") for delay in (1.0, 3600)]

        assert await broker.purge("default") == 6
        assert await broker.stored_jobs("default") == []
        await broker.resume("default")
        work.go_on.set()
        # Past the retry's and the scheduled job's due times.
        await stays_so_for(2.0, lambda: work.ran == ["long 1"])
        info = await _info(broker)
        assert (info.ready, info.running, info.scheduled, info.dead) == (0, 0, 0, 0)
        with pytest.raises(ResultExpired):
            await running.aresult()
        assert [each.name for each in await work.app.aschedules()] == ["beats"]
        again = await work.quick.options(key="k0").adelay("again")
        assert (again.disposition, await again.aresult()) == ("new", "again")


TASKS = """
import asyncio
from jetq import task

@task
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"
"""


@pytest.mark.slow
def test_the_commands_pause_drain_resume_and_purge(tmp_path: Path, nats_url: str) -> None:
    project = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"pausing-{time.time_ns()}")
    project.write("tasks.py", TASKS)

    def said(*words: str, code: int = 0) -> str:
        done = project.jetq(*words)
        assert done.returncode == code, done.stderr
        return (done.stdout + done.stderr).strip()

    missing = said("queue", "pause", "default", code=2)
    assert "there is no queue default" in missing
    for _ in range(3):
        said("call", "--no-wait", "tasks.nap", "0")
    assert said("queue", "pause", "default") == "paused default"
    assert said("queue", "ls").splitlines()[1].split(maxsplit=6)[6] == "paused, no live worker"
    (info,) = json.loads(said("queue", "ls", "--json"))
    assert (info["ready"], info["paused"], info["paused_until"]) == (3, True, None)
    assert "nothing of it runs" in said("queue", "drain", "default")
    assert said("queue", "pause", "default", "--for", "10m").startswith("paused default until ")
    (info,) = json.loads(said("queue", "ls", "--json"))
    assert abs(info["paused_until"] - time.time() - 600) < 60
    assert said("queue", "purge", "default", "--yes") == "removed 3 jobs"
    assert said("queue", "resume", "default") == "resumed default"
    (info,) = json.loads(said("queue", "ls", "--json"))
    assert (info["ready"], info["paused"]) == (0, False)
