"""Docstrings of functions say what a function does: their first word is a verb in the imperative."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(path for package in ("jetq", "jetq_email") for path in (ROOT / package).rglob("*.py"))

NO_VERBS = frozenset(
    """
    A All Also An Another As Bytes By Each Every For From Guarantee How If In It Its JSON Jobs Many No Nobody None Not
    Nothing Of On One Only Raises Same Seconds So Some Such That The Their There These They This Those To Under Up
    What When Where Wherever Whether Which Who Whoever Whose Why With Within
    """.split()
)
"""Words that docstrings began with, and that say nothing of what a function does."""

NOUNS = {"property", "cached_property", "setter", "command", "group", "overload"}
"""Decorators of what may be described by a noun, and of commands, whose docstrings are help texts."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions of a module that do something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = {name for each in node.decorator_list for name in words(each)}
            if not names & NOUNS:
                yield node


def words(decorator: ast.expr) -> set[str]:
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(decorator)
        if isinstance(node, ast.Name | ast.Attribute)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_functions_docstring_begins_with_what_the_function_does(path: Path) -> None:
    wrong = [
        f"{function.name}, line {function.lineno}: {text.splitlines()[0]}"
        for function in functions(ast.parse(path.read_text("utf-8")))
        if (text := ast.get_docstring(function)) and text.split()[0].strip("`.,:;") in NO_VERBS
    ]
    assert wrong == []
