"""What a type of arguments costs: `python -m benchmarks.types`.

CPU time of a call with one argument of the type beside a number and a text: at the caller, where it is checked,
encoded, decoded again and compared, and at the worker, where it is decoded. The first are msgspec's own types, the
others come through hooks. Of each the fastest round counts, because what else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, StrEnum
from pathlib import PurePosixPath
from typing import Any

import pydantic
from msgspec import Struct

from benchmarks.machine import environment
from benchmarks.names import TEXT
from benchmarks.report import describe
from jetq import register_type
from jetq.encoding.signature import Signature


class Size(StrEnum):
    """Of texts, which JSON has."""

    SMALL = "s"
    LARGE = "l"


class Level(Enum):
    """Of numbers that msgspec has no Enum of."""

    LOW = 0.5
    HIGH = 1.5


class Point(Struct):
    """The two fields, in a Struct."""

    x: int
    y: int


class Model(pydantic.BaseModel):
    """The same in a model."""

    x: int
    y: int


class Money:
    """The same in a class that jetq is told of."""

    def __init__(self, cents: int, currency: int) -> None:
        self.cents = cents
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and (self.cents, self.currency) == (other.cents, other.currency)

    __hash__ = None  # type: ignore[assignment]


register_type(Money, to_json=lambda money: [money.cents, money.currency], from_json=lambda form: Money(*form))

KINDS: tuple[tuple[str, Any, Any], ...] = (
    ("int", int, 7),
    ("datetime", datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    ("StrEnum", Size, Size.LARGE),
    ("Struct of two numbers", Point, Point(1, 2)),
    ("Enum of floats", Level, Level.HIGH),
    ("PurePosixPath", PurePosixPath, PurePosixPath("/var/lib")),
    ("class that was registered", Money, Money(1, 2)),
    ("list of ten such", list[Money], [Money(1, n) for n in range(10)]),
    ("model of pydantic", Model, Model(x=1, y=2)),
    ("list of ten models", list[Model], [Model(x=1, y=n) for n in range(10)]),
)
"""What is measured: its name, the annotation, a value."""


def measured(kind: Any, value: Any, count: int) -> tuple[float, float]:
    """Microseconds of a call with such a value: at the caller, and at the worker."""

    def task(number: int, text: str, value: Any) -> None: ...

    task.__annotations__["value"] = kind
    signature = Signature(task, "bench.types")
    args = (1, TEXT, value)
    body = signature.encode(args, {})
    assert signature.decode(body) == (args, {})
    return _each(lambda: signature.encode(args, {}), count), _each(lambda: signature.decode(body), count)


def _each(work: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - began) / count * 1e6


def main(rounds: int, count: int) -> None:
    figures: list[list[tuple[float, float]]] = [[] for _ in KINDS]
    for _ in range(rounds):
        for (_, kind, value), found in zip(KINDS, figures, strict=True):
            found.append(measured(kind, value, count))
    print("| an argument of type | us at the caller | us at the worker |\n|---|---:|---:|")
    for (name, _, _), found in zip(KINDS, figures, strict=True):
        caller, worker = (min(side) for side in zip(*found, strict=True))
        print(f"| {name} | {caller:.1f} | {worker:.1f} |")
    print()
    print(describe(environment(uvloop=False)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.types", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    main(options.rounds, options.count)
