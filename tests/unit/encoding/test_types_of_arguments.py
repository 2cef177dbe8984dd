"""The tables of types: each sample arrives as its table says, each refusal is one, and the page shows them."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from jetq.encoding import type_hooks
from jetq.encoding.plain_values import BASES
from jetq.errors import DefinitionError
from tests.types_of_arguments import CROSSES, NEVER, REFUSED, Refused, Sample, evaluated, hint_of, told
from tests.types_page import PAGE, page, tables
from tests.unit.encoding.crossing import WAYS, Way, as_result, result_refusal, taking

SAMPLES = [sample for row in CROSSES for sample in row.samples]


def name(each: object) -> str:
    return f"{each.kind} {each.value}" if isinstance(each, Sample | Refused) else str(each)


def content(value: Any) -> Any:
    """What a value is made of, where it is not equal to another of the same content."""
    return bytes(value) if isinstance(value, memoryview | msgspec.Raw) else value


@WAYS
@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_a_sample_arrives(way: Way, sample: Sample) -> None:
    received = way(evaluated(sample.kind), evaluated(sample.value))
    expected = evaluated(sample.arrives or sample.value)
    assert content(received) == content(expected)
    assert type(received) is type(expected)


@pytest.mark.parametrize("refused", REFUSED, ids=name)
def test_a_value_is_refused_with_its_place(refused: Refused) -> None:
    said, _ = told(refused)
    assert re.match(r"(a key in )?x\b.*: \w", said)


TAKEN_AS_RESULTS = {"datetime datetime(2026, 1, 1)", "Keys {'b': 1}", "Any {1}", "Any {1: 2}"}


@pytest.mark.parametrize("refused", REFUSED, ids=name)
def test_as_a_result_it_is_refused_too_but_for_what_the_page_names(refused: Refused) -> None:
    kind, value = evaluated(refused.kind), evaluated(refused.value)
    if name(refused) in TAKEN_AS_RESULTS:
        as_result(kind, value)
    else:
        assert result_refusal(kind, value)


@pytest.mark.parametrize("kind", NEVER)
def test_a_type_is_refused_when_its_task_is_defined(kind: str) -> None:
    with pytest.raises(DefinitionError, match=r"^tasks\.f: x: .*\nhint: "):
        taking(evaluated(kind))


def test_what_the_samples_show_is_what_they_are() -> None:
    with pytest.raises(LookupError):
        told(Refused("int", "1"))
    with pytest.raises(LookupError):
        hint_of("int")


def test_the_page_shows_the_tables() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.types_page writes the page anew"
    assert all(lines in page() for lines in tables().values())


def kinds(info: inspect.Type, seen: set[int]) -> set[type[inspect.Type]]:
    """The classes of the types that one is made of."""
    if id(info) in seen:
        return set()
    seen.add(id(info))
    below = [getattr(info, each) for each in info.__struct_fields__]
    nested = [each for value in below for each in (value if isinstance(value, tuple) else (value,))]
    nested = [each.type if isinstance(each, inspect.Field) else each for each in nested]
    found = {type(info)}
    for each in nested:
        if isinstance(each, inspect.Type):
            found |= kinds(each, seen)
    return found


def test_every_type_there_is_has_a_row() -> None:
    known = {each for each in vars(inspect).values() if isinstance(each, type) and issubclass(each, inspect.Type)}
    found: set[type[inspect.Type]] = {inspect.Metadata}
    for kind in [*(sample.kind for sample in SAMPLES), "msgspec.msgpack.Ext"]:
        found |= kinds(inspect.type_info(type_hooks.known(evaluated(kind))), set())
    no_annotation = {"Type", "CollectionType", "FrozenDictType"}  # the last is of a class that Python 3.15 has
    names = {each.__name__ for each in known if "Type" in each.__name__} - no_annotation
    assert names <= {each.__name__ for each in found}
    assert {*BASES} <= {type(evaluated(sample.value)) for sample in SAMPLES}
    texts = {type_hooks.type_name(type(evaluated(sample.value))) for sample in SAMPLES}
    assert {re.sub("IPv[46]", "IP", each) for each in type_hooks._BY_TEXT} <= {
        re.sub("IPv[46]", "IP", each) for each in texts
    }
