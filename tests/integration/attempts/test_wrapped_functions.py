"""Tasks with decorators below `@task`: the function's own code runs, or its job does not succeed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from jetq import Jetq, current_job, task
from jetq.errors import DefinitionError
from jetq.testing import in_memory
from jetq.testing.observed import Ran
from tests.apps.fresh import own_tasks

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no task of another test has a name."""
    RAN.clear()
    own_tasks(monkeypatch)


def plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of async functions."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def outside(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that runs an async function on a loop of its own."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(fn(*args, **kwargs))

    return wrapper


def listed(fn: Callable[..., Iterator[int]]) -> Callable[..., list[int]]:
    """A decorator that runs a generator to its end."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> list[int]:
        return list(fn(*args, **kwargs))

    wrapper.__signature__ = inspect.signature(fn).replace(return_annotation=list[int])  # type: ignore[attr-defined]
    return wrapper


class Timed(contextlib.ContextDecorator):
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Later:
    """Something that can be awaited and is no coroutine."""

    def __await__(self) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        RAN.append(7)
        return 8


async def body(x: int) -> int:
    """The function of most tasks here."""
    await asyncio.sleep(0)
    RAN.append(x)
    return x + 1


def returns_a_coroutine(x: int) -> Any:
    return body(x)


async def returns_one_when_awaited(x: int) -> Any:
    return body(x)


def returns_what_can_be_awaited(x: int) -> Any:
    return Later()


@functools.singledispatch
def by_type(x: int) -> Any:
    raise AssertionError


@by_type.register
async def _(x: int) -> int:
    return await body(x)


RUN: dict[str, Callable[..., Any]] = {
    "a plain wrapper": plain(body),
    "two of them": plain(plain(body)),
    "a context manager as a decorator": Timed()(body),
    "a loop of its own": outside(body),
    "a coroutine": returns_a_coroutine,
    "a coroutine from a coroutine": returns_one_when_awaited,
    "something to be awaited": returns_what_can_be_awaited,
    "single dispatch": by_type,
}


def ran_with(made: Any, *middleware: Any) -> tuple[Ran, Any]:
    with in_memory(Jetq(middleware=list(middleware))) as tester:
        job = made.delay(7)
        ran = tester.run_until_empty()
        return ran, job.result(timeout=1)


@pytest.mark.parametrize("how", RUN)
@pytest.mark.parametrize("within", [False, True], ids=["plain", "middleware"])
def test_the_functions_own_code_runs(how: str, within: bool) -> None:
    """Guarantee: a job is never succeeded while the code of its function has not run."""
    seen: list[Any] = []

    async def looks(job: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(await call_next())
        return seen[-1]

    ran, result = ran_with(task(name="wrapped")(RUN[how]), *([looks] if within else []))
    assert (RAN, ran.succeeded, result) == ([7], 1, 8)
    assert seen == ([8] if within else [])


def test_on_the_loop_a_wrapper_may_give_either() -> None:
    assert ran_with(task(name="wrapped", run_in="loop")(plain(body)))[1] == 8

    @functools.wraps(body)
    def seven(x: int) -> int:
        return x

    assert ran_with(task(name="seven", run_in="loop")(seven))[1] == 7


def test_a_generator_that_is_run_by_its_decorator_is_a_task_like_others() -> None:
    @task(name="listed")
    @listed
    def numbers(x: int) -> Iterator[int]:
        yield from range(x)

    assert ran_with(numbers)[1] == list(range(7))


def test_what_middleware_returns_is_awaited_too() -> None:
    async def forgetful(job: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return call_next()

    assert ran_with(task(name="forgotten")(body), forgetful)[1] == 8


@plain
def generator(x: int) -> Any:
    RAN.append(x)
    yield x


@plain
async def async_generator(x: int) -> Any:
    RAN.append(x)
    yield x


def passed_on(x: int) -> Any:
    return generator(x)


@contextlib.asynccontextmanager
async def async_manager(x: int) -> AsyncIterator[None]:
    RAN.append(x)
    yield


async def gives_a_manager(x: int) -> Any:
    return async_manager(x)


NEVER_RAN = {
    "a generator": (generator, "a generator", "the decorator plain ("),
    "an async generator": (async_generator, "an async generator", "the decorator plain ("),
    "of another function": (passed_on, "a generator", "a task returns its result"),
    "a context manager": (gives_a_manager, "a context manager", "a task returns its result"),
}


@pytest.mark.parametrize("how", NEVER_RAN)
@pytest.mark.parametrize("none", [False, True], ids=["with a result", "without"])
def test_what_nobody_runs_is_dead_and_says_whose_it_was(how: str, none: bool) -> None:
    fn, what, whose = NEVER_RAN[how]
    options: dict[str, Any] = {"result_ttl": None} if none else {}
    with in_memory(Jetq()) as tester:
        task(name="never", **options)(fn).delay(7)
        ran = tester.run_until_empty()
        (letter,) = tester.dead_letters()
    assert (RAN, ran.succeeded, ran.dead, ran.retried) == ([], 0, 1, 0)
    assert letter.failure.type == "jetq.NeverRan"
    assert f"never returned {what}, and what is in it never ran" in letter.failure.message
    assert whose in letter.failure.message


@pytest.mark.parametrize("make", [contextlib.contextmanager, contextlib.asynccontextmanager, Timed()])
def test_a_context_manager_is_no_task(make: Callable[..., Any]) -> None:
    def manager(x: int) -> Iterator[None]:
        yield

    async def async_one(x: int) -> AsyncIterator[None]:
        yield

    made = make(async_one if make is contextlib.asynccontextmanager else manager)
    with pytest.raises(DefinitionError, match="is a context manager: calling it runs nothing"):
        task(name="manager")(made)


def test_what_it_returns_is_cancelled_at_the_tasks_timeout() -> None:
    ended: list[BaseException] = []

    @task(name="endless", timeout=0.05, max_attempts=1)
    @plain
    async def endless(x: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    with in_memory(Jetq()) as tester:
        endless.delay(7)
        tester.run_until_empty()
        (letter,) = tester.dead_letters()
    assert len(ended) == 1
    assert letter.failure.type == "jetq.JobTimeout"


def test_what_it_returns_knows_its_job_and_runs_where_jobs_do() -> None:
    @task(name="knows")
    @plain
    async def knows(x: int) -> list[str]:
        return [current_job().task, threading.current_thread().name]

    @task(name="plainly")
    async def plainly(x: int) -> str:
        return threading.current_thread().name

    assert ran_with(knows)[1] == ["knows", ran_with(plainly)[1]]


def test_a_wrapper_called_here_gives_what_it_always_did() -> None:
    made: Any = task(name="called")(plain(body))
    assert asyncio.run(made(7)) == 8


def test_a_signature_that_a_decorator_gives_is_the_tasks() -> None:
    """As of one that brings an argument of its own, like a session."""

    def with_session(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn("a session", *args, **kwargs)

        own = list(inspect.signature(fn).parameters.values())[1:2]
        y = inspect.Parameter("y", inspect.Parameter.KEYWORD_ONLY, annotation="int", default=1)
        wrapper.__signature__ = inspect.Signature([*own, y], return_annotation=str)  # type: ignore[attr-defined]
        return wrapper

    @with_session
    def save(session: str, x: int, *, y: int = 1) -> str:
        return f"{x} in {session}"

    made: Any = task(name="save")(save)
    assert made.signature.text == "save(x: int, *, y: int = 1) -> str"
    assert ran_with(made)[1] == "7 in a session"
    with pytest.raises(Exception, match="y: expected int, got str"):
        made.delay(7, y="one")


class Adder:
    """An object that is called. What its class annotates is none of its arguments."""

    by: int = 1

    def __call__(self, x: int) -> int:
        return x + self.by

    def method(self, x: int) -> int:
        return x + self.by


def add(by: int, x: int) -> int:
    return x + by


@pytest.mark.parametrize(
    "made",
    [
        Adder(),
        Adder().method,
        functools.partial(add, 1),
        functools.partial(functools.partial(add), 1),
        functools.cache(Adder()),
    ],
    ids=["object", "method", "partial", "partial-of-partial", "cached"],
)
def test_a_decorator_may_wrap_what_is_no_function(made: Any) -> None:
    """What it wraps has no `__name__`, and its annotations are those of the function behind it."""

    def sums(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    sums.__wrapped__ = made  # type: ignore[attr-defined]
    defined: Any = task(name="sums")(sums)
    assert defined.signature.text == "sums(x: int) -> int"
    assert ran_with(defined)[1] == 8
    with pytest.raises(Exception, match="x: expected int, got str"):
        defined.delay("one")
