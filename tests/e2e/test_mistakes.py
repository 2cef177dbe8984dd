"""What people do wrong in their first hours: each mistake is answered by a line that names the thing and what to do.

Those in code run in this process, with a broker in memory; those at the command line as a user would run them.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jetq import Jetq, JetqError, Queue, Reject, Retry, current_job, register_type, task
from jetq.testing import in_memory
from tests.apps.fresh import own_tasks
from tests.e2e.project import Project


@pytest.fixture(autouse=True)
def no_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own_tasks(monkeypatch)


def add(x: int, y: int = 1) -> int:
    return x + y


async def wait(seconds: float) -> None: ...


class Color(enum.Enum):
    RED = "red"


class Opaque: ...


class Service:
    def work(self) -> None: ...


def numbers(x: int) -> Iterator[int]:
    yield x


@contextlib.contextmanager
def manager(x: int) -> Iterator[int]:
    yield x


def tick() -> None: ...


def opaque(x: Opaque) -> None: ...


def dotted(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def tuples(x: dict[tuple[int, int], int]) -> None: ...


def made(fn: Callable[..., Any] = add, **options: Any) -> Any:
    return task(name="tasks.add", **options)(fn)


def app(**settings: Any) -> Jetq:
    return Jetq(**settings)


IN_CODE: dict[str, tuple[Callable[[], object], str]] = {
    # definitions
    "a lambda": (lambda: task(lambda: None), "cannot be a task\nhint: define a function"),
    "a method": (lambda: task(Service.work), "is a method: a job has no object to call it on"),
    "a class": (lambda: task(Service), "@task decorates functions, not <class"),
    "a generator": (lambda: made(numbers), "numbers is a generator; a task returns its result"),
    "a context manager": (lambda: made(manager), "manager is a context manager: calling it runs nothing"),
    "one name for two": (lambda: (made(add), made(wait)), "two tasks are named 'tasks.add'"),
    "a name with a blank": (lambda: task(name="my task")(add), "task name 'my task' is not allowed"),
    "a queue in capitals": (lambda: made(queue="Mail"), "queue 'Mail' is not allowed; a queue is lower-case letters"),
    "Celery's retries": (lambda: made(max_retries=3), "'max_retries': @task(max_attempts=4)"),
    "a misspelt option": (lambda: made(max_atempts=3), "did you mean 'max_attempts'?"),
    "no attempts at all": (lambda: made(max_attempts=0), "max_attempts must be a whole number from 1, not 0"),
    "a timeout of nothing": (lambda: made(timeout=0), "timeout must be more than 0 s, or None for no bound"),
    "dead_on with a name": (lambda: made(dead_on="ValueError"), "dead_on takes exception classes"),
    "a cron of four fields": (lambda: made(tick, cron="* * * *"), "'* * * *'"),
    "a misspelt zone": (lambda: made(tick, cron="0 9 * * *", tz="Europe/Berln"), "did you mean 'Europe/Berlin'?"),
    "a key without its parameter": (
        lambda: made(key="welcome:{user}"),
        "names 'user', which is no parameter of tasks.add",
    ),
    "unique without a key": (lambda: made(unique="running"), "unique needs a key"),
    "async in a thread": (lambda: made(wait, run_in="thread"), "run_in='thread' needs a function that is not async"),
    "an object": (lambda: made(opaque), "Opaque has no JSON form\nhint: use a Struct, dataclass"),
    "an unknown annotation": (
        lambda: made(dotted).delay(1),
        "the annotation x: Missing: name 'Missing' is not defined",
    ),
    "tuples as keys": (lambda: made(tuples), "a dict with keys of type tuple has no JSON form\nhint: use keys of type"),
    # calls
    "a wrong type": (lambda: made().delay("two"), "tasks.add(x: int, y: int = 1): x: expected int, got str"),
    "an argument too few": (lambda: made().delay(), "missing a required argument: 'x'"),
    "an argument too many": (lambda: made().delay(1, 2, 3), "too many positional arguments"),
    "a misspelt argument": (lambda: made().delay(1, yy=2), "unexpected argument 'yy'; did you mean 'y'?"),
    "an option as an argument": (
        lambda: made().delay(1, countdown=5),
        "no parameter of the task: add.options(delay=60).delay(...)",
    ),
    "an object for no annotation": (
        lambda: task(name="any")(lambda_of_any).delay(Opaque()),
        "cannot encode tests.e2e.test_mistakes.Opaque as JSON\nhint: pass an id instead",
    ),
    "a set for no annotation": (lambda: task(name="any")(lambda_of_any).delay({1}), "set is no JSON value"),
    "delay and at": (
        lambda: made().options(delay=1, at=datetime.now(UTC)),
        "delay and at contradict each other: give one of them",
    ),
    "a naive time": (lambda: made().options(at=datetime(2030, 1, 1)), "has no time zone; pass an aware one"),
    "a throttle without a key": (lambda: made().options(throttle=60), "throttle needs a key"),
    "a key that is no text": (lambda: made().options(key=7).delay(1), "a key is a text that is not empty, not int"),
    "an id with a blank": (lambda: made().options(id="order 7").delay(1), "job id 'order 7' is not allowed"),
    "a level where there is none": (lambda: made().options(priority="urgent"), "priority is 'high', 'normal' or 'low'"),
    "apply_async": (lambda: made().apply_async((1,)), "Task has no apply_async: add.options(delay=60).delay(...)"),
    "current_job outside of one": (current_job, "there is no current job: this code does not run in a worker"),
    "a result of a task without": (
        lambda: made(wait).delay(1.0).result(),
        "tasks.add stores no results\nhint: give it @task(result_ttl=3600)",
    ),
    "a handle of an id nobody has": (lambda: Jetq().job("no such job!"), "job id 'no such job!' is not allowed"),
    "a builtin to be registered": (
        lambda: register_type(int, to_json=str, from_json=int),
        "int has a JSON form already",
    ),
    # settings
    "a misspelt setting": (lambda: app(namspace="shop"), "did you mean namespace?"),
    "Celery's broker": (lambda: app(broker="nats://localhost"), "Jetq(servers=...)"),
    "a URL of another kind": (
        lambda: app(servers="redis://localhost"),
        "jetq connects over nats:// or tls://, not redis://",
    ),
    "a negative lease": (lambda: app(ack_wait=-1), "ack_wait of Jetq(): expected float >= 1.0, got -1"),
    "an unknown kind of levels": (lambda: Queue("mail", levels="some"), "levels is 'strict' or weights by level"),  # type: ignore[arg-type]
}


def lambda_of_any(x):  # type: ignore[no-untyped-def]
    return x


@pytest.mark.parametrize("mistake", IN_CODE)
def test_in_code_it_is_told_where_it_is_written(mistake: str) -> None:
    wrong, words = IN_CODE[mistake]
    with in_memory(Jetq()), pytest.raises((JetqError, AttributeError)) as caught:
        wrong()
    said = str(caught.value)
    first, *hints = said.splitlines()
    assert words in said
    assert len(hints) <= 1 and all(hint.startswith("hint: ") for hint in hints)
    assert len(first) < 300


def test_raising_what_was_returned_is_told() -> None:
    with in_memory(Jetq()) as tester:
        for name, value in {"returns-retry": Retry(1), "returns-reject": Reject("no")}.items():
            performed = tester.perform(task(name=name)(lambda_returning(value)))
            assert performed.letter is not None
            assert "did not raise it, which has no effect: write `raise Re" in performed.letter.failure.message


def lambda_returning(value: object) -> Callable[[], Any]:
    def fn() -> Any:
        return value

    return fn


def test_delay_in_async_code_blocks_the_loop_and_says_so() -> None:
    async def main() -> None:
        made().delay(1)

    with in_memory(Jetq()), pytest.warns(UserWarning, match="adelay"):
        asyncio.run(main())


# --- at the command line

TASKS = """
from jetq import task

@task
def add(x: int, y: int = 1) -> int:
    return x + y
"""

AT_THE_COMMAND_LINE: dict[str, tuple[list[str], int, str]] = {
    "no such module": (["worker", "taskz"], 2, "there is no module 'taskz'\nhint: did you mean 'tasks'?"),
    "no such app": (["worker", "tasks:aap"], 2, "module 'tasks' imported but has no 'aap'"),
    "an empty app": (["worker", ""], 2, "names no module"),
    "a module that fails": (["worker", "broken"], 2, "module 'broken' fails to import: ZeroDivisionError"),
    "Celery's -A": (["-A", "tasks", "worker"], 2, "jetq worker MODULE"),
    "Celery's beat": (["beat"], 2, "schedules need no process of their own"),
    "a misspelt command": (["wroker"], 2, "No such command 'wroker'.\nhint: did you mean `jetq worker`?"),
    "a misspelt command of a group": (["queue", "lst"], 2, "did you mean `jetq queue ls`?"),
    "another's command of a group": (["queue", "remove", "mial"], 2, "did you mean `jetq queue rm`?"),
    "a command that is like none": (["dlq", "frobnicate"], 2, "'frobnicate'.\nhint: jetq dlq --help"),
    "a misspelt option": (["worker", "tasks", "--concurency", "5"], 2, "--concurrency"),
    "no server": (["call", "tasks.add", "1"], 3, "connection refused\nhint: start a server with `jetq server`"),
    "a wrong argument": (["call", "tasks.add", "one"], 2, "x: expected int, got str"),
    "a misspelt task": (["call", "tasks.ad", "1"], 2, "tasks.ad"),
    "a queue that is not there": (["queue", "pause", "mial"], 3, "connection refused"),
    "a plugin that is not there": (["worker", "tasks", "--plugin", "mail"], 2, "there is no plugin 'mail'"),
}


@pytest.mark.parametrize("mistake", AT_THE_COMMAND_LINE)
def test_at_the_command_line_it_is_one_error_and_no_traceback(mistake: str, tmp_path: Path) -> None:
    words, code, told = AT_THE_COMMAND_LINE[mistake]
    project = Project(tmp_path, NATS_URL="nats://127.0.0.1:1")
    project.write("tasks.py", TASKS)
    project.write("broken.py", "1 / 0\n")
    done = project.jetq(*words)
    assert told in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (
            "JETQ_NAMESPAC",
            "the environment variable JETQ_NAMESPAC is none of jetq's\nhint: did you mean JETQ_NAMESPACE?",
        ),
        ("JETQ_WORKER_CONCURENCY", "did you mean JETQ_WORKER_CONCURRENCY?"),
        ("JETQ_BROKER_URL", "JETQ_SERVERS=..."),
    ],
)
def test_a_misspelt_variable_is_named(variable: str, told: str, tmp_path: Path) -> None:
    project = Project(tmp_path, **{"NATS_URL": "nats://127.0.0.1:1", variable: "1"})
    project.write("tasks.py", TASKS)
    done = project.jetq("worker", "tasks")
    assert told in done.stderr
    assert done.returncode == 2
