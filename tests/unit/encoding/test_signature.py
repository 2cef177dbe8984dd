"""Signatures as codecs: what a call becomes, what comes back, and what is refused before it is sent."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NewType, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetq.encoding.signature import Signature, Undecodable, encode_plain
from jetq.errors import ArgumentError, DefinitionError


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Item(msgspec.Struct):
    id: UUID
    tags: frozenset[str] = frozenset()
    below: Item | None = None


class Loose(msgspec.Struct):
    anything: Any


@dataclass
class Order:
    at: datetime
    items: list[Item]


class Keys(TypedDict, total=False):
    a: int
    b: list[Keys]


UserId = NewType("UserId", int)
UUID_1 = UUID("12345678-1234-5678-1234-567812345678")


def add(x: int, y: int) -> int:
    return x + y


def signature_of(kind: Any) -> Signature:
    """The signature of a task with one parameter `x` of type `kind`."""

    def fn(x): ...  # type: ignore[no-untyped-def]

    fn.__annotations__["x"] = kind
    return Signature(fn, "tasks.f")


def call(signature: Signature, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return signature.decode(signature.encode(args, kwargs))


def refusal(signature: Signature, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        signature.encode(args, kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (int, None, "x: expected int, got null"),
        (str, datetime(2026, 1, 1), "x: expected str, got datetime"),
        (str, Path("a"), "x: expected str, got PosixPath"),
        (str, b"a", "x: expected str, got bytes"),
        (datetime, "2026-01-01T00:00:00", "x: expected datetime, got str"),
        (Path, 3, "x: expected Path, got int"),
        (bytes, "a", "x: expected bytes, got str"),
        (dict[str, int], {"a": "b"}, "x[...]: expected int, got str"),
        (Item, {"id": 3}, "x.id: expected uuid, got int"),
        (Keys, {"a": 1, "c": 2}, "x['c']: is unknown"),
        (Keys, {"b": [{"a": 1}, {"z": 1}]}, "x['b'][1]['z']: is unknown"),
        (Colour, "blue", "x: not one of the allowed values"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, "x: expected int >= 0"),
        (float | None, math.inf, "x: inf has no JSON form"),
        (list[float | None], [1.0, -math.inf], "x[1]: -inf has no JSON form"),
        (dict[str, Any], {"a": {1}}, "x['a']: set is no JSON value, it would arrive as list"),
        (Loose, Loose((1,)), "x.anything: tuple is no JSON value, it would arrive as list"),
        (list[str], ["\udfff"], "x: has characters that UTF-8 cannot hold (a lone surrogate)"),
        (Path, Path("a\udcff"), "x: has characters that UTF-8 cannot hold (a lone surrogate)"),
    ],
    ids=str,
)
def test_is_refused_with_its_place(kind: Any, value: Any, sentence: str) -> None:
    signature = signature_of(kind)
    text = refusal(signature, value)
    assert text.partition("\n")[0] == f"{signature.call_text}: {sentence}"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({1}, "set is no JSON value, it would arrive as list"),
        ((1,), "tuple is no JSON value, it would arrive as list"),
        (b"a", "bytes is no JSON value, it would arrive as str"),
        (UUID_1, "uuid.UUID is no JSON value, it would arrive as str"),
        (Level.LOW, f"{__name__}.Level is no JSON value, it would arrive as int"),
        ({1: 2}, "its key of type int would arrive as text"),
        (Item(UUID_1), f"{__name__}.Item is no JSON value, it would arrive as dict"),
        (math.nan, "nan has no JSON form"),
    ],
    ids=str,
)
def test_without_annotation_only_json_values(value: Any, sentence: str) -> None:
    text = refusal(signature_of(Any), value)
    assert text.startswith(f"tasks.f(x: Any): x: {sentence}")
    assert ("hint: annotate the parameter" in text) == ("would arrive" in text)


def test_the_message_of_the_design() -> None:
    signature = Signature(add, "tasks.add")
    assert refusal(signature, 2, "three") == "tasks.add(x: int, y: int): y: expected int, got str"
    assert signature.text == "tasks.add(x: int, y: int) -> int"


@pytest.mark.parametrize("kind", [int, Any, list[int], Item], ids=str)
def test_what_has_no_json_form_says_what_to_do(kind: Any) -> None:
    assert refusal(signature_of(kind), threading.Lock()) == (
        "tasks.f: x: cannot encode _thread.lock as JSON\nhint: pass an id instead, and load the object in the task"
    )


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def chain(levels: int) -> Item:
    item = Item(UUID_1)
    for _ in range(levels):
        item = Item(UUID_1, below=item)
    return item


def test_cycles_and_depth_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert "is nested too deeply, or contains itself" in refusal(signature_of(Any), cycle)
    assert "nested" in refusal(signature_of(list), nested(100_000))
    assert "nested" in refusal(signature_of(list), nested(2_000))
    assert "is nested more than 200 levels deep" in refusal(signature_of(Any), nested(300))
    assert "is nested more than 200 levels deep" in refusal(signature_of(Item), chain(250))
    assert call(signature_of(Item), chain(50)) == ((chain(50),), {})


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    assert "x: cannot be encoded as JSON" in refusal(signature_of(int), 10**5000)


def test_an_argument_whose_attributes_raise_is_refused() -> None:
    class Rude:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("no")

    assert refusal(signature_of(Any), Rude()).startswith("tasks.f")


def test_a_type_that_refuses_its_own_values() -> None:
    class Even(msgspec.Struct):
        n: int

        def __post_init__(self) -> None:
            if self.n == 1:
                raise ValueError("odd")
            if self.n == 3:
                raise KeyError("worse")

    signature = signature_of(Even)
    assert "x: odd" in refusal(signature, {"n": 1})
    assert "KeyError" in refusal(signature, {"n": 3})
    with pytest.raises(ArgumentError, match="x: odd"):
        signature.decode(b'{"x": {"n": 1}}')
    with pytest.raises(ArgumentError, match="KeyError"):
        signature.decode(b'{"x": {"n": 3}}')


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_values_come_back_unchanged(value: Any) -> None:
    assert call(signature_of(Any), value) == ((value,), {})


# --- parameters of every kind


def every(a: int, /, b: int = 2, *rest: int, c: int, d: int = 4, **more: float) -> tuple[Any, ...]:
    return a, b, rest, c, d, more


def named(a: int, b: int = 2, *, c: int, d: int = 4) -> tuple[Any, ...]:
    return a, b, c, d


def placed(a: int = 1, b: int = 2, /, c: int = 3) -> tuple[Any, ...]:
    return a, b, c


def swallow(x: int, /, **more: int) -> tuple[Any, ...]:
    return x, more


def nothing() -> tuple[Any, ...]:
    return ()


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bytes]] = [
    (every, (1,), {"c": 3}, b'{"a":1,"c":3}'),
    (every, (1, 5, 6, 7), {"c": 3, "e": 1.5}, b'{"a":1,"b":5,"rest":[6,7],"c":3,"more":{"e":1.5}}'),
    (every, (1,), {"b": 9, "c": 3, "d": 5}, b'{"a":1,"b":9,"c":3,"d":5}'),
    (named, (1,), {"c": 3}, b'{"a":1,"c":3}'),
    (named, (), {"c": 3, "b": 5, "a": 1}, b'{"a":1,"b":5,"c":3}'),
    (named, (1, 2), {"d": 0, "c": 3}, b'{"a":1,"b":2,"c":3,"d":0}'),
    (placed, (), {}, b"{}"),
    (placed, (5,), {"c": 6}, b'{"a":5,"c":6}'),
    (swallow, (1,), {"x": 2}, b'{"x":1,"more":{"x":2}}'),
    (nothing, (), {}, b"{}"),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "body"), CALLS)
def test_a_call_by_every_kind_of_parameter(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], body: bytes
) -> None:
    signature = Signature(fn, "tasks.f")
    assert signature.encode(args, kwargs) == body
    again_args, again_kwargs = signature.decode(body)
    assert fn(*again_args, **again_kwargs) == fn(*args, **kwargs)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "sentence"),
    [
        (add, (1,), {}, "missing a required argument: 'y'"),
        (add, (1, 2, 3), {}, "too many positional arguments"),
        (add, (1, 2), {"y": 2}, "multiple values for argument 'y'"),
        (add, (1,), {"y": 2, "z": 3}, "got an unexpected argument 'z'"),
        (add, (1,), {"yy": 2}, "got an unexpected argument 'yy'; did you mean 'y'?"),
        (add, (), {"x": 1, "yy": 2}, "got an unexpected argument 'yy'; did you mean 'y'?"),
        (named, (1,), {"cc": 2}, "got an unexpected argument 'cc'; did you mean 'c'?"),
        (named, (1,), {}, "missing a required argument: 'c'"),
        (named, (1, 2, 3), {"c": 3}, "too many positional arguments"),
        (placed, (), {"a": 1}, "'a' is positional-only, but was passed as a keyword"),
        (placed, (), {"b": 1}, "'b' is positional-only, but was passed as a keyword"),
        (every, (1, 2, "a"), {"c": 3}, "rest[0]: expected int, got str"),
        (every, (1,), {"c": 3, "e": "a"}, "more[...]: expected float, got str"),
        (nothing, (1,), {}, "too many positional arguments"),
    ],
)
def test_a_call_that_does_not_fit(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], sentence: str
) -> None:
    signature = Signature(fn, "tasks.f")
    assert sentence in refusal(signature, *args, **kwargs)


@settings(deadline=None)
@given(st.data())
def test_binds_as_python_does(data: st.DataObject) -> None:
    functions: list[Callable[..., Any]] = [add, named, placed, every, nothing]
    fn = data.draw(st.sampled_from(functions))
    args = tuple(data.draw(st.lists(st.integers(0, 9), max_size=4)))
    kwargs = data.draw(st.dictionaries(st.sampled_from("abcdxyz"), st.integers(0, 9), max_size=4))
    signature = Signature(fn, "tasks.f")
    try:
        expected = fn(*args, **kwargs)
    except TypeError:
        refusal(signature, *args, **kwargs)
    else:
        again_args, again_kwargs = call(signature, *args, **kwargs)
        assert fn(*again_args, **again_kwargs) == expected


# --- at the worker


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff", b"{", b'{"x": "\xff"}', b'{"x": "\\ud800"}', b'{"x":' + b"[" * 100_000]
)
def test_bytes_that_are_not_json_are_undecodable(body: bytes) -> None:
    with pytest.raises(Undecodable):
        signature_of(Any).decode(body)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[1, 2]", "expected object, got array"),
        (b"{}", "missing a required argument: 'x'"),
        (b'{"x": 1, "y": 2, "zz": 3}', "got an unexpected argument 'zz'"),
        (b'{"x": 1, "y": "SECRET"}', "y: expected int, got str"),
        (b'{"x": 1, "y": 1e999}', "y: "),
    ],
)
def test_json_that_does_not_fit_is_told_by_name(body: bytes, sentence: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Signature(add, "tasks.add").decode(body)
    assert sentence in str(caught.value)


def test_no_value_stands_in_the_workers_errors() -> None:
    with pytest.raises(ArgumentError) as caught:
        signature_of(Colour).decode(b'{"x": "SECRET"}')
    assert "SECRET" not in str(caught.value)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_refused_cleanly(body: bytes) -> None:
    try:
        Signature(add, "tasks.add").decode(body)
    except (Undecodable, ArgumentError):
        pass


# --- merge, and JSON values


def test_merge_replaces_and_checks() -> None:
    signature = Signature(every, "tasks.f")
    body = signature.encode((1, 2, 3), {"c": 3, "e": 1.0})
    assert signature.decode(signature.merge(body, {"a": 9, "rest": (8,)})) == ((9, 2, 8), {"c": 3, "e": 1.0})
    with pytest.raises(ArgumentError, match="a: expected int, got str"):
        signature.merge(body, {"a": "x"})
    with pytest.raises(ArgumentError, match="unexpected argument 'zz'"):
        signature.merge(body, {"zz": 1})
    with pytest.raises(Undecodable):
        signature.merge(b"\xff", {"a": 1})


def test_merge_takes_python_values() -> None:
    signature = signature_of(Path)
    assert signature.decode(signature.merge(b'{"x": "a"}', {"x": Path("b")})) == ((Path("b"),), {})


def test_merge_leaves_what_is_stored_already_though_no_caller_may_give_it() -> None:
    def remind(at: datetime, note: str) -> None: ...

    signature = Signature(remind, "tasks.remind")
    body = b'{"at": "2026-01-01T00:00:00", "note": "a"}'
    assert signature.decode(signature.merge(body, {"note": "b"}))[0] == (datetime(2026, 1, 1), "b")
    with pytest.raises(ArgumentError, match="at: has no time zone"):
        signature.merge(body, {"at": datetime(2026, 1, 1)})


def test_json_values_are_checked_against_the_annotations() -> None:
    signature = signature_of(datetime)
    assert signature.decode(signature.encode_json({"x": "2026-01-01T00:00:00Z"}))[0] == (
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    with pytest.raises(ArgumentError, match="x: "):
        signature.encode_json({"x": "tomorrow"})
    with pytest.raises(ArgumentError, match=r"datetime\.datetime is no JSON value"):
        signature.encode_json({"x": datetime(2026, 1, 1)})
    with pytest.raises(ArgumentError, match="x: has no time zone"):
        signature.encode_json({"x": "2026-01-01T00:00:00"})
    with pytest.raises(ArgumentError, match="unexpected argument 'y'"):
        signature.encode_json({"x": "2026-01-01T00:00:00Z", "y": 1})


def test_plain_values() -> None:
    assert encode_plain("f", {"a": [1, None], "b": "c"}) == b'{"a":[1,null],"b":"c"}'
    with pytest.raises(ArgumentError, match=r"^f: a\[0\]: nan has no JSON form$"):
        encode_plain("f", {"a": [math.nan]})
    with pytest.raises(ArgumentError, match=r"f: a: cannot encode _thread\.lock as JSON"):
        encode_plain("f", {"a": threading.Lock()})


class Connection:
    """Has no JSON form."""


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Connection, f"tasks.f: x: {__name__}.Connection has no JSON form"),
        (list[Connection | None], f"tasks.f: x: {__name__}.Connection has no JSON form"),
        (Path | str, "tasks.f: x: Type unions containing a custom type"),
        (set[int] | list[int], "tasks.f: x: Type unions may not contain more than one array-like"),
        (Callable[[], int], "tasks.f: x: collections.abc.Callable has no JSON form"),
    ],
    ids=str,
)
def test_a_type_without_json_form_is_refused_when_defined(kind: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        signature_of(kind)
    assert str(caught.value).startswith(sentence)
    assert ("JSON does not tell these apart" if "unions" in sentence else "use a Struct") in str(caught.value)


def test_types_that_share_others_are_inspected_once() -> None:
    kind: Any = int
    for level in range(30):
        kind = msgspec.defstruct(f"Level{level}", [("left", kind), ("right", kind)])
    assert signature_of(kind).text.startswith("tasks.f(x: Level29)")


def later(x: DefinedBelow) -> DefinedBelow:  # type: ignore[name-defined] # noqa: F821 - that is the point
    return x


def never(y: int, x: list[NeverDefined]) -> None:  # type: ignore[name-defined] # noqa: F821
    ...


def test_an_annotation_may_name_what_is_defined_below() -> None:
    signature = Signature(later, "tasks.later")
    assert signature.text == "tasks.later(x: DefinedBelow) -> DefinedBelow"
    globals()["DefinedBelow"] = Item
    try:
        assert call(signature, Item(UUID_1)) == ((Item(UUID_1),), {})
        assert signature.parameter_type("x") is Item
    finally:
        del globals()["DefinedBelow"]


def test_an_annotation_that_is_never_defined() -> None:
    signature = Signature(never, "tasks.never")
    for use in (signature.prepare, lambda: signature.encode((1, []), {}), lambda: signature.decode(b"{}")):
        with pytest.raises(DefinitionError) as caught:
            use()
        assert caught.value.message == (
            "tasks.never: the annotation x: list[NeverDefined]: name 'NeverDefined' is not defined"
        )


def test_an_annotation_that_is_no_expression() -> None:
    with pytest.raises(DefinitionError, match=r"tasks\.f: the annotation x: 3 \+"):
        signature_of("3 +")


def test_a_signature_is_shown_short() -> None:
    def fn(a: Path, b: list[Path] | None = None, *c: Any, d: str = "x" * 100, e: float = 0.5, **f: Colour) -> None: ...

    expected = (
        "tasks.f(a: Path, b: list[Path] | None = None, *c: Any, d: str = ..., e: float = 0.5, **f: Colour) -> None"
    )
    assert Signature(fn, "tasks.f").text == expected
