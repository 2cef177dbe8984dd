"""docs/reference/types.md, whose tables are those of tests/types_of_arguments.py.

`python -m tests.types_page` writes them there anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tests.documents import ROOT
from tests.types_of_arguments import CROSSES, NEVER, REFUSED, hint_of, json_of, told

__all__ = ["PAGE", "page", "tables"]

PAGE = ROOT / "docs/reference/types.md"


def tables() -> dict[str, str]:
    """The tables of the page, by the names that stand above them there."""
    by_hint: dict[str, list[str]] = {}
    for kind in NEVER:
        by_hint.setdefault(hint_of(kind), []).append(kind)
    return {
        "what crosses": _table(
            ("annotation", "crosses as", "for example", "in JSON"),
            [
                (row.types, row.crosses, _codes(each.value for each in shown), _codes(json_of(each) for each in shown))
                for row in CROSSES
                for shown in (row.samples[: row.shown],)
            ],
        ),
        "what is refused": _table(
            ("annotation", "given", "said", "do this"),
            [
                (_codes([each.kind]), _codes([each.value]), _cell(said.removeprefix("x: ")), _cell(each.do or hint))
                for each in REFUSED
                for said, hint in (told(each),)
            ],
        ),
        "what can never cross": _table(
            ("annotation", "do this"), [(_codes(kinds), _cell(hint)) for hint, kinds in by_hint.items()]
        ),
    }


def page() -> str:
    """The text of the page with its tables as they have to be."""
    text = PAGE.read_text("utf-8")
    for name, table in tables().items():
        before, mark, after = text.partition(f"<!-- {name} -->\n")
        assert mark, f"{PAGE.name} has no <!-- {name} -->"
        text = before + mark + table + re.sub(r"\A(\|.*\n)*", "", after)
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"|{'|'.join(f' {cell} ' for cell in line)}|\n".replace("| --- ", "|---").replace("  |", " |") for line in lines
    )


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"`{_cell(code)}`" for code in codes)


def _cell(text: str) -> str:
    """The text as it stands in a table, whose cells end with a stroke."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
