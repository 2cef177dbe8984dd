"""Types of the application's own, registered or of pydantic, as arguments and results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Generic, TypeVar

import pydantic
import pytest
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, EmailStr, Field, HttpUrl, RootModel, SecretStr, computed_field

from jetq import Jetq, register_type, task
from jetq.encoding import registered_types as own_types_module
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError, DefinitionError
from jetq.testing import in_memory

T = TypeVar("T")


class Money:
    """It knows nothing of JSON."""

    def __init__(self, cents: int, currency: str = "EUR") -> None:
        if cents < 0:
            raise ValueError("less than nothing")
        self.cents = cents
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.cents, self.currency))


class Tip(Money):
    pass


class Handle:
    """Each is equal to itself alone."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Bought:
    price: Money
    by: str = "ann"


class Basket(Struct):
    prices: list[Money]


class Line(BaseModel):
    sku: str
    price: Decimal
    at: datetime | None = None


class Order(BaseModel):
    id: int = Field(gt=0)
    lines: list[Line] = []


class Page(BaseModel, Generic[T]):
    items: list[T]


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


class Address(BaseModel):
    model_config = ConfigDict(alias_generator=camel)
    post_code: str = ""


class Renamed(BaseModel):
    number: int = Field(validation_alias="no", serialization_alias="nr")
    at: list[Address] = []


class Swapped(BaseModel):
    """The alias of each field is the name of the other."""

    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Exact(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    at: datetime
    days: frozenset[date] = frozenset()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def year(self) -> int:
        return self.at.year


class Skus(RootModel[list[str]]):
    pass


class Either(RootModel[Order | Exact]):
    pass


class Login(BaseModel):
    name: str
    password: SecretStr


class Hidden(BaseModel):
    seen: int
    unseen: int = Field(default=1, exclude=True)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(own_types_module, "_registered", {})
    register_type(Money, to_json=lambda money: [money.cents, money.currency], from_json=lambda form: Money(*form))
    register_type(Handle, to_json=lambda handle: handle.number, from_json=Handle)
    yield


def signature(kind: Any) -> Signature:
    def fn(x): ...  # type: ignore[no-untyped-def]

    fn.__annotations__ = {"x": kind, "return": kind}
    made = Signature(fn, "fn")
    made.prepare(result=True)
    return made


ADDRESS = Address.model_validate({"PostCode": "10115"})
ORDER = Order(id=1, lines=[Line(sku="a", price=Decimal("1.20"), at=datetime(2024, 2, 29))])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Money, Money(3)),
        (list[Money], [Money(3), Money(4, "USD")]),
        (dict[str, Money], {"a": Money(3)}),
        (tuple[int, Money], (1, Money(3))),
        (Money | None, Money(3)),
        (Bought, Bought(Money(3))),
        (Basket, Basket([Money(3)])),
        (Order, ORDER),
        (list[Order], [ORDER, Order(id=2)]),
        (Order | None, ORDER),
        (Page[Order], Page[Order](items=[ORDER])),
        (dict[str, Page[Line]], {"p": Page[Line](items=ORDER.lines)}),
        (Skus, Skus(["a", "b"])),
        (Address, ADDRESS),
        (list[Renamed], [Renamed.model_validate({"no": 1, "at": [{"PostCode": "10115"}]})]),
        (Exact, Exact(at=datetime(2024, 2, 29, tzinfo=UTC), days=frozenset({date(2024, 2, 29)}))),
        (Either, Either(Exact(at=datetime(2024, 2, 29)))),
    ],
)
def test_it_arrives_as_it_was(kind: Any, value: Any) -> None:
    made = signature(kind)
    assert made.decode(made.encode((value,), {})) == ((value,), {})
    assert made.decode_result(made.encode_result(value)) == value


@pytest.mark.parametrize("version", ["2.10.6", "2.11.0", "3.0"])
def test_a_model_with_aliases_arrives_by_what_its_pydantic_takes(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydantic, "VERSION", version)
    own_types_module._pydantic_form.cache_clear()
    made = signature(Address)
    body = made.encode((ADDRESS,), {})
    assert made.decode(body) == ((ADDRESS,), {})
    assert made.decode(b'{"x":{"PostCode":"10115"}}') == ((ADDRESS,), {})
    own_types_module._pydantic_form.cache_clear()


def test_a_model_that_cannot_be_told_by_its_names_is_refused() -> None:
    with pytest.raises(ArgumentError, match="does not come back from its JSON form as it was"):
        signature(Swapped).encode((Swapped(b=1, a=2),), {})


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        (Order | Login, r"class Either\(RootModel\[A \| B\]\)"),
        (list[Order | int], r"class Either\(RootModel\[A \| B\]\)"),
        (BaseModel, "annotate the model that is passed"),
        (EmailStr, "str for EmailStr"),
        (HttpUrl, "as HttpUrl, is told to jetq by register_type"),
    ],
    ids=["union", "union-in-list", "base", "marker", "class"],
)
def test_what_of_pydantic_is_no_model_is_refused_with_the_form_that_works(kind: Any, hint: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        signature(kind)
    assert re.search(hint, caught.value.hint or "")


def test_a_url_of_pydantic_may_be_registered() -> None:
    register_type(HttpUrl, to_json=str, from_json=HttpUrl)
    made = signature(HttpUrl)
    assert made.decode(made.encode((HttpUrl("https://a.example/b"),), {})) == ((HttpUrl("https://a.example/b"),), {})


def test_one_that_equals_itself_alone_is_taken() -> None:
    made = signature(Handle)
    (arrived,), _ = made.decode(made.encode((Handle(7),), {}))
    assert arrived.number == 7


def test_a_value_of_a_subclass_arrives_as_the_registered_class() -> None:
    made = signature(Money)
    (arrived,), _ = made.decode(made.encode((Tip(3),), {}))
    assert type(arrived) is Money


class Price(Decimal):
    pass


def test_a_class_made_from_one_that_is_known_may_be_registered() -> None:
    register_type(Price, to_json=str, from_json=Price)
    made = signature(list[Price])
    ((arrived,),), _ = made.decode(made.encode(([Price("1.20")],), {}))
    assert (type(arrived), arrived) == (Price, Price("1.20"))


def test_a_form_may_hold_what_has_a_form_itself() -> None:
    register_type(
        Handle,
        to_json=lambda handle: {"of": Money(handle.number), "share": Fraction(1, 3)},
        from_json=lambda form: Handle(form["of"][0]),
    )
    assert signature(Handle).encode((Handle(7),), {}) == b'{"x":{"of":[7,"EUR"],"share":"1/3"}}'


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (list[Money], b'{"x":[[1],[-1]]}', "x[1]: less than nothing"),
        (Order, b'{"x":{"id":1,"lines":[{"sku":"a"}]}}', "x: lines.0.price: Field required"),
        (Order, b'{"x":{"id":0}}', "x: id: Input should be greater than 0"),
        (list[Order], b'{"x":[5]}', "x[0]: input should be an object"),
    ],
    ids=str,
)
def test_what_it_refuses_has_its_place_and_not_its_value(kind: Any, body: bytes, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        signature(kind).decode(body)
    assert caught.value.message.endswith(told)
    assert "input_value" not in str(caught.value)


@pytest.mark.parametrize("value", [Login(name="ann", password=SecretStr("hunter2")), Hidden(seen=1, unseen=2)])
def test_what_its_form_leaves_out_is_not_lost_in_silence(value: BaseModel) -> None:
    made = signature(list[type(value)])  # type: ignore[misc]
    with pytest.raises(ArgumentError, match=r"x\[0\]: does not come back from its JSON form as it was") as caught:
        made.encode(([value],), {})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="does not come back"):
        made.encode_result([value])


def test_a_dict_is_no_model() -> None:
    with pytest.raises(ArgumentError, match="x: expected Order, got dict"):
        signature(Order).encode(({"id": 1},), {})
    assert signature(Order).encode_json({"x": {"id": 1}}) == b'{"x":{"id":1}}'


def test_a_class_that_nobody_has_registered_is_told_of_the_way() -> None:
    class Unknown: ...

    with pytest.raises(DefinitionError, match=r"Unknown has no JSON form\nhint: .*jetq\.register_type"):
        signature(Unknown)
    with pytest.raises(DefinitionError, match=r"a dict with keys of type .*Money has no JSON form"):
        signature(dict[Money, int])


@pytest.mark.parametrize(
    ("kind", "to_json", "told"),
    [
        (Money(1), str, "register_type takes a class, not <"),
        (int, str, "int has a JSON form already"),
        (datetime, str, "datetime has a JSON form already"),
        (Bought, str, "Bought has a JSON form already"),
        (Basket, str, "Basket has a JSON form already"),
        (Money, "cents", r"register_type\(Money\): to_json takes a function, not 'cents'"),
    ],
    ids=["an object", "a builtin", "a datetime", "a dataclass", "a Struct", "no function"],
)
def test_what_cannot_be_registered_is_told(kind: Any, to_json: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        register_type(kind, to_json=to_json, from_json=kind)


def test_a_job_is_run_with_them() -> None:
    @task(name="own.ship")
    def ship(order: Order, price: Money) -> Order:
        return Order(id=order.id + price.cents)

    with in_memory(Jetq()) as tester:
        job = ship.delay(ORDER, price=Money(3))
        assert tester.run_until_empty().succeeded == 1
        assert job.result(timeout=1) == Order(id=4)
