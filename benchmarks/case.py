"""What a case is: one run by jetq, the same by the floor, what is measured of both, and the targets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from msgspec import Struct

from benchmarks.ground import Ground, Side

__all__ = ["Case", "Measure", "Run", "Target"]

Run = Callable[[Ground, int], Awaitable[Mapping[str, float]]]
"""`async (ground, count) -> figures by the name of their measure`, on an empty server."""


class Target(Struct, frozen=True):
    """What must be reached: at least or at most `bound`, by jetq's figure or by its ratio to the floor's."""

    sense: Literal["least", "most"]
    bound: float
    of: Literal["figure", "floor"] = "floor"

    def met(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value >= self.bound if self.sense == "least" else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.sense == "least" else "≤"
        return f"{sign} {self.bound:g}{' of floor' if self.of == 'floor' else ''}"


class Measure(Struct, frozen=True):
    """One figure of a case. unit: what stands behind it. digits: behind its point."""

    name: str
    unit: str
    digits: int = 0
    target: Target | None = None


class Case(Struct, frozen=True):
    """One run to be measured. count: jobs at full scale, least: at any scale. long: minutes rather than seconds."""

    name: str
    title: str
    count: int
    measures: tuple[Measure, ...]
    jetq: Run
    floor: Run | None = None
    least: int = 20
    long: bool = False

    def scaled(self, scale: float) -> int:
        """How many jobs it has at `scale`."""
        return max(self.least, round(self.count * scale))

    def sides(self, *, reverse: bool) -> list[tuple[Side, Run]]:
        """Who runs, in turn."""
        sides: list[tuple[Side, Run]] = [("jetq", self.jetq)]
        if self.floor is not None:
            sides.append(("floor", self.floor))
        return sides[::-1] if reverse else sides
