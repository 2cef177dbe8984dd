"""Tasks as they are defined: names, options, and what is refused where it is written."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from tenacity import wait_fixed

import jetq
from jetq import Jetq, task
from jetq.client.registry import IMPORTED
from jetq.client.task import AsyncTask, SyncTask
from jetq.errors import ArgumentError, DefinitionError
from jetq.model.definitions.options import CallSettings
from tests.apps.fresh import no_app_yet, own_tasks


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Knows nothing of the tasks of other modules, and forgets what a test defines."""
    no_app_yet(monkeypatch)
    own_tasks(monkeypatch)


def refused(define: Callable[[], object]) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        define()
    return caught.value


# --- names


def plain(x: int) -> int:
    """What it does."""
    return x + 1


async def awaited(x: int) -> int:
    return x + 1


def test_a_task_is_named_by_its_module_and_called_as_before() -> None:
    made = task(plain)
    assert made.name == f"{__name__}.plain"
    assert made(1) == 2
    assert made.__doc__ == "What it does."
    assert made.queue == "default"
    assert isinstance(made, SyncTask)
    assert IMPORTED[made.name] is made
    assert list(inspect.signature(made).parameters) == ["x"]


@pytest.mark.anyio
async def test_an_async_one_gives_its_coroutine() -> None:
    made = task(awaited)
    assert await made(1) == 2
    assert isinstance(made, AsyncTask)


def test_what_runs_as_main_is_named_by_its_file(tmp_path: Path) -> None:
    source = "from jetq import task\n@task\ndef add(x: int) -> int: return x\nprint(add.name)\n"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "tasks.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(Path(jetq.__file__).parents[1])}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run([sys.executable, "shop/tasks.py"]).stdout == "tasks.add\n"
    assert run([sys.executable, "-m", "shop.tasks"]).stdout == "shop.tasks.add\n"


def test_a_local_function_needs_a_name() -> None:
    def local() -> None: ...

    error = refused(lambda: task(local))
    assert "is a local function" in error.message
    assert error.hint is not None
    assert "@task(name=...)" in error.hint
    assert task(name="a.local")(local).name == "a.local"


class Service:
    def work(self) -> None: ...

    @staticmethod
    def serve() -> None: ...


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (lambda: None, "the lambda at "),
        (Service.work, "Service.work at "),
        (Service.serve, "is a method: a job has no object to call it on"),
        (Service().work, "@task decorates functions, not <bound method"),
        (functools.partial(plain, 1), "@task decorates functions, not functools.partial"),
        (Service, "@task decorates functions, not <class"),
        (print, "@task decorates functions, not <built-in function print>"),
        ("a.name", "@task decorates functions, not 'a.name'"),
    ],
)
@pytest.mark.parametrize("name", [None, "a.name"])
def test_only_functions_of_modules_are_tasks(fn: Any, sentence: str, name: str | None) -> None:
    decorate: Any = task if name is None else task(name=name)
    assert sentence in refused(lambda: decorate(fn)).message


@pytest.mark.parametrize("name", ["", "a b", "a..b", "a.*", "ä", "x" * 200, 3])
def test_illegal_names_are_refused(name: Any) -> None:
    refused(lambda: task(name=name)(plain))


@pytest.mark.parametrize("queue", ["", "Email", "a.b", "a*", "x" * 49, None])
def test_illegal_queues_are_refused(queue: Any) -> None:
    assert "queue" in refused(lambda: task(queue=queue)(plain)).message
    assert "queue" in refused(lambda: task(plain).options(queue=queue)).message


def test_two_functions_of_one_name_are_both_placed() -> None:
    task(name="twice")(plain)
    text = str(refused(lambda: task(name="twice")(awaited)))
    for fn in (plain, awaited):
        assert f"{__file__}:{fn.__code__.co_firstlineno}" in text


def test_a_module_imported_again_replaces_its_own(tmp_path: Path) -> None:
    module = tmp_path / "again.py"
    module.write_text("from jetq import task\n@task\ndef f() -> None: ...\n")
    first = runpy.run_path(str(module), run_name="again")["f"]
    second = runpy.run_path(str(module), run_name="again")["f"]
    assert IMPORTED["again.f"] is second is not first


def test_a_module_that_defines_a_task_twice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    once = "@task\ndef f() -> None: ...\n"
    (tmp_path / "doubled.py").write_text(f"from jetq import task\n{once}{once}")
    text = str(refused(lambda: importlib.import_module("doubled")))
    assert "two tasks are named 'doubled.f'" in text
    assert "doubled.py:2 and " in text
    assert "doubled.py:4\n" in text


def test_a_reloaded_module_may_have_moved_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = "from jetq import task\n@task\ndef f() -> None: ...\n"
    (tmp_path / "moved.py").write_text(source)
    module = importlib.import_module("moved")
    try:
        (tmp_path / "moved.py").write_text(f"# a line more\n{source}")
        assert importlib.reload(module).f is IMPORTED["moved.f"]
    finally:
        del sys.modules["moved"]


def test_an_app_and_an_import_may_not_share_a_name() -> None:
    app = Jetq()
    task(name="shared")(plain)
    app.task(name="shared")(awaited)
    assert "two tasks are named 'shared'" in refused(lambda: app.tasks).message


# --- options


def is_value_error(error: BaseException) -> bool:
    return isinstance(error, ValueError)


def test_defaults() -> None:
    options = task(plain).declared
    assert (options.max_attempts, options.wait, options.dead_on, options.retry_on) == (3, None, (), None)
    assert (options.timeout, options.max_crashes, options.result_ttl) == (300.0, 3, 3600.0)
    assert (options.run_in, task(awaited).declared.run_in) == ("thread", "loop")


def test_what_a_task_declares_has_its_older_name_too() -> None:
    made = task(plain)
    assert made.defaults is made.options(delay=5).defaults is made.declared


def test_a_function_that_returns_nothing_keeps_no_result() -> None:
    def nothing() -> None: ...

    assert task(name="nothing")(nothing).declared.result_ttl is None
    assert task(name="nothing", result_ttl=60)(nothing).declared.result_ttl == 60.0


def test_that_a_job_has_ended_is_kept_where_there_is_no_result() -> None:
    def nothing() -> None: ...

    assert task(name="nothing", ends_kept=60)(nothing).declared.result_ttl == 60.0
    for keywords in ({"ends_kept": 60}, {"ends_kept": 60, "result_ttl": 60}):
        told = refused(lambda options=keywords: task(name="plain", **options)(plain))  # type: ignore[misc]
        assert "ends_kept is for a function annotated to return nothing" in told.message
    with pytest.raises(DefinitionError, match="ends_kept is for"):
        task(name="nothing", ends_kept=60, result_ttl=None)(nothing)


def test_options_are_converted_at_the_door() -> None:
    strategy = wait_fixed(1)
    made = task(
        timeout=timedelta(minutes=1), result_ttl=timedelta(hours=2), wait=strategy, dead_on=ValueError, max_attempts=1
    )(plain)
    assert (made.declared.timeout, made.declared.result_ttl) == (60.0, 7200.0)
    assert (made.declared.wait, made.declared.dead_on) == (strategy, (ValueError,))
    chosen = task(name="chosen", dead_on=is_value_error, retry_on=(OSError, KeyError))(plain).declared
    assert (chosen.dead_on, chosen.retry_on) == (is_value_error, (OSError, KeyError))
    assert task(wait=5, timeout=None)(plain).declared.wait == 5.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_attemps": 3}, "@task has no option 'max_attemps'\nhint: did you mean 'max_attempts'?"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1, not 0"),
        ({"max_attempts": 2.5}, "max_attempts must be a whole number from 1, not 2.5"),
        ({"max_attempts": True}, "max_attempts must be a whole number from 1, not True"),
        ({"max_crashes": 0}, "max_crashes must be a whole number from 1, not 0"),
        ({"timeout": 0}, "timeout must be more than 0 s"),
        ({"timeout": -1}, "timeout: expected a duration of 0 seconds or more"),
        ({"timeout": float("nan")}, "timeout: expected a duration"),
        ({"timeout": "1m"}, "timeout: expected seconds or a timedelta, got str"),
        ({"result_ttl": 0.5}, "result_ttl must be 1 s or more"),
        ({"wait": -1}, "wait: expected a duration"),
        ({"wait": "exponential"}, "wait: expected seconds or a timedelta, got str"),
        ({"dead_on": [ValueError]}, "dead_on takes exception classes"),
        ({"dead_on": (ValueError, "KeyError")}, "dead_on takes exception classes, not 'KeyError'"),
        ({"dead_on": ValueError("x")}, "dead_on takes exception classes"),
        ({"dead_on": (ValueError, is_value_error)}, "hint: a class, a tuple of classes, or one function: dead_on="),
        ({"dead_on": None}, "dead_on takes exception classes, not None"),
        ({"retry_on": [ValueError]}, "retry_on takes exception classes"),
        ({"retry_on": "ValueError"}, "retry_on takes exception classes, not 'ValueError'"),
        ({"retry_on": int}, "retry_on takes exception classes, not <class 'int'>"),
        ({"retry_on": awaited}, "retry_on takes a function that answers at once, and <function awaited"),
        ({"dead_on": lambda: True}, "dead_on takes a function of the exception alone, and <function"),
        ({"dead_on": lambda error, more: True}, "missing a required argument: 'more'"),
        ({"run_in": "loop"}, "run_in='loop' needs an async function"),
        ({"run_in": "fibre"}, "run_in must be 'loop', 'thread' or 'process', not 'fibre'"),
        ({"priority": "urgent"}, "priority is 'high', 'normal' or 'low', not 'urgent'"),
        ({"cron": "* * * *"}, "cron '* * * *' has 4 fields"),
        ({"cron": "* * * * *", "every": 5}, "cron or every, and not both"),
        ({"tz": "UTC"}, "a schedule needs cron or every"),
        ({"every": 0.2}, "every takes whole seconds"),
        ({"every": 5, "schedules": []}, "every and schedules contradict each other"),
        ({"schedules": ["@daily"]}, "schedules takes a list of Schedule(...)"),
        ({"unique": "running"}, "unique needs a key"),
        ({"key": "a", "unique": True}, "unique must be 'done' or 'running', not True"),
        ({"limit": 0}, "limit must be a whole number from 1, not 0"),
        ({"limit_per": ""}, "limit_per is the name of a parameter, like 'customer_id', not ''"),
        ({"rate": 5}, "rate is a number from 1 and a unit, like '50/s', '100/m', '10/h' or '5/d', not 5"),
        ({"rate": "0/s"}, "not '0/s'"),
        ({"rate": "5/w"}, "not '5/w'"),
    ],
    # Functions have another address in each process, and the processes that run the tests must agree on names.
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_impossible_options_are_refused_where_written(options: Any, sentence: str) -> None:
    assert sentence in str(refused(lambda: task(**options)(plain)))


def test_an_async_function_runs_on_the_loop_only() -> None:
    assert "run_in='thread' needs a function that is not async" in str(refused(lambda: task(run_in="thread")(awaited)))


def test_generators_are_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    assert "is a generator" in refused(lambda: task(name="numbers")(numbers)).message


class Handle:
    """Has no JSON form."""


def test_a_result_without_json_form_is_refused_unless_none_is_kept() -> None:
    def opened() -> Handle:
        return Handle()

    assert "Handle has no JSON form" in refused(lambda: task(name="opened")(opened)).message
    made = task(name="opened", result_ttl=None)(opened)
    assert "Handle has no JSON form" in refused(lambda: made.options(result_ttl=60)).message


def test_an_annotation_that_is_never_defined_is_found_before_a_worker_starts() -> None:
    def lost(x: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821

    app = Jetq()
    app.task(name="lost")(lost)
    assert "lost: the annotation x: Missing: name 'Missing' is not defined" in refused(lambda: app.tasks).message


# --- options of a call


def test_call_options_are_those_of_the_next_calls() -> None:
    made = task(plain)
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)
    call = made.options(queue="slow", max_attempts=9, timeout=None, result_ttl=7, at=at, id="a-1").bind(1)
    assert call.settings == CallSettings(
        queue="slow", max_attempts=9, timeout=None, result_ttl=7.0, delay=None, at=at, id="a-1"
    )
    assert (call.task, call.queue, call.body, call.effective.result_ttl) == (made.name, "slow", b'{"x":1}', 7.0)
    assert made.bind(1).settings == CallSettings()


def test_when_a_call_is_due() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    day = timedelta(days=1)

    def due(**options: Any) -> float | None:
        return task(plain).options(**options).bind(1).settings.due(now.timestamp())

    assert due() is None
    assert due(delay=0) is None
    assert due(delay=1.5) == now.timestamp() + 1.5
    assert due(delay=timedelta(minutes=1)) == now.timestamp() + 60
    assert due(at=now + day) == (now + day).timestamp()
    assert due(at=now - day) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "delay and at contradict each other"),
        ({"at": datetime(2030, 1, 1)}, "has no time zone; pass an aware one, e.g. datetime.now(UTC)"),
        ({"at": 1893456000}, "at takes an aware datetime, not int"),
        ({"delay": -1}, "delay: expected a duration"),
        ({"delay": "soon"}, "delay: expected seconds or a timedelta, got str"),
        ({"id": "a b"}, "job id 'a b' is not allowed"),
        ({"dely": 1}, ".options has no option 'dely'\nhint: did you mean 'delay'?"),
        ({"wait": 1}, ".options has no option 'wait'"),
        ({"key": ""}, "a key is a text that is not empty"),
        ({"key": lambda x: "a"}, "the key of a call is a text"),
        ({"replace": True}, "replace needs a key"),
        ({"throttle": 60}, "throttle needs a key"),
        ({"key": "a", "throttle": 0.5}, "throttle must be 1 s or more"),
        ({"key": "a", "replace": 1}, "replace is True or False, not 1"),
        ({"key": "a", "max_wait": 60}, "max_wait bounds how long replace=True may put a job off"),
        ({"unique": "running"}, "unique needs a key"),
        ({"key": "a", "unique": "never"}, "unique must be 'done' or 'running', not 'never'"),
        ({"priority": 1}, "priority is 'high', 'normal' or 'low', not 1"),
        ({"expires": 0}, "expires must be more than 0 s"),
        ({"expires": "soon"}, "expires: expected seconds or a timedelta"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_impossible_call_options_are_refused_where_written(options: Any, sentence: str) -> None:
    assert sentence in str(refused(lambda: task(plain).options(**options)))


def test_bind_checks_the_arguments() -> None:
    made = task(plain)
    with pytest.raises(ArgumentError, match=r"test_task\.plain\(x: int\): x: expected int, got str"):
        made.bind("a")  # type: ignore[arg-type]


def test_a_calls_own_options_win_over_those_of_the_task_that_stores_it() -> None:
    made = task(plain)
    call = made.options(queue="own", delay=5).bind(1)
    others = made.options(queue="bulk", max_attempts=7, result_ttl=None, at=datetime(2030, 1, 1, tzinfo=UTC))
    merged = call.with_defaults(others.bind(1).settings)
    assert (merged.queue, merged.effective.result_ttl) == ("own", None)
    assert merged.settings == CallSettings(queue="own", max_attempts=7, result_ttl=None, delay=5.0)
    assert merged.settings.timeout is UNSET
    assert made.bind(1).with_defaults(others.bind(1).settings).queue == "bulk"
