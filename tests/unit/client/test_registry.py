"""One name, one function: what takes its place when it is defined again, and what is told as two."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetq import Jetq, task
from jetq.client.declared_schedules import definitions
from jetq.client.registry import IMPORTED
from jetq.errors import DefinitionError
from tests.apps.fresh import own_tasks

ONE = "@task\ndef f(x: int) -> int: return x\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own_tasks(monkeypatch)
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if not name.startswith("jetq."):  # of which other tests hold parts
            del sys.modules[name]


def run_in_main(monkeypatch: pytest.MonkeyPatch, *pieces: tuple[str, str], file: str | None = None) -> None:
    """Run pieces of code, each with a file name, in one `__main__`, which is a script's if `file` is given."""
    main = types.ModuleType("__main__")
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    namespace = main.__dict__ | {"task": task}
    for name, source in pieces:
        exec(compile(source, name, "exec"), namespace)


@pytest.mark.parametrize(
    "names",
    [("<ipython-input-2>", "<ipython-input-5>"), ("/tmp/ipykernel_1/2.py", "/tmp/ipykernel_1/5.py"), ("<stdin>",) * 2],
)
def test_a_cell_that_is_run_again_takes_the_old_ones_place(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_main(monkeypatch, *((name, ONE.replace("return x", f"return {n}")) for n, name in enumerate(names)))
    (made,) = IMPORTED.values()
    assert made.fn(7) == 1


def test_a_script_that_defines_a_task_twice_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DefinitionError, match=r"two tasks are named 'jobs.f': jobs.py:1 and jobs.py:3"):
        run_in_main(monkeypatch, ("jobs.py", ONE + ONE), file="jobs.py")


def test_functions_below_one_decorator_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "decorating.py").write_text(
        "import functools\n"
        "def plain(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(*args): return fn(*args)\n"
        "    return wrapper\n"
    )
    once = "@task\n@plain\ndef f() -> None: ...\n"
    (tmp_path / "decorated.py").write_text(f"from jetq import task\nfrom decorating import plain\n{once}{once}")
    with pytest.raises(DefinitionError, match=r"decorated.py:3 and .*decorated.py:6"):
        importlib.import_module("decorated")


def test_a_module_imported_under_two_names_would_tick_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a schedule has not become two because of how its module was imported."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "shopping"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "ticking.py").write_text(
        "from jetq import task\n@task(every=60)\ndef f() -> None: ...\n@task\ndef g() -> None: ...\n"
    )
    importlib.import_module("shopping.ticking")
    monkeypatch.syspath_prepend(package)
    importlib.import_module("ticking")
    with pytest.raises(
        DefinitionError, match=r"ticking.py:2 is imported under two names.*: as shopping.ticking.f and ticking.f"
    ):
        definitions(Jetq().tasks.values())


def test_a_function_may_have_two_names_on_purpose() -> None:
    def f() -> None: ...

    made = [task(name=name, every=60)(f) for name in ("first", "second")]
    assert len(definitions(made)) == 2
