"""The log for machines: which job a line is about, and how it ended, as fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from jetq.cli.logs import JsonFormatter
from tests.apps import process_tasks
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio

log = logging.getLogger("an.app")


class Lines(logging.Handler):
    """Each record as the log has it, when it is handled."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def of(self, **fields: object) -> list[dict[str, Any]]:
        return [line for line in self.lines if fields.items() <= line.items()]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    caplog.set_level(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


async def test_how_a_job_ended_is_told_in_fields(nats_url: str, lines: Lines) -> None:
    app = fresh_app(nats_url)
    attempts = 0

    @app.task(name="flaky", max_attempts=2, wait=0.1)
    async def flaky(n: int) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ValueError("not yet")
        return n

    @app.task(name="failing", max_attempts=1)
    def failing() -> None:
        raise LookupError("no such order")

    async with working(app):
        job, dead = await flaky.adelay(7), await failing.adelay()
        assert await job.aresult() == 7
        with pytest.raises(LookupError):
            await dead.await_()
    of_flaky = {"job": job.id, "task": "flaky", "queue": "default"}
    (first,) = lines.of(**of_flaky, attempt=1, outcome="retrying", level="warning")
    (second,) = lines.of(**of_flaky, attempt=2, outcome="succeeded", level="debug")
    (third,) = lines.of(job=dead.id, task="failing", attempt=1, outcome="dead", level="error")
    assert all(line["duration"] >= 0 for line in (first, second, third))
    assert first["message"].startswith(f"flaky {job.id} failed: ValueError: not yet; attempt 2 is due in ")


async def test_what_a_job_logs_says_which_job_it_is(nats_url: str, lines: Lines) -> None:
    app = fresh_app(nats_url)

    @app.task(name="on-loop")
    async def on_loop() -> int:
        log.warning("said on the loop")
        return 1

    @app.task(name="in-thread")
    def in_thread() -> int:
        log.warning("said in a thread")
        return 1

    log.warning("said by nobody")
    async with working(app):
        ids = {}
        for name, made in {
            "on the loop": on_loop,
            "in a thread": in_thread,
            "in a process": process_tasks.says,
        }.items():
            job = await app.asend(made.name, {})
            await job.aresult()
            ids[name] = (job.id, made.name)
    for name, (id, task) in ids.items():
        assert lines.of(message=f"said {name}", job=id, task=task, queue="default", attempt=1), name
    (other,) = lines.of(message="said by nobody")
    assert "job" not in other
