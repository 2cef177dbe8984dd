"""Whatever a user gives to what jetq exports is taken, or refused in words: no error of jetq's inside comes out."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from jetq import Jetq, Queue, RateLimited, Reject, Retry, Schedule, Snooze, Task, Worker, register_type, task
from jetq.errors import DefinitionError, JetqError
from jetq.migration_hints import CALL_OPTIONS
from jetq.model.definitions.options import TaskKeywords
from jetq.settings import Settings
from jetq.testing import in_memory
from tests.apps.fresh import own_tasks

JUNK: dict[str, Any] = {
    "None": None,
    "one": 1,
    "negative": -1,
    "float": 1.5,
    "nan": float("nan"),
    "huge": 2**70,
    "empty text": "",
    "two words": "a b",
    "surrogate": "\ud800",
    "long text": "x" * 3000,
    "bytes": b"x",
    "list": [1],
    "dict": {"a": 1},
    "object": object(),
    "class": int,
    "function": lambda: 1,
    "naive": datetime(2030, 1, 1),
    "negative span": timedelta(days=-1),
}

app = Jetq()


@app.task(name="doors.add")
def add(x: int, y: int = 1) -> int:
    return x + y


def defined(option: str) -> Callable[[Any], object]:
    def define(given: Any) -> Task[..., Any]:
        def fn(x: int) -> int:
            return x

        return task(**{"name": "doors.defined", option: given})(fn)

    return define


DOORS: dict[str, Callable[[Any], object]] = {
    "Jetq": lambda given: Jetq(given),
    "Jetq(queues)": lambda given: Jetq(queues=given),
    "Jetq(middleware)": lambda given: Jetq(middleware=given),
    **{f"Jetq({name})": lambda given, name=name: Jetq(**{name: given}) for name in Settings.__struct_fields__},  # type: ignore[misc]
    "Jetq(lifespan)": lambda given: Jetq(lifespan=given),
    "Jetq(on_expired)": lambda given: Jetq(on_expired=given),
    "Jetq(payloads)": lambda given: Jetq(payloads=given),
    "Queue": lambda given: Queue(given),
    "Queue(levels)": lambda given: Queue("a", levels=given),
    "Queue(weight)": lambda given: Queue("a", weight=given),
    "task": lambda given: task(given),
    **{f"task({name})": defined(name) for name in TaskKeywords.__annotations__},
    **{f"options({name})": lambda given, name=name: add.options(**{name: given}).delay(1) for name in CALL_OPTIONS},  # type: ignore[misc]
    "delay": lambda given: add.delay(given),
    "enqueue": lambda given: app.enqueue(given),
    "delay_many": lambda given: app.delay_many(given),
    "delay_many of one": lambda given: app.delay_many([given]),
    "delay_many of a task": lambda given: add.delay_many([given]),
    "delay_many of one call": lambda given: app.delay_many(add.bind(1) if given is None else given),  # type: ignore[arg-type]
    "send": lambda given: app.send(given),
    "send with": lambda given: app.send("doors.add", given),
    "send elsewhere": lambda given: app.send("doors.elsewhere", given),
    "call": lambda given: app.call("doors.add", given),
    "job": lambda given: app.job(given),
    "job in": lambda given: app.job("x", given),
    "result": lambda given: app.job("x").result(timeout=given),
    "wait": lambda given: app.job("x").wait(timeout=given),
    "cancel": lambda given: app.job("x").cancel(timeout=given),
    "reschedule(at)": lambda given: app.job("x").reschedule(at=given),
    "reschedule(delay)": lambda given: app.job("x").reschedule(delay=given),
    "schedule": lambda given: app.schedule(given, add.bind(1), every=5),
    "schedule of": lambda given: app.schedule("doors", given, every=5),
    "schedule(cron)": lambda given: app.schedule("doors", add.bind(1), cron=given),
    "schedule(every)": lambda given: app.schedule("doors", add.bind(1), every=given),
    "unschedule": lambda given: app.unschedule(given),
    "unschedule in": lambda given: app.unschedule("doors", given),
    "schedules": lambda given: app.schedules(given),
    "Schedule(tz)": lambda given: Schedule(cron="0 9 * * *", tz=given),
    "Schedule(name)": lambda given: Schedule(every=5, name=given),
    "Schedule(arguments)": lambda given: task(name="doors.ticks", schedules=[Schedule(every=5, arguments=given)])(len),
    "Schedule(overlap)": lambda given: Schedule(every=5, overlap=given),
    "Schedule(catch_up)": lambda given: Schedule(every=5, catch_up=given),
    "Schedule(jitter)": lambda given: Schedule(every=5, jitter=given),
    "Worker": lambda given: Worker(given),
    "Worker(queues)": lambda given: Worker(app, queues=given),
    "Worker(concurrency)": lambda given: Worker(app, concurrency=given),
    "Worker(grace)": lambda given: Worker(app, grace=given),
    "Worker(max_jobs)": lambda given: Worker(app, max_jobs=given),
    "Retry": lambda given: Retry(given),
    "Retry(arguments)": lambda given: Retry(arguments=given),
    "Snooze": lambda given: Snooze(given),
    "RateLimited": lambda given: RateLimited(given),
    "Reject": lambda given: str(Reject(given)),
    "register_type": lambda given: register_type(given, to_json=str, from_json=str),
    "register_type(to_json)": lambda given: register_type(type("Own", (), {}), to_json=given, from_json=str),
}


@pytest.fixture(autouse=True)
def nothing_is_defined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own_tasks(monkeypatch)
    with in_memory(app):
        yield


@pytest.mark.parametrize("door", DOORS)
def test_junk_is_refused_in_words_or_taken(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, given in JUNK.items():
        own_tasks(monkeypatch)
        try:
            DOORS[door](given)
        except JetqError:
            pass
        except (TypeError, ValueError) as error:
            assert says_so(error), f"{door} given {name}: {error!r} is an error of the inside"


def says_so(error: Exception) -> bool:
    """Whether a line that raises did so, and not one that took the value for something else."""
    at = error.__traceback__
    assert at is not None
    while at.tb_next is not None:
        at = at.tb_next
    line = linecache.getline(at.tb_frame.f_code.co_filename, at.tb_lineno)
    return "raise " in line or f"{type(error).__name__}(" in line


@pytest.mark.parametrize(
    ("door", "given", "told"),
    [
        ("delay_many", add, "a job is made of a call, and SyncTask is none\nhint: a task makes one: add.bind(2, 3)"),
        ("delay_many of one", (1, 2), "a job is made of a call, and tuple is none"),
        ("delay_many of one call", None, "delay_many takes several calls, and was given one"),
        ("send with", [1], "arguments go by parameter name, as {'x': 2}, not list"),
        ("task(max_attempts)", 2**31, "max_attempts must be at most 2147483647"),
        ("task(timeout)", "5m", "timeout: expected seconds or a timedelta, got str; write 300 for '5m'"),
        ("Schedule(jitter)", 1e18, "jitter must be at most 9000000000 s"),
        ("Worker(queues)", "mail", "a worker's queues are a list of names, or weights by name, not 'mail'"),
        ("Jetq(middleware)", [1], "middleware takes functions, not int"),
        ("Jetq(lifespan)", 1, "lifespan takes functions, not int"),
        ("Jetq(middleware)", len, "middleware takes a list of functions, not builtin_function_or_method"),
        ("Worker", None, "a worker runs the tasks of an app, and NoneType is none"),
    ],
)
def test_what_is_refused_says_what_to_give(door: str, given: Any, told: str) -> None:
    with pytest.raises(JetqError) as caught:
        DOORS[door](given)
    assert told in str(caught.value)


def test_a_schedule_that_was_taken_can_be_read() -> None:
    with pytest.raises(DefinitionError):
        app.schedule("doors", add.bind(1), every=5, catch_up=1e18)
    assert app.schedule("doors", add.bind(1), every=5, catch_up=9e9) in app.schedules()
