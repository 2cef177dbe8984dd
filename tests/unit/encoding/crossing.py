"""Ways for a value to cross as an argument and as a result, in any shape and field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest

from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError


def taking(kind: Any) -> Signature:
    """The signature of a task with one parameter `x` of type `kind`."""

    def fn(x): ...  # type: ignore[no-untyped-def]

    fn.__annotations__["x"] = kind
    return Signature(fn, "tasks.f")


def giving(kind: Any) -> Signature:
    """The signature of a task with a result of type `kind`."""

    def fn(): ...  # type: ignore[no-untyped-def]

    fn.__annotations__["return"] = kind
    return Signature(fn, "tasks.f")


def as_argument(kind: Any, value: Any) -> Any:
    signature = taking(kind)
    args, _ = signature.decode(signature.encode((value,), {}))
    return args[0]


def as_result(kind: Any, value: Any) -> Any:
    signature = giving(kind)
    return signature.decode_result(signature.encode_result(value))


WAYS = pytest.mark.parametrize("way", [as_argument, as_result])
Way = Callable[[Any, Any], Any]


def refusal(kind: Any, value: Any) -> str:
    """What is said of `value` as an argument."""
    signature = taking(kind)
    with pytest.raises(ArgumentError) as caught:
        signature.encode((value,), {})
    return str(caught.value).removeprefix(f"{signature.call_text}: ")


def result_refusal(kind: Any, value: Any) -> str:
    """What is said of `value` as a result."""
    with pytest.raises((TypeError, ValueError)) as caught:
        giving(kind).encode_result(value)
    return str(caught.value)


LIST: Any = list
TUPLE: Any = tuple
SET: Any = set
FROZENSET: Any = frozenset
DICT: Any = dict
TYPED_DICT: Any = TypedDict

"""So that a kind which is not known before may stand in the brackets."""

SHAPES: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda kind: kind, lambda member: member),
    (lambda kind: kind | None, lambda member: member),
    (lambda kind: LIST[kind], lambda member: [member, member]),
    (lambda kind: TUPLE[kind, ...], lambda member: (member,)),
    (lambda kind: TUPLE[kind, int], lambda member: (member, 1)),
    (lambda kind: SET[kind], lambda member: {member}),
    (lambda kind: FROZENSET[kind], lambda member: frozenset({member})),
    (lambda kind: DICT[str, LIST[kind | None]], lambda member: {"a": [None, member]}),
]
"""A kind with another in it, and a value of it with one in it."""

IN_FIELDS: list[tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = [
    (lambda kind: msgspec.defstruct("Holder", [("x", kind)]), lambda holder, member: holder(member)),
    (lambda kind: make_dataclass("Data", [("x", kind)]), lambda holder, member: holder(member)),
    (lambda kind: TYPED_DICT("Typed", {"x": kind}), lambda holder, member: {"x": member}),
    (lambda kind: NamedTuple("Named", [("x", kind)]), lambda holder, member: holder(member)),
]
"""A class with a field of a kind, and an object of it."""
