"""A member of any Enum arrives as the same member, wherever it stands, or its Enum is refused."""

from __future__ import annotations

import enum
from datetime import date
from typing import Any

import msgspec
import pytest

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
    refusal,
    taking,
)


class ChoicesMeta(enum.EnumMeta):
    """What web frameworks give their enums of choices."""


class Status(enum.Enum):
    NEW = 1
    DONE = 2


class Auto(enum.Enum):
    A = enum.auto()


class Word(enum.Enum):
    YES = "yes"


class TextWord(enum.StrEnum):
    YES = "yes"


class OldWord(str, enum.Enum):  # noqa: UP042 - as code of before Python 3.11 has them
    YES = "yes"


class Rank(enum.IntEnum):
    LOW = 1


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class IntPermission(enum.IntFlag):
    READ = 1
    WRITE = 2


class Ratio(enum.Enum):
    HALF = 0.5
    ONE = 1.0


class OldRatio(float, enum.Enum):
    HALF = 0.5


class Planet(enum.Enum):
    EARTH = (5.97e24, 6.4e6)
    MARS = (6.42e23, 3.4e6)


class Mixed(enum.Enum):
    ONE = 1
    ONE_AS_TEXT = "1"
    HALF = 0.5


class Big(enum.Enum):
    A = 2**70


class Day(enum.Enum):
    FIRST = date(2026, 1, 1)


class TextChoice(str, enum.Enum, metaclass=ChoicesMeta):  # noqa: UP042
    SMALL = "s"


class IntChoice(int, enum.Enum, metaclass=ChoicesMeta):
    LOW = 1


class PlainChoice(enum.Enum, metaclass=ChoicesMeta):
    LOW = 1


class PairChoice(enum.Enum, metaclass=ChoicesMeta):
    LOW = (1, 2)


class Lenient(enum.Enum):
    KNOWN = 1

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.KNOWN


Made = enum.Flag("Made", "READ WRITE")

IN_CLASSES = [
    Status.DONE,
    Auto.A,
    Word.YES,
    TextWord.YES,
    OldWord.YES,
    Rank.LOW,
    Permission.READ,
    Permission.READ | Permission.WRITE,
    Permission(0),
    IntPermission.READ | IntPermission.WRITE,
    TextChoice.SMALL,
    IntChoice.LOW,
    PlainChoice.LOW,
    Lenient.KNOWN,
    Made["READ"] | Made["WRITE"],
]
"""Members of enums whose values are all str or all int, which may be the type of a class's field too."""

AS_KEYS = [*IN_CLASSES, Ratio.ONE, OldRatio.HALF, Big.A, Day.FIRST]
MEMBERS = [*AS_KEYS, Planet.MARS, Mixed.ONE, Mixed.ONE_AS_TEXT, Mixed.HALF, PairChoice.LOW]


@WAYS
@pytest.mark.parametrize("member", MEMBERS, ids=str)
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_a_member_of_any_enum_arrives_as_itself(way: Way, member: enum.Enum, shape: int) -> None:
    kind, value = (make(each) for make, each in zip(SHAPES[shape], (type(member), member), strict=True))
    received = way(kind, value)
    assert received == value
    assert repr(received) == repr(value)


@WAYS
@pytest.mark.parametrize("member", AS_KEYS, ids=str)
def test_a_member_of_an_enum_is_a_key(way: Way, member: enum.Enum) -> None:
    (received,) = way(DICT[type(member), int], {member: 1})
    assert received is member


@WAYS
@pytest.mark.parametrize("member", IN_CLASSES, ids=str)
@pytest.mark.parametrize("shape", range(len(IN_FIELDS)))
def test_a_member_of_an_enum_is_in_a_field(way: Way, member: enum.Enum, shape: int) -> None:
    make_kind, make_value = IN_FIELDS[shape]
    kind = make_kind(type(member))
    value = make_value(kind, member)
    assert way(kind, value) == value
    assert way(LIST[kind], [value]) == [value]


@WAYS
@pytest.mark.parametrize("member", [Status.NEW, Permission.READ, PlainChoice.LOW], ids=str)
def test_a_member_of_an_int_enum_is_in_a_union_with_text(way: Way, member: enum.Enum) -> None:
    assert way(type(member) | str, member) is member
    assert way(type(member) | str, "1") == "1"


def test_parameters_of_every_kind_take_enums() -> None:
    def fn(a: Status, /, *rest: Ratio, c: Planet, **more: Permission) -> None: ...

    signature = Signature(fn, "tasks.f")
    args, kwargs = (Status.NEW, Ratio.HALF, Ratio.ONE), {"c": Planet.MARS, "d": Permission.READ | Permission.WRITE}
    assert signature.decode(signature.encode(args, kwargs)) == (args, kwargs)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (Status, Word.YES, "x: expected int, got Word"),
        (Status, 2.5, "x: expected int, got float"),
        (int, Status.NEW, "x: expected int, got Status"),
        (str, Word.YES, "x: expected str, got Word"),
        (Ratio, 0.5, "x: expected Ratio, got float"),
        (list[Ratio], [Ratio.HALF, Planet.EARTH], "x[1]: expected Ratio, got Planet"),
        (tuple[Status, int], (Status.NEW, "a"), "x[1]: expected int, got str"),
    ],
    ids=str,
)
def test_what_is_no_member_is_refused(kind: Any, value: Any, sentence: str) -> None:
    assert refusal(kind, value) == sentence


@pytest.mark.parametrize("kind", [Ratio, Planet, Mixed, Day], ids=str)
@pytest.mark.parametrize("text", ["9", '"zz"', "[1,2]", "null", "{}"])
def test_json_of_no_member_is_refused_at_the_worker(kind: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match="x: not one of the allowed values"):
        taking(kind).decode(b'{"x": %s}' % text.encode())


class Opaque(enum.Enum):
    A = 1.5
    B = object()


class Absent(enum.Enum):
    A = None
    B = 1


class Same(enum.Enum):
    TEXT = "2026-01-01"
    DATE = date(2026, 1, 1)


class InField(msgspec.Struct):
    ratio: Ratio


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Opaque, f"the value of {__name__}.Opaque.B has no JSON form of its own"),
        (list[Absent], f"the value of {__name__}.Absent.A has no JSON form of its own"),
        (Same, f"{__name__}.Same.TEXT and .DATE have the same JSON form"),
        (InField, "Enums must contain either all str or all int values"),
        (dict[Planet, int], f"a dict with keys of type {__name__}.Planet has no JSON form"),
    ],
    ids=str,
)
def test_an_enum_that_cannot_cross_is_refused_when_defined(kind: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        taking(kind)
    assert str(caught.value).startswith(f"tasks.f: x: {sentence}")
    assert caught.value.hint


def test_a_key_that_two_members_share_is_refused() -> None:
    assert refusal(dict[Mixed, int], {Mixed.ONE: 1}) == (
        "x: has a key that would arrive as another\n"
        "hint: annotate keys of one type, as in dict[str, ...] or dict[int, ...]"
    )
    assert as_argument(dict[Mixed, int], {Mixed.HALF: 1}) == {Mixed.HALF: 1}
