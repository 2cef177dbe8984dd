"""Every type that a parameter may have: what crosses as what, what arrives as another, and what is refused.

The tables are written once, here. tests/unit/encoding/test_types_of_arguments.py holds jetq to them, and
docs/reference/types.md shows them: `python -m tests.types_page` writes them there anew.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime as times
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import typing
import uuid
import zoneinfo
from dataclasses import InitVar, dataclass
from datetime import date, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any, NamedTuple, NewType, TypedDict

import attrs
import msgspec
from pydantic import BaseModel, SecretStr

from jetq import Failure, Secret, register_type
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError, DefinitionError

__all__ = ["CROSSES", "NEVER", "REFUSED", "Refused", "Row", "Sample", "evaluated", "hint_of", "json_of", "told"]

# --- the classes of the samples


class Status(enum.Enum):
    NEW = 1
    DONE = 2


class Word(enum.StrEnum):
    YES = "yes"


class Rank(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Ratio(enum.Enum):
    HALF = 0.5


class Planet(enum.Enum):
    EARTH = (5.97e24, 6.4e6)


class Day(enum.Enum):
    FIRST = date(2026, 1, 1)


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "1"


class Opaque(enum.Enum):
    A = object()


class Absent(enum.Enum):
    A = None


class Same(enum.Enum):
    TEXT = "2026-01-01"
    DATE = date(2026, 1, 1)


class Item(msgspec.Struct):
    id: int
    below: Item | None = None


class Special(Item): ...


class Rated(msgspec.Struct):
    ratio: Ratio


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


@dataclass
class Order:
    at: datetime
    items: list[Item]


@dataclass
class WithInitVar:
    x: int
    by: InitVar[int] = 2


@attrs.define
class Account:
    id: int
    _token: str = "none"


class Keys(TypedDict, total=False):
    a: int
    below: list[Keys]


class Loose(msgspec.Struct):
    anything: Any


class Host(msgspec.Struct):
    at: ipaddress.IPv4Address


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Doubled:
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


class Line(BaseModel):
    sku: str
    price: Decimal


class Login(BaseModel):
    password: SecretStr


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __repr__(self) -> str:
        return f"Money({self.cents})"


register_type(Money, to_json=lambda money: money.cents, from_json=Money)


class Tip(Money): ...


class Unknown: ...


class Price(Decimal): ...


class Moment(datetime): ...


class Scalar(float): ...


class SafeText(str): ...


UserId = NewType("UserId", int)

# --- the tables


@dataclass(frozen=True)
class Sample:
    """A `value` for a parameter annotated `kind`, and what `arrives` if it is another. All are written as in code."""

    kind: str
    value: str
    arrives: str = ""


@dataclass(frozen=True)
class Row:
    """Types, as the page names them, what they cross as, and samples, of which the page shows the first ones."""

    types: str
    crosses: str
    samples: tuple[Sample, ...]
    shown: int = 1


def _row(types: str, crosses: str, *samples: tuple[str, ...], shown: int = 1) -> Row:
    return Row(types, crosses, tuple(Sample(*each) for each in samples), shown)


CROSSES: tuple[Row, ...] = (
    _row("`None`", "null", ("None", "None")),
    _row("`bool`", "itself", ("bool", "True")),
    _row("`int`, of any size", "itself", ("int", "2**70"), ("int", "-(2**63) - 1"), ("Final[int]", "3")),
    _row("`float`", "a number; NaN and infinity are refused", ("float", "0.1"), ("float", "3", "3.0")),
    _row("`str`", "text", ("str", "'grüße'"), ("str", "'\\x00 \\U0001f600'")),
    _row(
        "`bytes`, `bytearray`, `memoryview`",
        "base64",
        ("bytes", "b'a\\xff'"),
        ("bytearray", "bytearray(b'a')"),
        ("memoryview", "memoryview(b'a')"),
        ("bytes", "bytearray(b'a')", "b'a'"),
    ),
    _row(
        "`datetime`",
        "text; its offset is kept, the name of its zone is not",
        ("datetime", "datetime(2026, 1, 2, 3, 4, tzinfo=UTC)"),
        ("datetime", "datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30)))"),
        (
            "datetime",
            "datetime(2026, 1, 2, tzinfo=ZoneInfo('Europe/Berlin'))",
            "datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1)))",
        ),
    ),
    _row(
        "`Annotated[datetime, msgspec.Meta(tz=False)]`",
        "text; for times without a zone",
        ("Annotated[datetime, msgspec.Meta(tz=False)]", "datetime(2026, 1, 2, 3, 4)"),
    ),
    _row("`date`", "text", ("date", "date(2026, 1, 2)")),
    _row("`time`", "text", ("time", "time(3, 4, 5)"), ("time", "time(3, 4, tzinfo=UTC)")),
    _row(
        "`timedelta`", "text", ("timedelta", "timedelta(hours=1)"), ("timedelta", "timedelta(days=-3, microseconds=7)")
    ),
    _row("`UUID`", "text", ("UUID", "UUID(int=7)")),
    _row("`Decimal`, `Fraction`", "text", ("Decimal", "Decimal('0.10')"), ("Fraction", "Fraction(1, 3)"), shown=2),
    _row(
        "`Path` and its like",
        "text",
        ("Path", "Path('a/b')"),
        ("PurePosixPath", "PurePosixPath('/tmp/ä b')"),
        ("Path | None", "None"),
    ),
    _row(
        "addresses, interfaces and networks of `ipaddress`",
        "text",
        ("IPv4Address", "IPv4Address('127.0.0.1')"),
        ("IPv6Address", "IPv6Address('::1')"),
        ("IPv6Network | None", "IPv6Network('fd00::/8')"),
        ("Host", "Host(IPv4Address('127.0.0.1'))"),
        ("IPv4Interface", "IPv4Interface('10.0.0.1/8')"),
        ("IPv4Network", "IPv4Network('10.0.0.0/8')"),
        ("dict[IPv4Address, list[Fraction]]", "{IPv4Address('127.0.0.1'): [Fraction(2)]}"),
    ),
    _row(
        "an `Enum`",
        "the JSON of its member's value",
        ("Word", "Word.YES"),
        ("Status", "Status.DONE"),
        ("Access", "Access.READ | Access.WRITE"),
        ("Ratio", "Ratio.HALF"),
        ("Planet", "Planet.EARTH"),
        ("Day", "Day.FIRST"),
        ("Mixed", "Mixed.TEXT"),
        ("Rank", "Rank.LOW"),
        shown=6,
    ),
    _row("`Literal`", "itself", ("Literal['a', 1]", "1")),
    _row(
        "`NewType`, `Annotated`, `Secret`",
        "what they are made of",
        ("UserId", "7"),
        ("Annotated[int, msgspec.Meta(ge=0)]", "0"),
        ("Secret[str]", "'s'"),
    ),
    _row(
        "`list`, `Sequence`, `Collection`",
        "an array",
        ("list[int]", "[1]"),
        ("list", "['a']"),
        ("Sequence[int]", "[1]"),
        ("Collection[int]", "[1]"),
        ("list[int]", "(1, 2)", "[1, 2]"),
        ("list[Order | None]", "[None, Order(datetime(2026, 1, 1, tzinfo=UTC), [])]"),
    ),
    _row("`Iterable`", "an array; a list arrives, and a generator is refused", ("Iterable[int]", "(1, 2)", "[1, 2]")),
    _row("`tuple`", "an array", ("tuple[int, str]", "(1, 'a')"), ("tuple[Decimal, ...]", "(Decimal(1), Decimal(2))")),
    _row("`set`, `frozenset`", "an array", ("set[int]", "{1}"), ("frozenset[UUID]", "frozenset({UUID(int=7)})")),
    _row(
        "`dict`, `Mapping`",
        "an object, its keys as text",
        ("dict[int, str]", "{1: 'a'}"),
        ("dict", "{'a': 1}"),
        ("Mapping[str, int]", "{'a': 1}"),
        ("dict[Path, int]", "{Path('a'): 1}"),
        ("dict[str, datetime]", "{'a': datetime(2026, 1, 1, tzinfo=UTC)}"),
    ),
    _row("a Struct", "an object", ("Item", "Item(1, Item(2))"), ("Item", "{'id': 1}", "Item(1)")),
    _row("a dataclass", "an object", ("Order", "Order(datetime(2026, 1, 1, tzinfo=UTC), [Item(1)])")),
    _row("an attrs class", "an object", ("Account", "Account(1, 'secret')")),
    _row("a `TypedDict`", "an object", ("Keys", "{'a': 1}"), ("Keys", "{'a': 1, 'below': [{'a': 2}]}")),
    _row("a `NamedTuple`", "an array", ("Point", "Point(1, 2)")),
    _row("a model of pydantic", "its JSON form", ("Line", "Line(sku='a', price=Decimal('1.20'))")),
    _row(
        "a class that was [registered](../how-to/pass-your-own-types.md)",
        "the form it was given",
        ("Money", "Money(3)"),
        ("dict[str, Money]", "{'a': Money(3)}"),
    ),
    _row(
        "`X \\| None`, unions of types that differ in JSON",
        "what the value is",
        ("int | str", "'3'"),
        ("int | None", "None"),
        ("list[Path | None]", "[Path('a'), None]"),
        ("Cat | Dog", "Dog('Rex')"),
        ("Status | str", "Status.NEW"),
        shown=1,
    ),
    _row(
        "`X \\| Failure`, X any of these: what [a workflow goes on with](../how-to/handle-failures-of-workflows.md)",
        "what the value is; a Failure is an object with a tag",
        ("list[Item | Failure]", "[Item(1), Failure('fetch', 1, 'failed', '', 'no page')]"),
        ("Line | Failure", "Line(sku='a', price=Decimal('1.50'))"),
        ("Ratio | Failure | None", "None"),
        ("dict[int, Decimal] | Failure", "{1: Decimal('1.50')}"),
        ("Money | Failure", "Tip(3)", "Money(3)"),
        ("dict[str, Decimal] | Failure", "{'a': Price('1.50')}", "{'a': Decimal('1.50')}"),
        shown=1,
    ),
    _row("`msgspec.Raw`", "the JSON that it is", ("msgspec.Raw", "msgspec.Raw(b'[1]')")),
    _row(
        "`Any`, `object`, or no annotation",
        "only what JSON gives back unchanged: None, bool, int, float, str, list, and dict with str keys",
        ("Any", "{'a': [1, 2.5, None, True]}"),
        ("object", "[1]"),
        ("Loose", "Loose({'a': [1]})"),
    ),
    _row(
        "a subclass of `datetime`, `date`, `time`, `timedelta`, `Decimal`, `float`, `int`, `str`, `bytes`",
        "its base, and **arrives as that**",
        ("Decimal", "Price('1.50')", "Decimal('1.50')"),
        ("datetime", "Moment(2026, 1, 2, tzinfo=UTC)", "datetime(2026, 1, 2, tzinfo=UTC)"),
        ("float", "Scalar(1.5)", "1.5"),
        ("str", "SafeText('a')", "'a'"),
        ("int", "Rank.LOW", "1"),
        ("str", "Word.YES", "'yes'"),
        ("Money", "Tip(3)", "Money(3)"),
    ),
)
"""What crosses."""


@dataclass(frozen=True)
class Refused:
    """A `value` that a parameter annotated `kind` does not take, and what to `do` instead."""

    kind: str
    value: str
    do: str = ""


REFUSED: tuple[Refused, ...] = (
    Refused("int", "'a'"),
    Refused("int", "True"),
    Refused("int", "2.0"),
    Refused("str", "UUID(int=7)"),
    Refused("UUID", "str(UUID(int=7))"),
    Refused("date", "datetime(2026, 1, 1, tzinfo=UTC)"),
    Refused("Path", "'a'"),
    Refused("Status", "Word.YES"),
    Refused("int", "Status.NEW"),
    Refused("Literal['a']", "'b'"),
    Refused("list[int]", "[1, 'a']"),
    Refused("dict[str, int]", "{1: 1}"),
    Refused("Item", "{}"),
    Refused("Line", "{'sku': 'a'}", "`Line(...)`: a dict is no model"),
    Refused("Keys", "{'b': 1}"),
    Refused("dict[str, str] | Failure", "{'jetq': 'failure'}", "another key: it would arrive as a Failure"),
    Refused("float", "math.nan"),
    Refused("str", "'\\ud800'"),
    Refused("Any", "{1}", "annotate the parameter"),
    Refused("Any", "{1: 2}", "annotate the parameter"),
    Refused("dict[int | str, str]", "{1: 'a'}", "annotate keys of one type"),
    Refused("datetime", "datetime(2026, 1, 1)", "`datetime.now(UTC)`, `value.astimezone()`"),
    Refused(
        "datetime", "datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=3208)))", "`value.astimezone(timezone.utc)`"
    ),
    Refused("time", "time(12, tzinfo=ZoneInfo('Europe/Berlin'))", "the zone's name as an argument of its own"),
    Refused("Doubled", "Doubled(1)", "let `__post_init__` leave alone what it has made"),
    Refused("Item", "Special(1)", "annotate what is given, or a union of Structs with a `tag`"),
    Refused("Login", "Login(password='hunter2')", "pass an id, and load what is secret in the task"),
    Refused("Iterable[int]", "iter([1])", "`list(value)`"),
    Refused("list", "[object()]", "an id, and load the object in the task"),
)
"""What is refused at the caller, as it is no value of its type or would arrive changed."""

NEVER: tuple[str, ...] = (
    "Unknown",
    "Callable[[], int]",
    "complex",
    "Opaque",
    "Absent",
    "Same",
    "Rated",
    "dict[tuple[int, int], int]",
    "dict[bool, int]",
    "dict[Planet, int]",
    "dict[Money, int]",
    "date | datetime",
    "str | UUID",
    "Path | str",
    "list[int] | set[int]",
    "Order | Doubled",
    "Item | Special",
    "Item | Special | Failure",
    "dict[Item | Failure, int]",
    "WithInitVar",
    "deque[int]",
    "Generator[int, None, None]",
    "Iterator[int]",
    "Iterable",
    "Counter[str]",
    "OrderedDict[str, int]",
    "defaultdict[str, int]",
    "msgspec.msgpack.Ext",
)
"""What is refused when the task is defined."""

# --- what jetq makes of them


_MODULES = (typing, collections, collections.abc, times, decimal, fractions, ipaddress, pathlib, uuid, zoneinfo)
_NAMES: dict[str, Any] = {"math": math, "Secret": Secret, "Failure": Failure}
for _module in _MODULES:  # a later one wins: Counter is that of collections
    _NAMES |= {each: value for each, value in vars(_module).items() if not isinstance(value, ModuleType)}


def evaluated(code: str) -> Any:
    """The annotation or value that the code of a table stands for."""
    return eval(code, {**_NAMES, **globals()})


def signature(kind: str) -> Signature:
    """That of a task with one parameter `x` annotated `kind`, which also returns that."""

    def fn(x): ...  # type: ignore[no-untyped-def]

    fn.__annotations__ = {"x": evaluated(kind), "return": evaluated(kind)}
    made = Signature(fn, "tasks.f")
    made.prepare(result=True)
    return made


def json_of(sample: Sample) -> str:
    """The JSON that the value of a sample crosses as."""
    return signature(sample.kind).encode((evaluated(sample.value),), {}).decode()[len('{"x":') : -1]


def told(refused: Refused) -> tuple[str, str]:
    """What is said of a value that is refused, without the name of the task, and the hint. Raises LookupError for one
    that is taken."""
    made = signature(refused.kind)
    try:
        made.encode((evaluated(refused.value),), {})
    except ArgumentError as error:
        said = error.message.removeprefix(f"{made.call_text}: ").removeprefix("tasks.f: ")
        return said.replace(f"{__name__}.", ""), error.hint or ""
    raise LookupError(f"{refused} is taken")


def hint_of(kind: str) -> str:
    """What is said to do about a type that cannot cross. Raises LookupError for one that can."""
    try:
        signature(kind)
    except DefinitionError as error:
        assert error.hint is not None
        return error.hint
    raise LookupError(f"{kind} is taken")
