"""A field of a struct that has many is described where it stands."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Iterator

import msgspec
import pytest

from docs.generate import field_docs
from tests.unit.test_architecture import MODULES

WHERE = ("jetq.model", "jetq.settings", "jetq.operations")
FEW = 5
"""So many fields a docstring of the class can describe."""

TWINS = {
    "SettingsOptions": "Settings",
    "TaskOptions": "TaskKeywords",
    "CallSettings": "CallOptions",
    "ScheduleKeywords": "Schedule",
}
"""Classes whose docstring sends their reader to another one, which has the same fields."""


def classes() -> Iterator[type]:
    for module in MODULES:
        if module.startswith(WHERE):
            for thing in vars(importlib.import_module(module)).values():
                if isinstance(thing, type) and thing.__module__ == module:
                    yield thing


def fields(kind: type) -> list[str]:
    """The public fields of a struct or a TypedDict that its own body declares."""
    if not issubclass(kind, msgspec.Struct) and not typing.is_typeddict(kind):
        return []
    return [name for name in kind.__annotations__ if not name.startswith("_")]


MANY = {kind.__name__: kind for kind in classes() if len(fields(kind)) > FEW}
DESCRIBED = [kind for name, kind in MANY.items() if name not in TWINS]


@pytest.mark.parametrize("kind", DESCRIBED, ids=lambda kind: kind.__name__)
def test_each_of_many_fields_has_a_string_below_it(kind: type) -> None:
    told = field_docs(kind)
    assert list(told) == fields(kind)
    assert not [text for text in told.values() if not text.endswith(".")]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_names_the_class_that_describes_its_fields(name: str) -> None:
    assert f"`{TWINS[name]}`" in (MANY[name].__doc__ or "")
    assert set(fields(MANY[name])) <= set(field_docs(MANY[TWINS[name]]))
