"""Exceptions come back from their records: as their own class where that is known, and as TaskFailed elsewhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from jetq import errors
from jetq.encoding.failures import capture, revive
from jetq.model.failure import Failure
from tests.unit.encoding.test_failures import Custom, raised


class Picky(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")


class Counted(Exception):
    made = 0

    def __init__(self, *args: object) -> None:
        Counted.made += 1
        super().__init__(*args)


def test_an_exception_comes_back_as_its_own_class() -> None:
    error = revive(capture(raised(Custom("x", 5))))
    assert type(error) is Custom
    assert error.args == ("x", 5)
    assert isinstance(error.__cause__, errors.RemoteTraceback)
    assert "in raised" in str(error.__cause__)


def test_without_args_the_message_builds_it() -> None:
    error = revive(capture(Custom(b"x")))
    assert type(error) is Custom
    assert str(error) == "b'x'"


def test_text_that_the_arguments_do_not_hold_is_added() -> None:
    error = revive(capture(OSError(2, "No such file", "/tmp/x")))
    assert type(error) is FileNotFoundError
    assert error.__notes__ == ["at the worker: [Errno 2] No such file: '/tmp/x'"]


def test_a_class_that_takes_other_arguments_becomes_task_failed() -> None:
    error = revive(capture(Picky(5, detail="x")))
    assert isinstance(error, errors.TaskFailed)
    assert error.type == f"{__name__}.Picky"
    assert str(error) == f"{__name__}.Picky: 5: x"


@pytest.mark.parametrize(
    "type_name",
    [
        "builtins.SystemExit",
        "builtins.KeyboardInterrupt",
        "builtins.StopIteration",
        "builtins.StopAsyncIteration",
        "asyncio.exceptions.CancelledError",
        "jetq.Snooze",
        "jetq.Retry",
        "jetq.Reject",
        "jetq.ResultTimeout",
        "jetq.BrokerUnavailable",
        "builtins.print",
        "builtins.exec",
        "os.system",
        "os.error",
        "subprocess.Popen",
        f"{__name__}.errors.TaskFailed",
        f"{__name__}.test_a_builtin_is_named_with_its_module.<locals>.X",
        "no_such_module.Error",
        "ValueError",
        "builtins.",
        ".ValueError",
        "",
        ".",
        "\x00.x",
        "builtins.ValueError.__init__",
        "builtins.ValueError.__class__",
    ],
)
def test_other_names_become_task_failed(type_name: str) -> None:
    error = revive(Failure(type=type_name, message="m", args=("echo",)))
    assert type(error) is errors.TaskFailed
    assert error.type == type_name


def test_a_timeout_of_the_job_is_told_as_such() -> None:
    error = revive(capture(errors.JobTimeout("too long")))
    assert type(error) is errors.JobTimeout
    assert isinstance(error, TimeoutError)


def test_nothing_is_imported_for_a_name() -> None:
    assert "chunk_of_nothing" not in sys.modules
    script = (
        "import sys; from jetq.encoding.failures import revive; from jetq.model.failure import Failure\n"
        "before = set(sys.modules)\n"
        "revive(Failure(type='wave.Error', message='m')); revive(Failure(type='xml.dom.minidom.X', message='m'))\n"
        "assert set(sys.modules) == before, set(sys.modules) - before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@contextmanager
def module_named(name: str, module: ModuleType) -> Iterator[None]:
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


def test_a_lazy_module_stays_unloaded() -> None:
    spec = importlib.util.find_spec("wave")
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    with module_named("lazy_wave", lazy):
        assert isinstance(revive(Failure(type="lazy_wave.Error", message="m")), errors.TaskFailed)
        assert "Error" not in object.__getattribute__(lazy, "__dict__"), "it was loaded"


def test_a_module_that_computes_its_attributes_is_not_asked() -> None:
    asked: list[str] = []
    module = ModuleType("computing")
    module.__dict__["__getattr__"] = asked.append
    with module_named("computing", module):
        revive(Failure(type="computing.Error", message="m"))
    assert not asked


def test_only_the_named_class_is_built() -> None:
    before = Counted.made
    revive(Failure(type=f"{__name__}.Counted.made", message="m"))
    assert Counted.made == before


def test_no_traceback_no_cause() -> None:
    assert revive(Failure(type="x.Y", message="m")).__cause__ is None
