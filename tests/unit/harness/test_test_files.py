"""What the tests themselves keep to: one subject a file, no assertion by the clock, ever fewer looks inside jetq."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 500
"""Lines of a file."""
LONGEST_SLEEP = 0.1
"""Seconds. What sleeps less gives way to others, or looks again."""
MOST_REACHES = 167
"""Uses of private names of jetq in tests. It may only shrink: a test that has to look inside asks for a property."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_one_subject(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_asserted_after_a_sleep(path: Path) -> None:
    """Wait for the event with `until`; hold that there is none with `stays_so_for` (`tests.apps.staying`)."""
    assert list(sleeps_before_assertions(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_variable_of_the_tests_is_none_that_an_app_would_refuse(path: Path) -> None:
    """An app refuses a `JETQ_...` that is no setting, but for `JETQ_TEST_...`."""
    read = re.findall(r"""environ(?:\.get\(|\[)["'](JETQ_\w+)""", path.read_text("utf-8"))
    assert [name for name in read if not name.startswith("JETQ_TEST_")] == []


def sleeps_before_assertions(code: str) -> Iterator[int]:
    """The lines that sleep for `LONGEST_SLEEP` or more, or for nobody knows how long, and then assert."""
    for node in ast.walk(ast.parse(code)):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            for first, then in pairwise(body if isinstance(body, list) else ()):
                if sleeps(first) and asserts(then):
                    yield first.lineno


def sleeps(statement: ast.stmt) -> bool:
    """Whether it is `asyncio.sleep(...)` or `time.sleep(...)`. That of a world of the contract moves its clock."""
    match statement:
        case ast.Expr(value=ast.Await(value=called)) | ast.Expr(value=called):
            pass
        case _:
            return False
    match called:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="asyncio" | "anyio" | "time"), attr="sleep"), args=[how_long]
        ):
            if isinstance(how_long, ast.Constant) and isinstance(how_long.value, int | float):
                return how_long.value >= LONGEST_SLEEP
            return True
    return False


def asserts(statement: ast.stmt) -> bool:
    """Whether it asserts at once: itself, or in a loop or a condition."""
    if isinstance(statement, ast.For | ast.AsyncFor | ast.If):
        return any(isinstance(inside, ast.Assert) for inside in ast.walk(statement))
    return isinstance(statement, ast.Assert)


SLEEPS = """
async def test_it():
    await asyncio.sleep({how_long})
    {then}
"""


@pytest.mark.parametrize(
    ("how_long", "then", "found"),
    [
        ("0.3", "assert ran == []", True),
        ("2 * LEASE", "assert ran == []", True),
        ("1", "for each in ran: assert each", True),
        ("0.02", "assert ran == []", False),
        ("0.3", "job = await task.adelay()", False),
    ],
)
def test_a_sleep_before_an_assertion_is_found(how_long: str, then: str, found: bool) -> None:
    assert bool(list(sleeps_before_assertions(SLEEPS.format(how_long=how_long, then=then)))) is found


def test_no_more_private_names_are_reached_for() -> None:
    found = [f"{name_of(path)}:{line} {name}" for path in FILES for line, name in reaches(path.read_text("utf-8"))]
    assert len(found) <= MOST_REACHES, "\n".join(found)
    assert len(found) == MOST_REACHES, f"they have become fewer: say {len(found)} as MOST_REACHES"


def reaches(code: str) -> Iterator[tuple[int, str]]:
    """The private names that are imported, read of an object or replaced in it, and are not the file's own."""
    tree = ast.parse(code)
    own = set(defined(tree))
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=names, module=str(module)) if module.split(".")[0].startswith("jetq"):
                found = [name.name for name in names]
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os" | "sys")):
                found = []
            case ast.Attribute(attr=name):
                found = [name]
            case ast.Call(func=ast.Attribute(attr="setattr"), args=arguments):
                texts = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
                found = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
            case _:
                continue
        yield from ((node.lineno, name) for name in found if is_private(name) and name not in own)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ("_replace", "_asdict", "_fields")


def defined(tree: ast.AST) -> Iterator[str]:
    """What a file defines: functions, classes, fields and attributes of its own objects."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(attr=name, value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                yield name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from jetq.worker.policy import _decide", ["_decide"]),
        ("from nats.aio.client import _Old", []),
        ("assert pool._threads == 3", ["_threads"]),
        ("monkeypatch.setattr(policy, '_WAIT', 1.0)", ["_WAIT"]),
        ("monkeypatch.setattr('jetq.client.app._default', 1)", ["_default"]),
        ("def _own(): ...\nother._own()", []),
        ("self._mine = os._exit", []),
    ],
)
def test_a_private_name_that_is_reached_for_is_found(code: str, found: list[str]) -> None:
    assert [name for _, name in reaches(code)] == found
