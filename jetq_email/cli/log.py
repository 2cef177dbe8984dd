"""`jetq email log`: shows the outcome of each mail."""

from __future__ import annotations

import asyncio
from collections import deque

import click

from jetq_email.cli.tables import echo_lines, echo_rows
from jetq_email.mail_log import Entry, MailLog

__all__ = ["log"]


@click.command()
@click.argument("address", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    allow_from_autoenv=False,
    help="How many of the newest entries to show.",
)
@click.option("--json", is_flag=True, allow_from_autoenv=False, help="Print JSON, one object a line.")
def log(address: str | None, limit: int, json: bool) -> None:
    """Show what came of the mails, of all or of those to ADDRESS, oldest first.

    Workers keep the log for as long as JETQ_EMAIL_LOG_TTL says. ADDRESS may also be the hash that is shown.
    """
    entries = asyncio.run(_newest(address, limit))
    if json:
        echo_lines(entries)
    elif not entries:
        click.echo("there is no mail in the log")
    else:
        rows = ((f"{e.at:%Y-%m-%d %H:%M:%S}", e.outcome, e.address or e.hash, e.via, e.job, e.detail) for e in entries)
        echo_rows(("TIME (UTC)", "OUTCOME", "RECIPIENT", "BY", "JOB", "ANSWER"), rows)


async def _newest(address: str | None, limit: int) -> deque[Entry]:
    found: deque[Entry] = deque(maxlen=limit)
    async for entry in MailLog().each(address):
        found.append(entry)
    return found
