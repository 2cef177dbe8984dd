"""Values go into the spots of arguments as they are stored, and what lies around a spot is made."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from jetq.encoding.filling import MOST_MISSING, filled, whole
from jetq.model.workflows.plan import Spot
from tests.unit.properties.examples import examples

CASES: dict[str, tuple[bytes, list[tuple[Spot, bytes]], bytes]] = {
    "an argument": (b'{"a":1}', [(("b",), b"2")], b'{"a":1,"b":2}'),
    "in the place of one": (b'{"a":1}', [(("a",), b"2")], b'{"a":2}'),
    "an element": (b'{"a":[1,null]}', [(("a", 1), b'"x"')], b'{"a":[1,"x"]}'),
    "deep inside": (b'{"a":{"b":[[null]]}}', [(("a", "b", 0, 0), b"{}")], b'{"a":{"b":[[{}]]}}'),
    "a list that is missing": (b"{}", [(("a", 0), b"1"), (("a", 1), b"2")], b'{"a":[1,2]}'),
    "out of order": (b"{}", [(("a", 2), b"3"), (("a", 0), b"1")], b'{"a":[1,null,3]}'),
    "an object that is missing": (b"{}", [(("a", "b", 0), b"1")], b'{"a":{"b":[1]}}'),
    "in a null": (b'{"a":null}', [(("a", 0), b"1")], b'{"a":[1]}'),
    "numbers stay as they are written": (b'{"a":1.10}', [(("b",), b"1.50")], b'{"a":1.10,"b":1.50}'),
    "a value that no Python number holds": (b"{}", [(("a",), b"1e400")], b'{"a":1e400}'),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_value_goes_into_its_spot(case: str) -> None:
    body, values, expected = CASES[case]
    assert filled(body, [(spot, Raw(value)) for spot, value in values]) == expected


WRONG: dict[str, tuple[bytes, Spot]] = {
    "a name in a list": (b'{"a":[1]}', ("a", "b")),
    "a number in an object": (b'{"a":{}}', ("a", 0)),
    "in a text": (b'{"a":"b"}', ("a", 0)),
    "in a number": (b'{"a":1}', ("a", "b")),
    "below zero": (b'{"a":[]}', ("a", -1)),
    "a number at the top": (b"{}", (0,)),
    "further than anyone goes": (b'{"a":[]}', ("a", MOST_MISSING + 1)),
    "no object": (b"[1]", ("a",)),
    "no JSON": (b"{", ("a",)),
    "too deep": (b'{"a":' + b"[" * 1_000 + b"]" * 1_000 + b"}", ("a", 0)),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_has_no_room_is_refused(case: str) -> None:
    body, spot = WRONG[case]
    with pytest.raises(ValueError):
        filled(body, [(spot, Raw(b"1"))])


@given(st.dictionaries(st.sampled_from("abc"), st.recursive(st.none() | st.integers(), st.lists)))
@examples(100)
def test_without_a_value_nothing_changes(arguments: dict[str, object]) -> None:
    body = msgspec.json.encode(arguments)
    assert filled(body, []) == body


def test_a_value_of_one_or_several() -> None:
    assert whole([((), Raw(b"[1]"))]) == b"[1]"
    assert whole([((0,), Raw(b"1")), ((1, 0), Raw(b"2"))]) == b"[1,[2]]"
