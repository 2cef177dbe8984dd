"""Any call of any signature: what `encode` lets through comes back equal, and any bytes decode or are refused."""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jetq.encoding.signature import Signature, Undecodable
from jetq.errors import ArgumentError
from tests.unit.properties.examples import examples


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Status(enum.Enum):
    NEW = 1
    DONE = 2


class Permission(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Odd(enum.Enum):
    HALF = 0.5
    PAIR = (1, "a")
    TEXT = "0.5"


class Moment(datetime): ...


class Money(Decimal): ...


class Point(msgspec.Struct, frozen=True):
    x: int
    y: float = 0.5
    tags: tuple[str, ...] = ()


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: int


@dataclass(frozen=True)
class Order:
    id: UUID
    total: Decimal
    placed: datetime
    notes: str | None = None


class Pair(NamedTuple):
    left: str
    right: int


class Profile(TypedDict, total=False):
    name: str
    born: date


TEXT = st.text(max_size=30)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))))
# A Decimal goes as text, and NaN is not equal to itself.
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
SPANS = st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000))
UNION = int | str | None

Kind = tuple[Any, st.SearchStrategy[Any]]

PLAIN: list[Kind] = [
    (int, INTS),
    (float, FLOATS),
    (bool, st.booleans()),
    (str, TEXT),
    (bytes, st.binary(max_size=40)),
    (None, st.none()),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, SPANS),
    (UUID, st.uuids()),
    (Decimal, DECIMALS),
    (Path, st.from_regex(r"[a-zA-Z0-9_. /-]{0,20}", fullmatch=True).map(Path)),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Word, st.sampled_from(Word)),
    (Status, st.sampled_from(Status)),
    (Permission, st.integers(0, 7).map(Permission)),
    (Odd, st.sampled_from(Odd)),
    (dict[Status, Permission], st.dictionaries(st.sampled_from(Status), st.integers(0, 7).map(Permission))),
    (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
    (Point, st.builds(Point, INTS, FLOATS, st.lists(TEXT, max_size=3).map(tuple))),
    (Order, st.builds(Order, st.uuids(), DECIMALS, MOMENTS, st.none() | TEXT)),
    (Pair, st.builds(Pair, TEXT, INTS)),
    (Profile, st.fixed_dictionaries({}, optional={"name": TEXT, "born": st.dates()})),
    (Circle | Square, st.builds(Circle, FLOATS) | st.builds(Square, INTS)),
    (UNION, INTS | TEXT | st.none()),
]


def _of(kind: Kind) -> st.SearchStrategy[Kind]:
    """A kind, or one made of it."""
    values = kind[1]
    annotation: Any = kind[0]
    return st.sampled_from(
        [
            kind,
            (list[annotation], st.lists(values, max_size=4)),
            (tuple[annotation, ...], st.lists(values, max_size=4).map(tuple)),
            (tuple[annotation, int], st.tuples(values, INTS)),
            (dict[str, annotation], st.dictionaries(TEXT, values, max_size=4)),
            (annotation | None if annotation is not None else None, values | st.none()),
        ]
    )


JSON = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
KINDS = st.sampled_from(PLAIN).flatmap(_of) | st.just((Any, JSON))

_PARAMETER = inspect.Parameter
_WHICH = [
    _PARAMETER.POSITIONAL_ONLY,
    _PARAMETER.POSITIONAL_OR_KEYWORD,
    _PARAMETER.VAR_POSITIONAL,
    _PARAMETER.KEYWORD_ONLY,
    _PARAMETER.VAR_KEYWORD,
]


class Drawn(NamedTuple):
    """A function that returns its arguments by name, and the parameters it has."""

    fn: Callable[..., dict[str, Any]]
    parameters: list[tuple[inspect.Parameter, st.SearchStrategy[Any]]]


@st.composite
def functions(draw: st.DrawFn) -> Drawn:
    """Functions of up to five parameters of any kind and type."""
    which = sorted(draw(st.lists(st.sampled_from(_WHICH), max_size=5)))
    parameters: list[tuple[inspect.Parameter, st.SearchStrategy[Any]]] = []
    defaulted = False
    for place, kind in enumerate(which):
        several = kind in (_PARAMETER.VAR_POSITIONAL, _PARAMETER.VAR_KEYWORD)
        if several and kind in which[:place]:
            continue
        annotation, values = draw(KINDS)
        default: Any = _PARAMETER.empty
        by_place = kind in (_PARAMETER.POSITIONAL_ONLY, _PARAMETER.POSITIONAL_OR_KEYWORD)
        if not several and (draw(st.booleans()) or (defaulted and by_place)):
            default = draw(values)
            defaulted |= by_place
        parameters.append((_PARAMETER(f"p{place}", kind, default=default, annotation=annotation), values))
    return Drawn(_function([each for each, _ in parameters]), parameters)


def _function(parameters: list[inspect.Parameter]) -> Callable[..., dict[str, Any]]:
    """What `def f(<parameters>): return locals()` would make."""
    holders: dict[str, Any] = {}
    written: list[str] = []
    last = None
    for each in parameters:
        if last is _PARAMETER.POSITIONAL_ONLY and each.kind is not last:
            written.append("/")
        if each.kind is _PARAMETER.KEYWORD_ONLY and last not in (_PARAMETER.KEYWORD_ONLY, _PARAMETER.VAR_POSITIONAL):
            written.append("*")
        stars = "*" * (each.kind is _PARAMETER.VAR_POSITIONAL) + "**" * (each.kind is _PARAMETER.VAR_KEYWORD)
        holders[f"t_{each.name}"] = each.annotation
        holders[f"d_{each.name}"] = each.default
        default = "" if each.default is _PARAMETER.empty else f" = d_{each.name}"
        written.append(f"{stars}{each.name}: t_{each.name}{default}")
        last = each.kind
    if last is _PARAMETER.POSITIONAL_ONLY:
        written.append("/")
    exec(f"def f({', '.join(written)}): return dict(locals())", holders)
    function: Callable[..., dict[str, Any]] = holders["f"]
    return function


@st.composite
def calls(draw: st.DrawFn) -> tuple[Drawn, tuple[Any, ...], dict[str, Any]]:
    """A function, and arguments it takes."""
    drawn = draw(functions())
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_name = False
    for parameter, values in drawn.parameters:
        optional = parameter.default is not _PARAMETER.empty
        match parameter.kind:
            case _PARAMETER.POSITIONAL_ONLY:
                if by_name or (optional and draw(st.booleans())):
                    by_name = True
                else:
                    args.append(draw(values))
            case _PARAMETER.VAR_POSITIONAL:
                args += [] if by_name else draw(st.lists(values, max_size=3))
            case _PARAMETER.VAR_KEYWORD:
                kwargs |= draw(st.dictionaries(st.sampled_from(["more", "grün", "p", "x y"]), values, max_size=3))
            case _:
                if optional and draw(st.booleans()):
                    by_name = True
                    continue
                by_name |= parameter.kind is _PARAMETER.KEYWORD_ONLY or draw(st.booleans())
                if by_name:
                    kwargs[parameter.name] = draw(values)
                else:
                    args.append(draw(values))
    return drawn, tuple(args), kwargs


@examples(150)
@given(calls())
def test_a_call_comes_back_equal(call: tuple[Drawn, tuple[Any, ...], dict[str, Any]]) -> None:
    """Guarantee: what a task is enqueued with, it is run with."""
    drawn, args, kwargs = call
    signature = Signature(drawn.fn, "tasks.f")
    body = signature.encode(args, kwargs)
    again_args, again_kwargs = signature.decode(body)
    sent, received = drawn.fn(*args, **kwargs), drawn.fn(*again_args, **again_kwargs)
    assert received == sent
    assert repr(received) == repr(sent) or _has_moments(repr(sent))


def _has_moments(shown: str) -> bool:
    """Whether equal values of it may be written otherwise: a time zone, a `bytearray`."""
    return "datetime" in shown


HOSTILE = st.one_of(
    st.floats(),
    st.integers(),
    st.text(st.characters(exclude_categories=[]), max_size=5),
    st.sets(st.integers(), max_size=2),
    st.tuples(st.integers()),
    st.complex_numbers(),
    st.dictionaries(st.integers() | st.none(), st.integers(), min_size=1, max_size=2),
    st.builds(object),
    st.sampled_from([Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), math.nan, {"a": math.inf}, int, print]),
    st.datetimes(timezones=st.timezones()),
    st.datetimes(timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)),
    st.times(timezones=st.timezones()),
    st.timedeltas(),
    st.binary(max_size=4).map(bytearray),
    st.sampled_from([*Colour, *Size, *Word, *Status, *Odd, Permission(3), Moment(2026, 1, 1), Money(1)]),
    JSON,
)


@examples(150)
@given(KINDS, HOSTILE)
def test_any_value_comes_back_as_it_was_or_is_refused(kind: Kind, value: Any) -> None:
    signature = Signature(_function([_PARAMETER("p", _PARAMETER.POSITIONAL_ONLY, annotation=kind[0])]), "tasks.f")
    try:
        body = signature.encode((value,), {})
    except ArgumentError as error:
        assert str(error)
        return
    (received,), _ = signature.decode(body)
    assert received == value or _as_annotated(value, received)


def _as_annotated(value: Any, received: Any) -> bool:
    """What an annotation takes though it is of another type: a list for a tuple, an int for a float, NaN."""
    if isinstance(value, Decimal) and value.is_nan():
        return isinstance(received, Decimal) and received.is_nan()
    if isinstance(value, list | tuple | set) and isinstance(received, list | tuple | set):
        return len(value) == len(received) and all(a == b for a, b in zip(value, received, strict=True))
    return isinstance(value, int) and isinstance(received, float) and float(value) == received


@examples(150)
@given(functions(), st.binary() | JSON.map(msgspec.json.encode) | st.text().map(str.encode))
def test_any_bytes_decode_or_are_refused(drawn: Drawn, body: bytes) -> None:
    """Guarantee: whatever stands in the queue becomes a call or one of the two errors."""
    signature = Signature(drawn.fn, "tasks.f")
    try:
        args, kwargs = signature.decode(body)
    except (Undecodable, ArgumentError) as error:
        assert str(error)
    else:
        drawn.fn(*args, **kwargs)


@examples(100)
@given(calls(), st.data())
def test_a_body_with_a_few_bytes_changed_decodes_or_is_refused(
    call: tuple[Drawn, tuple[Any, ...], dict[str, Any]], data: st.DataObject
) -> None:
    drawn, args, kwargs = call
    signature = Signature(drawn.fn, "tasks.f")
    body = bytearray(signature.encode(args, kwargs))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        again_args, again_kwargs = signature.decode(bytes(body))
    except (Undecodable, ArgumentError):
        pass
    else:
        drawn.fn(*again_args, **again_kwargs)


@examples(150)
@given(KINDS, st.data())
def test_a_result_comes_back_equal(kind: Kind, data: st.DataObject) -> None:
    annotation, values = kind
    value = data.draw(values)
    holders: dict[str, Any] = {"t": annotation}
    exec("def f() -> t: ...", holders)
    signature = Signature(holders["f"], "tasks.f")
    assert signature.decode_result(signature.encode_result(value)) == value
