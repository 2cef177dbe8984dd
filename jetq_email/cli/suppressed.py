"""`jetq email suppressed`: the list of recipients that get no mail."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

import click
import msgspec
from msgspec import Struct

from jetq import JetqError
from jetq_email.cli.tables import echo_lines, echo_rows
from jetq_email.message.address import parse_mailbox
from jetq_email.settings import current
from jetq_email.suppression import Reason, Suppressed, Suppression, address_hash

__all__ = ["suppressed"]

_HASH = re.compile(r"[0-9a-f]{40}")
_REASONS = ("bounce", "complaint", "unsubscribed", "manual")
_COLUMNS = ("address", "reason", "topic", "source", "at", "detail")
_AT_ONCE = 50

_topic = click.option("--topic", allow_from_autoenv=False, help="Only mail of this topic. By default all mail.")


class _Row(Struct):
    """One line of a file: the recipient, by address or hash, and the reason."""

    hash: str
    why: Suppressed


@click.group()
def suppressed() -> None:
    """Who gets no mail: addresses that bounced or complained, and topics that somebody does not want."""


@suppressed.command("ls")
@click.option("--json", is_flag=True, allow_from_autoenv=False, help="Print JSON, one object a line.")
def list_all(json: bool) -> None:
    """Show the list: first who gets no mail at all, then who gets none of a topic."""
    found = asyncio.run(_all())
    if json:
        echo_lines(found)
    elif not found:
        click.echo("nobody is on the list")
    else:
        rows = ((w.address or w.hash, w.reason, w.topic, w.source, f"{w.at:%Y-%m-%d}", w.detail) for w in found)
        echo_rows(("ADDRESS OR HASH", "REASON", "TOPIC", "SOURCE", "SINCE", "DETAIL"), rows)


@suppressed.command()
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@_topic
@click.option(
    "--reason",
    type=click.Choice(_REASONS),
    default="manual",
    show_default=True,
    allow_from_autoenv=False,
    help="Why the address is suppressed.",
)
def add(addresses: tuple[str, ...], topic: str | None, reason: Reason) -> None:
    """Put addresses on the list. One that is on it stays there as it is."""
    why = Suppressed(reason, "command line", datetime.now(UTC), topic)
    rows = [_row(address, why, f"address {place}") for place, address in enumerate(addresses, 1)]
    added = asyncio.run(_each(rows, lambda list, row: list.add_hash(row.hash, row.why)))
    click.echo(f"{sum(added)} added, {len(added) - sum(added)} were on the list")


@suppressed.command("rm")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@_topic
def remove(addresses: tuple[str, ...], topic: str | None) -> None:
    """Take addresses, or the hashes of some, off the list."""
    why = Suppressed("manual", "", datetime.now(UTC), topic)
    rows = [_row(address, why, f"address {place}") for place, address in enumerate(addresses, 1)]
    gone = asyncio.run(_each(rows, lambda list, row: list.remove(row.hash, row.why.topic)))
    click.echo(f"{sum(gone)} taken off, {len(gone) - sum(gone)} were not on the list")


@suppressed.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
def import_file(file: TextIO) -> None:
    """Put on the list what stands in FILE, `-` for what is piped in.

    It is CSV with a line of names at its top: `address` (or `hash`), and as it likes `reason`, `topic`, `source`, `at`
    and `detail`, as `export` writes it. A file of addresses alone, one a line, is one too. Nothing is added if a line
    cannot be read.
    """
    rows = list(_rows(file))
    added = asyncio.run(_each(rows, lambda list, row: list.add_hash(row.hash, row.why)))
    click.echo(f"{sum(added)} added, {len(added) - sum(added)} were on the list")


@suppressed.command()
def export() -> None:
    """Print the list as CSV, which `import` reads. An address that is not kept is its hash."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for why in asyncio.run(_all()):
        lines.writerow((why.address or why.hash, why.reason, why.topic, why.source, why.at.isoformat(), why.detail))
    click.echo(written.getvalue(), nl=False)


async def _all() -> list[Suppressed]:
    return [why async for why in Suppression().each()]


async def _each(rows: list[_Row], change: Callable[[Suppression, _Row], Coroutine[Any, Any, bool]]) -> list[bool]:
    suppression = Suppression()
    changed: list[bool] = []
    for start in range(0, len(rows), _AT_ONCE):
        changed += await asyncio.gather(*(change(suppression, row) for row in rows[start : start + _AT_ONCE]))
    return changed


def _row(text: str, why: Suppressed, place: str) -> _Row:
    """Return the row of an address or hash. Raises JetqError, naming `place`."""
    text = text.strip()
    if _HASH.fullmatch(text):
        return _Row(text, why)
    address = parse_mailbox(text, place).address
    kept = address.lower() if current().addresses == "clear" else None
    return _Row(address_hash(address), msgspec.structs.replace(why, address=kept))


def _rows(file: TextIO) -> Iterator[_Row]:
    """Yield the rows of a file. Raises JetqError, naming the line."""
    try:
        lines = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise JetqError(f"the file cannot be read: {error}", hint="it has to be CSV in UTF-8") from None
    if not lines:
        return
    names = [name.strip().lower() for name in lines[0]]
    has_names = "address" in names or "hash" in names
    if not has_names:
        names = ["address"]
    for number, line in enumerate(lines, 1):
        if any(cell.strip() for cell in line) and not (has_names and number == 1):
            yield _read(dict(zip(names, (cell.strip() for cell in line), strict=False)), f"line {number}")


def _read(cells: dict[str, str], place: str) -> _Row:
    now = datetime.now(UTC)
    values: dict[str, object] = {"reason": "manual", "source": "import", "at": now}
    values |= {name: cells[name] for name in ("reason", "topic", "source", "at", "detail") if cells.get(name)}
    try:
        why = msgspec.convert(values, Suppressed)
    except msgspec.ValidationError as error:
        raise JetqError(f"{place}: {error}", hint="see jetq email suppressed import --help") from None
    return _row(cells.get("address") or cells.get("hash") or "", why, place)
