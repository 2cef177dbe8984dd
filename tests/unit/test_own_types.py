"""Types of the application's own, registered or of pydantic, as arguments and results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Generic, TypeVar

import pytest
from msgspec import Struct
from pydantic import BaseModel, Field, RootModel, SecretStr

from jetq import Jetq, register_type, task
from jetq import own_types as own_types_module
from jetq.codec import Signature
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


class Skus(RootModel[list[str]]):
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
    ],
)
def test_it_arrives_as_it_was(kind: Any, value: Any) -> None:
    made = signature(kind)
    assert made.decode(made.encode((value,), {})) == ((value,), {})
    assert made.decode_result(made.encode_result(value)) == value


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
        (list[Order], b'{"x":[5]}', "x[0]: input should be a valid dictionary or instance of Order"),
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
