"""`python -m tests.faults.matrix`: each fault of docs/explanation/faults.md, and the tests that hold what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Row", "rows"]

_PAGE = Path(__file__).parents[2] / "docs/explanation/faults.md"
_TEST = re.compile(r"`(tests/[^`]+)`")


class Row(NamedTuple):
    """One fault: what happens, the tests named for it, and whether there is a limit to what holds."""

    fault: str
    tests: tuple[str, ...]
    limit: bool


def rows() -> Iterator[Row]:
    """All of them, in the page's order."""
    for line in _PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "what happens":
            yield Row(cells[0], tuple(_TEST.findall(cells[-1])), "**limit**" in line)


def main() -> None:
    found = list(rows())
    for row in found:
        marks = [*row.tests, *(["a limit, see the page"] if row.limit else [])]
        sys.stdout.write(f"{row.fault}\n    {marks[0]}\n" + "".join(f"    {mark}\n" for mark in marks[1:]))
    limits = sum(row.limit for row in found)
    sys.stdout.write(f"{len(found)} faults, {limits} with a limit\n\n")


if __name__ == "__main__":
    main()
