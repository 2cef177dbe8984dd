"""The tasks that are measured. All but the sleeping ones do nothing but write into the ledger.

Workers in processes of their own import this module: `jetq worker benchmarks.tasks`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from benchmarks import ledger
from benchmarks.names import OTHER, QUEUE, TEXT
from jetq import Call, current_job, task

__all__ = ["call_of"]


class Person(Struct):
    """Fields that JSON has no types of its own for."""

    name: str
    born: datetime
    balance: Decimal
    tags: list[str]


class Line(Struct):
    """Of an order."""

    product: str
    amount: int
    price: Decimal


class Order(Struct):
    """Structs in a Struct."""

    number: int
    buyer: Person
    lines: list[Line]
    notes: dict[str, str]


@task(queue=QUEUE, name="bench.noop")
async def noop(number: int, text: str) -> None:
    """Nothing but the ledger."""
    ledger.note(number)


@task(queue=QUEUE, name="bench.noop_sync")
def noop_sync(number: int, text: str) -> None:
    """The same in a thread."""
    ledger.note(number)


@task(queue=QUEUE, name="bench.sleep")
async def sleep(number: int, seconds: float) -> None:
    """A job that waits for something."""
    ledger.start(number)
    await asyncio.sleep(seconds)
    ledger.end(number)


@task(queue=QUEUE, name="bench.person")
async def person(number: int, who: Person) -> None:
    """150 bytes of typed arguments."""
    ledger.note(number)


@task(queue=QUEUE, name="bench.people")
async def people(number: int, all: list[Person]) -> None:
    """2 kB of typed arguments."""
    ledger.note(number)


@task(queue=QUEUE, name="bench.order")
async def order(number: int, what: Order) -> None:
    """Nested ones."""
    ledger.note(number)


@task(queue=QUEUE, name="bench.answer")
async def answer(number: int, text: str) -> int:
    """A result, which is stored for an hour."""
    ledger.note(number)
    return number


@task(queue=QUEUE, name="bench.flaky", wait=0)
async def flaky(number: int, text: str) -> None:
    """Every tenth job fails at its first attempt, and its retry is due at once."""
    if number % 10 == 0 and current_job().attempt == 1:
        raise ConnectionError("the first attempt of every tenth job fails")
    ledger.note(number)


_BUYER = Person(
    "Ada Lovelace",
    datetime(1815, 12, 10, tzinfo=UTC),
    Decimal("1234.56"),
    ["first", "london", "mathematics", "computing"],
)
_ORDER = Order(
    number=1,
    buyer=_BUYER,
    lines=[Line(f"product-{n}", n + 1, Decimal("9.99")) for n in range(8)],
    notes={"gift": "yes", "wrapping": "blue", "door": "left"},
)


def call_of(name: str, number: int, seconds: float = 0.0) -> Call[Any]:
    """Job `number` of the task of that short name, bound. seconds: how long it sleeps, if it does."""
    match name:
        case "noop":
            return noop.bind(number, TEXT)
        case "noop_sync":
            return noop_sync.bind(number, TEXT)
        case "sleep":
            return sleep.bind(number, seconds)
        case "person":
            return person.bind(number, _BUYER)
        case "people":
            return people.bind(number, [_BUYER] * 16)
        case "order":
            return order.bind(number, _ORDER)
        case "answer":
            return answer.bind(number, TEXT)
        case "flaky":
            return flaky.bind(number, TEXT)
        case "keyed":
            return noop.options(key=f"customer-{number}").bind(number, TEXT)
        case "two":
            return noop.options(queue=OTHER if number % 2 else QUEUE).bind(number, TEXT)
    raise ValueError(name)
