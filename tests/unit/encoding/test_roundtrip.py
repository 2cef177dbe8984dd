"""Values arrive as they were, or are refused where they were written: subclasses, and what changes silently."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated, Any, ClassVar, Literal, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest

from jetq.encoding import plain_values, roundtrip, type_hooks
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError, DefinitionError
from tests.unit.encoding.crossing import (
    DICT,
    IN_FIELDS,
    LIST,
    SHAPES,
    WAYS,
    Way,
    as_argument,
    as_result,
    refusal,
    result_refusal,
    taking,
)


class Status(enum.Enum):
    NEW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rank(enum.IntEnum):
    LOW = 1


ODD = timezone(timedelta(minutes=53, seconds=28))
BERLIN = ZoneInfo("Europe/Berlin")

# --- subclasses


class Moment(datetime):
    """As time libraries have, and libraries that freeze the time."""


class Today(date): ...


class Clock(time): ...


class Span(timedelta): ...


class Money(Decimal): ...


class Scalar(float):
    """As libraries of numbers have."""


class Count(int): ...


class SafeText(str): ...


class Blob(bytes): ...


OF_SUBCLASSES = [
    (datetime, Moment(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    (date, Today(2026, 1, 2), date(2026, 1, 2)),
    (time, Clock(3, 4, 5, 6), time(3, 4, 5, 6)),
    (timedelta, Span(days=-1, microseconds=3), timedelta(days=-1, microseconds=3)),
    (Decimal, Money("1.50"), Decimal("1.50")),
    (float, Scalar(1.5), 1.5),
    (int, Count(3), 3),
    (int, Rank.LOW, 1),
    (str, SafeText("a"), "a"),
    (str, Word.YES, "yes"),
    (bytes, Blob(b"a"), b"a"),
]


@WAYS
@pytest.mark.parametrize(("kind", "value", "plain"), OF_SUBCLASSES, ids=str)
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_a_value_of_a_subclass_arrives_as_its_base(way: Way, kind: Any, value: Any, plain: Any, shape: int) -> None:
    make_kind, make_value = SHAPES[shape]
    assert repr(way(make_kind(kind), make_value(value))) == repr(make_value(plain))


@WAYS
@pytest.mark.parametrize(("kind", "value", "plain"), OF_SUBCLASSES, ids=str)
@pytest.mark.parametrize("shape", range(len(IN_FIELDS)))
def test_a_field_of_a_subclass_arrives_as_its_base(way: Way, kind: Any, value: Any, plain: Any, shape: int) -> None:
    make_kind, make_value = IN_FIELDS[shape]
    holder = make_kind(kind)
    assert repr(way(holder, make_value(holder, value))) == repr(make_value(holder, plain))


@WAYS
@pytest.mark.parametrize(("kind", "value", "plain"), OF_SUBCLASSES, ids=str)
def test_a_key_of_a_subclass_arrives_as_its_base(way: Way, kind: Any, value: Any, plain: Any) -> None:
    (received,) = way(DICT[kind, int], {value: 1})
    assert repr(received) == repr(plain)


class Frozen(type):
    """The class of classes that stand for others in `isinstance`, as those of a library that freezes the time."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime if issubclass(cls, datetime) else date)


class FrozenMoment(datetime, metaclass=Frozen): ...


class FrozenDate(date, metaclass=Frozen): ...


@WAYS
def test_while_the_time_is_frozen(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that freezes the time puts its classes in the place of every module's `datetime` and `date`."""
    for module in (roundtrip, plain_values, type_hooks):
        monkeypatch.setattr(module, "datetime", FrozenMoment)
        monkeypatch.setattr(module, "date", FrozenDate)
    moment, day = FrozenMoment(2026, 1, 2, tzinfo=BERLIN), FrozenDate(2026, 1, 2)
    received = way(tuple[datetime, date, list[datetime]], (moment, day, [moment]))
    assert repr(received[:2]) == repr(
        way(tuple[datetime, date], (datetime(2026, 1, 2, tzinfo=BERLIN), date(2026, 1, 2)))
    )
    assert received[2] == [moment]
    assert refusal(date, moment) == "x: expected date, got FrozenMoment"
    assert "has a UTC offset with seconds" in refusal(datetime, FrozenMoment(2026, 1, 1, tzinfo=ODD))


class Node(msgspec.Struct):
    """Of a type that nests without bound, so its values are looked through."""

    at: datetime
    price: Decimal
    below: Node | None = None


def test_a_field_of_a_subclass_in_a_type_that_contains_itself() -> None:
    given = Node(Moment(2026, 1, 1, tzinfo=UTC), Money(1), Node(Moment(2026, 1, 2, tzinfo=UTC), Money(2)))
    received = as_argument(Node, given)
    first, second = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    assert received == Node(first, Decimal(1), Node(second, Decimal(2)))
    assert type(received.at) is datetime


@pytest.mark.parametrize("value", [value for _, value, _ in OF_SUBCLASSES], ids=str)
def test_without_annotation_a_subclass_is_refused(value: Any) -> None:
    assert "is no JSON value, it would arrive as" in refusal(Any, [value])


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (int, True, "x: expected int, got bool"),
        (date, datetime(2026, 1, 1), "x: expected date, got datetime"),
        (date, Moment(2026, 1, 1), "x: expected date, got Moment"),
        (datetime, Today(2026, 1, 1), "x: expected datetime, got Today"),
        (str, Money(1), "x: expected str, got Money"),
    ],
    ids=str,
)
def test_a_subclass_of_another_base_is_refused(kind: Any, value: Any, sentence: str) -> None:
    assert refusal(kind, value) == sentence


def test_a_subclass_that_holds_more_is_refused() -> None:
    class Fine(datetime):
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = datetime.__hash__

    assert "x: cannot be encoded as JSON: Fine holds more than datetime can" in refusal(datetime, Fine(2026, 1, 1))


# --- silent changes


@attrs.define
class Account:
    id: int
    _token: str = "none"
    below: list[Account] = attrs.Factory(list)


@attrs.frozen
class Wrapped:
    _price: Decimal
    account: Account


class Holding(msgspec.Struct, frozen=True):
    account: Account


@dataclass
class Kept:
    made: ClassVar[int] = 0
    account: Account
    _count: int = field(default=0, init=False)


def counted(kept: Kept, count: int) -> Kept:
    kept._count = count
    return kept


@WAYS
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Account, Account(1, "secret", [Account(2, "other")])),
        (list[Account], [Account(1, "secret")]),
        (dict[str, tuple[Account, ...]], {"a": (Account(1, "secret"),)}),
        (Wrapped, Wrapped(Decimal("1.5"), Account(1, "secret"))),
        (Holding, Holding(Account(1, "secret"))),
        (Kept, counted(Kept(Account(1, "secret")), 3)),
        (Account | None, Account(1, "secret")),
    ],
    ids=str,
)
def test_private_fields_arrive(way: Way, kind: Any, value: Any) -> None:
    assert way(kind, value) == value


@WAYS
@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (dict[int | str, int], {1: 1, "1": 2}, ""),
        (dict[str | int, int], {"a": 1, 3: 2}, ""),
        (dict[str | float, int], {1.5: 1}, ""),
        (list[dict[int | str, int]], [{"a": 1}, {1: 1}], "[1]"),
        (dict[str, dict[int | str, int]], {"a": {1: 1}}, "['a']"),
        (dict[int | str, int] | None, {1: 1}, ""),
    ],
    ids=str,
)
def test_a_key_that_would_become_text_is_refused(way: Way, kind: Any, value: Any, place: str) -> None:
    told = refusal(kind, value) if way is as_argument else result_refusal(kind, value)
    assert f"{place}: has a key that would arrive as another" in told


@WAYS
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[int | str, int], {"a": 1, "1": 2}),
        (dict[int | UUID, int], {1: 1, UUID(int=1): 2}),
        (dict[Literal["a", 1], int], {"a": 1}),
        (dict[str | None, int], {"a": 1}),
    ],
    ids=str,
)
def test_a_key_that_stays_what_it_is_crosses(way: Way, kind: Any, value: Any) -> None:
    assert way(kind, value) == value


@pytest.mark.parametrize(
    ("value", "place"),
    [({1: "a", "1": "b"}, ""), ([{1: "a"}, {"b": {1: "a", "1": "b"}}], "[1]['b']")],
    ids=str,
)
def test_a_result_that_would_lose_an_entry_is_refused(value: Any, place: str) -> None:
    assert f"result{place}: has two keys that have the same text" in result_refusal(Any, value)


@dataclass
class Doubled:
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


class DoubledStruct(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


@attrs.define
class DoubledAttrs:
    n: int

    def __attrs_post_init__(self) -> None:
        self.n *= 2


@dataclass(eq=False)
class Sorted:
    """What is made again as it was."""

    names: list[str]
    at: datetime
    ratio: float | Decimal = 1.0

    def __post_init__(self) -> None:
        self.names = sorted(self.names)


@WAYS
@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (Doubled, Doubled(1), ".n"),
        (DoubledStruct, DoubledStruct(1), ".n"),
        (DoubledAttrs, DoubledAttrs(1), ".n"),
        (list[Doubled], [Doubled(0), Doubled(1)], "[1].n"),
        (dict[str, Doubled | None], {"a": Doubled(1)}, "['a'].n"),
    ],
    ids=str,
)
def test_a_class_that_changes_its_values_again_is_refused(way: Way, kind: Any, value: Any, place: str) -> None:
    told = refusal(kind, value) if way is as_argument else result_refusal(kind, value)
    assert f"{place}: would arrive changed: its class changes at the worker what was set already" in told


@WAYS
def test_a_class_that_makes_its_values_as_they_were_crosses(way: Way) -> None:
    value = Sorted(["b", "a"], Moment(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), Scalar(2))
    received = way(Sorted, value)
    assert (received.names, received.at, received.ratio) == (["a", "b"], value.at, 2.0)
    assert way(list[Doubled], [Doubled(0)]) == [Doubled(0)]


@WAYS
@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (datetime, datetime(2026, 1, 1, tzinfo=ODD), ": has a UTC offset with seconds, which would be lost"),
        (datetime, datetime(1880, 1, 1, tzinfo=BERLIN), ": has a UTC offset with seconds, which would be lost"),
        (list[datetime], [datetime(2026, 1, 1, tzinfo=ODD)], "[0]: has a UTC offset with seconds, which would be lost"),
        (Node, Node(datetime(2026, 1, 1, tzinfo=ODD), Decimal(1)), ".at: has a UTC offset with seconds"),
        (time, time(12, tzinfo=ODD), ": has a UTC offset with seconds, which would be lost"),
        (time, time(12, tzinfo=BERLIN), ": has a time zone without an offset, which would be lost"),
        (dict[str, time], {"a": time(12, tzinfo=BERLIN)}, "['a']: has a time zone without an offset"),
        (dict[time, int], {time(12, tzinfo=BERLIN): 1}, ": has a time zone without an offset"),
        (dict[datetime, int], {datetime(2026, 1, 1, tzinfo=ODD): 1}, ": has a UTC offset with seconds"),
    ],
    ids=str,
)
def test_a_zone_that_would_be_lost_is_refused(way: Way, kind: Any, value: Any, sentence: str) -> None:
    assert sentence in (refusal(kind, value) if way is as_argument else result_refusal(kind, value))


@WAYS
@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=BERLIN),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),  # equal to no time of another zone, as Python has it
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        time(12, tzinfo=UTC),
        time(12, tzinfo=timezone(timedelta(hours=2))),
        time(12),
    ],
    ids=str,
)
def test_an_offset_of_minutes_crosses(way: Way, value: datetime | time) -> None:
    (key,) = way(DICT[type(value), int], {value: 1})
    for received in (way(type(value), value), key, way(LIST[type(value)], [value])[0]):
        assert received.replace(tzinfo=None) == value.replace(tzinfo=None)
        assert received.utcoffset() == value.utcoffset()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (dict[tuple[int, int], int], "tuple"),
        (list[dict[tuple[int, ...], int]], "tuple"),
        (dict[frozenset[str], int], "frozenset"),
        (dict[bool, int], "bool"),
        (dict[None, int], "none"),
        (dict[tuple[int, int] | None, int], "tuple"),
    ],
    ids=str,
)
def test_keys_that_json_cannot_have_are_refused_when_defined(kind: Any, name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        taking(kind)
    assert str(caught.value).startswith(f"tasks.f: x: a dict with keys of type {name} has no JSON form")
    assert "or a list of pairs" in str(caught.value)


def test_an_object_is_sent_with_its_fields_only() -> None:
    body = taking(Kept).encode((counted(Kept(Account(1, "secret")), 3),), {})
    assert body == b'{"x":{"account":{"id":1,"_token":"secret","below":[]},"_count":3}}'


def test_no_secret_stands_in_a_refusal() -> None:
    def fn(password: dict[int | str, Doubled]) -> None: ...

    with pytest.raises(ArgumentError) as caught:
        Signature(fn, "tasks.f").encode(({"hunter2secret": Doubled(1)},), {})
    assert "hunter2secret" not in str(caught.value)


# --- what msgspec does not know


def test_text_that_is_no_address_is_refused() -> None:
    assert refusal(IPv4Address, "127.0.0.1") == "x: expected IPv4Address, got str"
    for body in (b'{"x": "127.0.0"}', b'{"x": 3}'):
        with pytest.raises(ArgumentError, match="x: "):
            taking(IPv4Address).decode(body)


@WAYS
@pytest.mark.parametrize("given", [[Status.NEW], (Status.NEW,), {Status.NEW}], ids=str)
def test_an_iterable_arrives_as_a_list(way: Way, given: Any) -> None:
    assert way(Iterable[Status], given) == [Status.NEW]
    assert "x: cannot encode list_iterator as JSON" in refusal(Iterable[int], iter([1]))


JSON: Any = Union[int, list["JSON"]]  # type: ignore[misc] # noqa: UP007 - as aliases are that name themselves


def test_an_alias_that_names_itself_says_what_to_do() -> None:
    def fn(x: JSON) -> None: ...

    with pytest.raises(DefinitionError, match="hint: annotate Any where it names itself"):
        Signature(fn, "tasks.f")


# --- times without a zone


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (datetime, datetime(2026, 1, 1), ""),
        (list[datetime], [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1)], "[1]"),
        (dict[str, datetime | None], {"a": None, "b": datetime(2026, 1, 1)}, "['b']"),
        (Node, Node(datetime(2026, 1, 1), Decimal(1), None), ".at"),
    ],
    ids=str,
)
def test_a_datetime_without_a_zone_is_refused(kind: Any, value: Any, place: str) -> None:
    told = refusal(kind, value)
    assert f"x{place}: has no time zone, and would mean another time on another machine" in told
    assert "hint: pass an aware one, as datetime.now(UTC)" in told


def test_a_task_may_take_datetimes_without_a_zone() -> None:
    naive, aware = datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)
    assert as_argument(Annotated[datetime, msgspec.Meta(tz=False)], naive) == naive
    assert "datetime" in refusal(Annotated[datetime, msgspec.Meta(tz=False)], aware)
    assert as_argument(list[Annotated[datetime, msgspec.Meta(tz=False)]], [naive]) == [naive]


def test_a_result_may_have_no_zone() -> None:
    assert as_result(datetime, datetime(2026, 1, 1)) == datetime(2026, 1, 1)
