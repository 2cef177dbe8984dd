"""Words of other frameworks: whoever types one is told the line to write here, wherever the word was written."""

from __future__ import annotations

import copy
import doctest
import importlib.util
import inspect
import pickle
import sys
import unittest.mock
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
import pytest

import jetq
from jetq import Jetq, task
from jetq.cli import root
from jetq.client.workflows.workflow import Workflow
from jetq.errors import ArgumentError, DefinitionError, SettingsError
from jetq.migration_hints import ATTRIBUTES, CALL_OPTIONS, COMMANDS, NAMES, OPTIONS, option_answer
from jetq.model.definitions.options import CallOptions, TaskKeywords
from jetq.settings import Settings, from_jetq_environment, from_keywords, from_table
from tests.apps.fresh import no_app_yet, own_tasks


def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what a test defines."""
    no_app_yet(monkeypatch)
    own_tasks(monkeypatch, and_those_of_others=True)


def answer(wrong: Callable[[], object], kind: type[Exception]) -> str:
    """What is said to who writes that: one line."""
    with pytest.raises(kind) as caught:
        wrong()
    said = str(caught.value)
    assert "\n" not in said
    return said


# --- options


IN_DEFINITIONS = [
    ({"max_retries": 3}, "'max_retries': @task(max_attempts=4), where the first run counts"),
    ({"max_retries": 0}, "'max_retries': @task(max_attempts=1), where the first run counts"),
    ({"max_retries": None}, "'max_retries': @task(max_attempts=4), where the first run counts"),
    ({"retries": 5}, "'retries': @task(max_attempts=6), where the first run counts"),
    ({"max_tries": 3}, "'max_tries': @task(max_attempts=3), where the first run counts"),
    ({"max_retrise": 3}, "'max_retrise', nor 'max_retries': @task(max_attempts=4), where the first run counts"),
    ({"default_retry_delay": 180}, "'default_retry_delay': @task(wait=180)"),
    ({"retry_backoff": True}, "'retry_backoff': @task(wait=tenacity.wait_exponential(max=600))"),
    ({"autoretry_for": (KeyError,)}, "'autoretry_for': @task(retry_on=(OSError,)); without it all are retried"),
    ({"retry_for": (KeyError,)}, "'retry_for': @task(retry_on=(OSError,)); without it all are retried"),
    ({"throws": KeyError}, "'throws': @task(dead_on=(ValueError,))"),
    ({"time_limit": 60_000}, "'time_limit': @task(timeout=300), in seconds"),
    ({"soft_time_limit": 60}, "'soft_time_limit': @task(timeout=300), in seconds"),
    ({"time_out": 60}, "'time_out': @task(timeout=300), in seconds"),
    ({"rate_limit": "10/m"}, "'rate_limit': @task(rate=\"10/m\"), over all workers together"),
    ({"result_expires": 60}, "'result_expires': @task(result_ttl=3600), in seconds"),
    ({"ignore_result": True}, "'ignore_result': @task(result_ttl=None), or result_ttl=3600"),
    ({"unique_key": "a"}, "'unique_key': @task(key=\"...\")"),
    ({"countdown": 5}, "'countdown': add.options(delay=5).delay(...)"),
    ({"eta": None}, "'eta': add.options(at=when).delay(...)"),
    ({"delay": 5}, "'delay': add.options(delay=...).delay(...)"),
    ({"job_id": "a"}, "'job_id': add.options(id=\"...\").delay(...)"),
    ({"task_id": "a"}, "'task_id': add.options(id=\"...\").delay(...)"),
    ({"queue_name": "mail"}, "'queue_name': @task(queue=\"mail\")"),
    ({"bind": True}, "'bind': leave it out: current_job() in the task"),
    ({"link": add}, "'link': put the calls together: (add.bind(2, 3) | following).delay()"),
    ({"link_error": add}, "'link_error': call back when a workflow has failed: add.bind(2, 3).on_failure(call)"),
    ({"base": object}, "'base': leave it out: a task is a function; what is around all of them is Jetq(middleware"),
    ({"acks_late": True}, "'acks_late': leave it out"),
    ({"reject_on_worker_lost": True}, "'reject_on_worker_lost': leave it out"),
    ({"serializer": "pickle"}, "'serializer': leave it out: arguments and results are JSON"),
    ({"crontab": "* * * * *"}, "'crontab': @task(cron=\"0 9 * * *\")"),
    ({"priority": 9}, "priority is 'high', 'normal' or 'low', not 9"),
]  # fmt: skip

OF_CALLS = [
    ({"countdown": 60}, "'countdown': add.options(delay=60).delay(...)"),
    ({"countdown": -1}, "'countdown': add.options(delay=60).delay(...)"),
    ({"eta": datetime(2030, 1, 1, tzinfo=UTC)}, "'eta': add.options(at=when).delay(...)"),
    ({"job_id": "a"}, "'job_id': add.options(id=\"...\").delay(...)"),
    ({"task_id": "a"}, "'task_id': add.options(id=\"...\").delay(...)"),
    ({"max_retries": 3}, "'max_retries': add.options(max_attempts=4).delay(...), where the first run counts"),
    ({"time_limit": 3}, "'time_limit': add.options(timeout=300).delay(...), in seconds"),
    ({"ignore_result": True}, "'ignore_result': add.options(result_ttl=None).delay(...)"),
    ({"rate_limit": "1/s"}, "'rate_limit': @task(rate=\"10/m\")"),
    ({"wait": 3}, "'wait': @task(wait=...)"),
    ({"cron": "* * * * *"}, "'cron': @task(cron=...)"),
    ({"priority": 9}, "priority is 'high', 'normal' or 'low', not 9"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"), IN_DEFINITIONS, ids=lambda each: next(iter(each)) if isinstance(each, dict) else ""
)
def test_an_option_of_a_task(options: Any, said: str) -> None:
    told = answer(lambda: task(**options)(add), DefinitionError)
    assert said in told
    assert told.startswith("priority") or told.startswith("@task has no option ")


@pytest.mark.parametrize(
    ("options", "said"), OF_CALLS, ids=lambda each: next(iter(each)) if isinstance(each, dict) else ""
)
def test_an_option_of_a_call(options: Any, said: str) -> None:
    told = answer(lambda: task(add).options(**options), DefinitionError)
    assert said in told
    assert told.startswith("priority") or told.startswith(".options has no option ")


def test_an_option_of_a_call_by_name() -> None:
    told = answer(lambda: Jetq().call("shop.add", {"x": 1}, countdown=9), DefinitionError)  # type: ignore[call-arg]
    assert told == "app.send has no option 'countdown': app.send(\"shop.add\", {...}, delay=9)"


def test_what_is_no_word_of_anybody_is_told_as_before() -> None:
    with pytest.raises(DefinitionError) as caught:
        task(zzz=1)(add)  # type: ignore[call-overload]
    assert str(caught.value).startswith("@task has no option 'zzz'\nhint: it has name, queue, max_attempts, ")
    with pytest.raises(DefinitionError) as caught:
        task(max_crahses=1)(add)  # type: ignore[call-overload]
    assert str(caught.value) == "@task has no option 'max_crahses'\nhint: did you mean 'max_crashes'?"


@pytest.mark.parametrize("word", OPTIONS)
def test_every_line_that_is_told_names_options_that_there_are(word: str) -> None:
    assert word not in TaskKeywords.__annotations__ and word not in CallOptions.__annotations__
    for place, known in (("@task", TaskKeywords), (".options", CallOptions), ("app.send", CallOptions)):
        told = option_answer(word, 3, place, "shop.add")  # type: ignore[arg-type]
        assert told is not None and "\n" not in told
        before, _, inside = told.partition("(")
        if before == "@task":
            known = TaskKeywords
        elif before == "add.options":
            known = CallOptions
        if before in ("@task", "add.options"):
            assert inside.partition("=")[0] in known.__annotations__, told


# --- arguments


OPTION_AS_ARGUMENT = [
    ({"queue": "mail"}, "add.options(queue=...).delay(...)"),
    ({"countdown": 60}, "add.options(delay=60).delay(...)"),
    ({"eta": None}, "add.options(at=when).delay(...)"),
    ({"task_id": "a"}, 'add.options(id="...").delay(...)'),
    ({"max_retries": 3}, "add.options(max_attempts=4).delay(...), where the first run counts"),
    ({"args": (2, 3)}, "add.delay(2, y=3)"),
]


@pytest.mark.parametrize("method", ["delay", "bind"])
@pytest.mark.parametrize(
    ("arguments", "line"), OPTION_AS_ARGUMENT, ids=lambda each: next(iter(each)) if isinstance(each, dict) else ""
)
def test_an_option_given_like_an_argument(method: str, arguments: Any, line: str) -> None:
    told = answer(lambda: getattr(task(add), method)(x=1, **arguments), ArgumentError)
    word = next(iter(arguments))
    assert told.endswith(f": got an unexpected argument {word!r}, which is no parameter of the task: {line}")


@pytest.mark.parametrize("option", CallOptions.__annotations__)
def test_every_option_of_a_call_given_like_an_argument(option: str) -> None:
    assert option in CALL_OPTIONS
    told = answer(lambda: task(add).bind(1, 2, **{option: 3}), ArgumentError)
    assert told.endswith(f"add.options({option}=...).delay(...)")


def test_a_parameter_of_such_a_name_is_a_parameter() -> None:
    def f(queue: str, countdown: int = 0, **more: int) -> None: ...

    made = task(name="f")(f)
    assert made.bind(queue="a", countdown=3, eta=4).body == b'{"queue":"a","countdown":3,"more":{"eta":4}}'


def test_a_misspelt_argument_names_itself_and_not_the_one_that_is_missing() -> None:
    told = answer(lambda: task(add).bind(x=1, yy=2), ArgumentError)  # type: ignore[call-arg]
    assert told.endswith("add(x: int, y: int): got an unexpected argument 'yy'; did you mean 'y'?")


# --- methods and attributes


ON_OBJECTS = [
    ("Task", "apply_async", "add.options(delay=60).delay(...)"),
    ("Task", "send_with_options", "add.options(delay=60).delay(...)"),
    ("Task", "enqueue", "add.delay(...)"),
    ("Task", "delay_on_commit", "transaction.on_commit(lambda: add.delay(...))"),
    ("Task", "s", "add.bind(...)"),
    ("Task", "si", "add.bind(...), which takes no value of the work before it"),
    ("Task", "apply", "add(...), which runs it here"),
    ("Task", "retry", "raise Retry(after=30), inside the task"),
    ("Task", "chain", "(add.bind(...) | following).delay(), where the task `following` takes the value"),
    ("Task", "group", "group(add.bind(each) for each in many).delay(), with group of jetq"),
    ("Task", "chord", "(group(add.bind(each) for each in many) | following).delay(), with group of jetq"),
    ("Task", "map", "each(add, many).delay(), with each of jetq; an item may be a list"),
    ("Task", "starmap", "group(add.bind(*each) for each in many).delay(), with group of jetq"),
    ("Task", "chunks", "each(add, many).delay(), with each of jetq; an item may be a list"),
    ("Call", "apply_async", "app.enqueue(call)"),
    ("Call", "link", "(add.bind(...) | following).delay(), where the task `following` takes the value"),
    ("Call", "link_error", "add.bind(...).on_failure(call).delay()"),
    ("Call", "set", "add.options(delay=60).bind(...)"),
    ("Job", "get", "job.result(timeout=60)"),
    ("Job", "ready", 'job.status() in ("succeeded", "dead", "cancelled", "expired")'),
    ("Job", "successful", 'job.status() == "succeeded"'),
    ("Job", "revoke", "job.cancel()"),
    ("Job", "state", "job.status()"),
    ("Job", "children", "leave it out: a job has none, and the steps of a workflow are workflow.steps()"),
    ("Work", "apply_async", "work.delay(), with id, key, expires, delay or at of the whole workflow"),
    ("Work", "link_error", "work.on_failure(call).delay()"),
    ("Workflow", "get", "workflow.result(timeout=60)"),
    ("Workflow", "completed_count", "workflow.steps()"),
    ("Workflow", "revoke", "workflow.cancel()"),
    ("Workflow", "ready", "workflow.status()"),
    ("Jetq", "send_task", 'app.send("tasks.add", {"x": 2, "y": 3})'),
    ("Jetq", "conf", "app.settings, which Jetq(...), JETQ_* variables and jetq.toml set"),
    ("Jetq", "autodiscover_tasks", "jetq worker MODULE, on the command line, names the modules"),
    ("Jetq", "chord", "(group(add.bind(each) for each in many) | following).delay(), with group of jetq"),
    ("Jetq", "control", "jetq queue pause QUEUE or jetq job cancel ID, on the command line"),
]


def example(called: str) -> Any:
    app = Jetq()
    made = app.task(add)
    workflow: Workflow[int] = Workflow(app, "w", int, "existing")
    of_users = {"Work": made.bind(1, 2).named("sum"), "Workflow": workflow}
    return {"Jetq": app, "Task": made, "Job": app.job("a"), "Call": made.bind(1, 2), **of_users}[called]


@pytest.mark.parametrize(("called", "word", "line"), ON_OBJECTS)
def test_a_method_or_attribute(called: str, word: str, line: str) -> None:
    assert answer(lambda: getattr(example(called), word), AttributeError) == f"{called} has no {word}: {line}"


EVERY = [(called, word) for called, words in ATTRIBUTES.items() for word in words]


@pytest.mark.parametrize(("called", "word"), EVERY)
def test_a_foreign_name_is_not_there_for_who_looks(called: str, word: str) -> None:
    found = example(called)
    assert not hasattr(found, word)
    assert getattr(found, word, None) is None
    assert word not in dir(found)
    assert not hasattr(type(found), word)
    assert "\n" not in answer(lambda: getattr(found, word), AttributeError)
    with pytest.raises(AttributeError, match="does not have the attribute"), unittest.mock.patch.object(found, word):
        pass


def test_a_task_with_options_answers_too() -> None:
    told = answer(lambda: task(add).options(delay=5).apply_async, AttributeError)  # type: ignore[attr-defined]
    assert told == "Task has no apply_async: add.options(delay=60).delay(...)"


def test_python_adds_no_close_match_to_a_line_of_the_table() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = task(add).apply_async  # type: ignore[attr-defined]
    assert (caught.value.name, caught.value.obj) == ("apply_async", None)


def test_a_name_that_is_nobodys_is_told_as_python_does() -> None:
    with pytest.raises(AttributeError, match="'SyncTask' object has no attribute 'zzz'"):
        _ = task(add).zzz  # type: ignore[attr-defined]


def test_what_a_function_or_a_user_has_put_there_is_there() -> None:
    def f() -> None: ...

    f.retry = "the function's own"  # type: ignore[attr-defined]
    made = task(name="f")(f)
    assert made.retry == "the function's own"  # type: ignore[attr-defined]
    assert "retry" in dir(made)
    app: Any = Jetq()
    app.conf = 3
    assert app.conf == 3


@task(name="foreign.module_level")
def module_level(x: int) -> int:
    """What it does.

    >>> module_level(3)
    4
    """
    return x + 1


def test_tools_that_look_at_tasks_do_so_as_before() -> None:
    assert copy.copy(module_level).name == "foreign.module_level"
    assert copy.copy(module_level)(1) == 2
    blank = module_level.__class__.__new__(module_level.__class__)
    assert not hasattr(blank, "apply_async")
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)) as caught:
        pickle.dumps(module_level)
    assert not isinstance(caught.value, RecursionError)
    assert list(inspect.signature(module_level).parameters) == ["x"]
    assert "delay" in dict(inspect.getmembers(module_level))
    spec = unittest.mock.Mock(spec=module_level)
    spec.delay(1)
    with pytest.raises(AttributeError):
        _ = spec.apply_async
    unittest.mock.create_autospec(module_level)
    found = {each.name: len(each.examples) for each in doctest.DocTestFinder().find(sys.modules[__name__])}
    assert found[f"{__name__}.module_level"] == 1
    assert inspect.unwrap(module_level) is module_level.fn


# --- what is imported


IMPORTED_NAMES = [
    ("Celery", "app = Jetq(), or @task alone, which finds its app"),
    ("shared_task", "@task, of jetq as well"),
    ("chain", "(add.bind(...) | following).delay(), where the task `following` takes the value"),
    ("chord", "(group(add.bind(each) for each in many) | following).delay(), with group of jetq"),
    ("xmap", "each(add, many).delay(), with each of jetq; an item may be a list"),
    ("GroupResult", "group(...).delay() gives the handle of all of them: .result(timeout=60), .steps()"),
    ("signature", 'add.bind(2, 3), or app.call("tasks.add", {"x": 2, "y": 3})'),
    ("crontab", '@task(cron="0 9 * * *", tz="UTC") or @task(every=30)'),
    ("get_current_job", "current_job(), inside the task"),
]


@pytest.mark.parametrize(("word", "line"), IMPORTED_NAMES)
def test_a_name_of_the_package(word: str, line: str) -> None:
    told = f"jetq has no {word}: {line}"
    assert answer(lambda: exec(f"from jetq import {word}", {}), ImportError) == told
    assert answer(lambda: getattr(jetq, word), AttributeError) == told


@pytest.mark.parametrize("word", NAMES)
def test_a_name_that_is_not_there_is_not_there_for_who_looks(word: str) -> None:
    assert not hasattr(jetq, word)
    assert getattr(jetq, word, None) is None
    assert word not in dir(jetq)
    assert word not in dict(inspect.getmembers(jetq))
    assert importlib.util.find_spec(f"jetq.{word}") is None
    assert "\n" not in answer(lambda: getattr(jetq, word), AttributeError)
    with pytest.raises(AttributeError, match="does not have the attribute"), unittest.mock.patch(f"jetq.{word}"):
        pass
    with pytest.raises(AttributeError):
        pickle.loads(f"cjetq\n{word}\n.".encode())


def test_a_name_that_is_nobodys_is_told_as_python_does_it() -> None:
    with pytest.raises(AttributeError, match="module 'jetq' has no attribute 'tusk'") as caught:
        _ = jetq.tusk  # type: ignore[attr-defined]
    assert (caught.value.name, caught.value.obj) == ("tusk", jetq)
    with pytest.raises(ImportError, match=r"cannot import name 'tusk' from 'jetq' \("):
        exec("from jetq import tusk", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'jetq\.chain'"):
        importlib.import_module("jetq.chain")


def test_tools_that_look_at_the_package_do_so_as_before() -> None:
    found: dict[str, object] = {}
    exec("from jetq import *", found)
    assert {*jetq.__all__} <= {*found}
    exec("from jetq import testing", {})  # a module of it, imported because the name is not there yet
    spec = unittest.mock.Mock(spec=jetq)
    with pytest.raises(AttributeError):
        _ = spec.chain
    unittest.mock.create_autospec(jetq)
    doctest.DocTestFinder().find(jetq)
    assert inspect.getmodule(jetq.task) is not jetq


# --- settings


SETTINGS = [
    ("broker", "servers"),
    ("broker_url", "servers"),
    ("url", "servers"),
    ("prefix", "namespace"),
    ("visibility_timeout", "ack_wait"),
]

NO_SETTINGS = [
    ("backend", "leave it out: results are kept in NATS, where the jobs are"),
    ("include", "jetq worker MODULE names the modules of the tasks"),
    ("task_default_queue", '@task(queue="mail")'),
    ("concurrency", "jetq worker --concurrency 10, or JETQ_WORKER_CONCURRENCY=10"),
    ("max_retries", "@task(max_attempts=4), where the first run counts"),
    ("beat_schedule", '@task(cron="0 9 * * *", tz="UTC")'),
    ("result_bakend", "leave it out: results are kept in NATS, where the jobs are"),
]


@pytest.mark.parametrize(
    ("word", "in_code", "in_environment", "in_a_file"),
    [(word, f"Jetq({mine}=...)", f"JETQ_{mine.upper()}=...", f"{mine} = ...") for word, mine in SETTINGS]
    + [(word, line, line, line) for word, line in NO_SETTINGS],
)
def test_a_setting(word: str, in_code: str, in_environment: str, in_a_file: str) -> None:
    variable = f"JETQ_{word.upper()}"
    assert answer(lambda: from_keywords({word: "x"}), SettingsError) == f"Jetq() has no setting {word!r}: {in_code}"
    assert answer(lambda: from_jetq_environment({variable: "x"}), SettingsError) == (
        f"the environment variable {variable} is none of jetq's: {in_environment}"
    )
    assert answer(lambda: from_table({word: "x"}, "jetq.toml"), SettingsError) == (
        f"jetq.toml has a key {word!r} that is no setting of jetq: {in_a_file}"
    )


def test_no_word_is_a_setting_of_jetq() -> None:
    from jetq.migration_hints import _NO_SETTING, _SETTING_OF, _SETTINGS

    assert set(_SETTINGS) <= set(Settings.__struct_fields__)
    assert not {*_SETTING_OF, *_NO_SETTING} & {*Settings.__struct_fields__, *inspect.signature(Jetq).parameters}
    assert not set(_SETTING_OF) & set(_NO_SETTING)


# --- the command line


COMMAND_LINES = [
    (["beat"], '@task(cron="0 9 * * *") and jetq worker MODULE'),
    (["inspect", "active"], "jetq queue ls, or jetq job show ID"),
    (["purge"], "jetq queue purge QUEUE"),
    (["flower"], "jetq queue ls, jetq dlq list and jetq job show ID"),
    (["control", "shutdown"], "jetq job cancel ID"),
    (["why", "a"], "jetq job why ID"),
    (["-A", "tasks", "worker"], "jetq worker MODULE"),
    (["worker", "-A", "tasks"], "jetq worker MODULE"),
    (["worker", "--loglevel", "info"], "jetq worker --log-level info MODULE"),
    (["worker", "--loglevel=info"], "jetq worker --log-level info MODULE"),
    (["worker", "-l", "info"], "jetq worker --log-level info MODULE"),
    (["worker", "-Q", "mail"], "jetq worker -q mail -q default MODULE"),
    (["worker", "-B"], "jetq worker MODULE: schedules need no process of their own"),
    (["worker", "--pool", "prefork"], 'jetq worker --processes 4 MODULE, or @task(run_in="process")'),
    (["worker", "--max-tasks-per-child", "9"], "jetq worker --max-jobs 1000 MODULE"),
]


@pytest.mark.parametrize(("words", "line"), COMMAND_LINES, ids=lambda each: " ".join(each))
def test_a_command_line(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jetq", *words])
    assert root._run() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    word = next(each for each in (words[1:] if words[0] == "worker" else words)).partition("=")[0]
    what = "option" if word.startswith("-") else "command"
    path = "jetq worker" if words[0] == "worker" else "jetq"
    assert said.startswith(f"error: {path} has no {what} {word}: {line}")


def test_no_word_is_a_command_or_an_option_of_jetq() -> None:
    from jetq.migration_hints import _FLAGS

    context = click.Context(root.cli)
    assert not set(COMMANDS) & set(root.cli.list_commands(context))
    worker = root.cli.get_command(context, "worker")
    for command, path in ((root.cli, "jetq"), (worker, "jetq worker")):
        assert command is not None
        own = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
        assert not own & set(_FLAGS[path])
