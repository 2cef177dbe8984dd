"""Results by the annotation of their task: what comes back, and what is refused."""

from __future__ import annotations

import math
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jetq.encoding.signature import Signature
from jetq.errors import DefinitionError
from tests.unit.encoding.test_signature import Connection, Order, nested


def result_of(kind: Any) -> Signature:
    def fn(): ...  # type: ignore[no-untyped-def]

    fn.__annotations__["return"] = kind
    return Signature(fn, "tasks.f")


@pytest.mark.parametrize(
    ("kind", "value", "received"),
    [
        (int, 3, 3),
        (None, None, None),
        (Path, Path("a"), Path("a")),
        (tuple[int, ...], (1,), (1,)),
        (list[int], (1,), [1]),
        (Order, Order(datetime(2026, 1, 1), []), Order(datetime(2026, 1, 1), [])),
        (Any, (1, {2}), [1, [2]]),
        (Any, [None], [None]),
    ],
    ids=str,
)
def test_a_result_comes_back(kind: Any, value: Any, received: Any) -> None:
    signature = result_of(kind)
    arrived = signature.decode_result(signature.encode_result(value))
    assert arrived == received
    assert type(arrived) is type(received)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (int, "a", "tasks.f() -> int: result: expected int, got str"),
        (Order, {"at": datetime(2026, 1, 1)}, "tasks.f() -> Order: result.items: is missing"),
        (Any, threading.Lock(), "tasks.f() -> Any: result: cannot encode _thread.lock as JSON"),
        (Any, [math.nan], "tasks.f() -> Any: result[0]: nan has no JSON form"),
        (float | None, math.nan, "tasks.f() -> float | None: result: nan has no JSON form"),
        (Any, "\ud800", "tasks.f() -> Any: result: has characters that UTF-8 cannot hold (a lone surrogate)"),
        (None, 3, "tasks.f() -> None: result: expected null, got int"),
    ],
    ids=lambda value: "lock" if isinstance(value, type(threading.Lock())) else str(value),
)
def test_a_result_that_would_not_come_back(kind: Any, value: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        result_of(kind).encode_result(value)
    assert str(caught.value) == sentence


def test_a_result_nested_too_deeply() -> None:
    for levels in (2_000, 100_000):  # within and beyond what the stack of some Pythons holds
        with pytest.raises((TypeError, ValueError), match=r"result: .*nested"):
            result_of(list).encode_result(nested(levels))


def test_a_stored_result_of_another_type() -> None:
    with pytest.raises(ValueError, match="expected int, got str"):
        result_of(int).decode_result(b'"a"')


@pytest.mark.parametrize(("kind", "none"), [(None, True), ("None", True), (int, False), (Any, False)])
def test_whether_it_returns_none(kind: Any, none: bool) -> None:
    assert result_of(kind).returns_none is none


def test_a_result_type_without_json_form_is_found_when_asked() -> None:
    signature = result_of(Connection)
    with pytest.raises(DefinitionError, match=r"result: .*Connection has no JSON form"):
        signature.prepare(result=True)
    with pytest.raises(TypeError, match="has no JSON form"):
        signature.encode_result(Connection())
