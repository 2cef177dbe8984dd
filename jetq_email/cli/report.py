"""`jetq email report`: takes a delivery report or a complaint from a mail server's pipe."""

from __future__ import annotations

import sys

import click

from jetq import BrokerError
from jetq_email.feedback.reports import LONGEST
from jetq_email.tasks import take_report

__all__ = ["report"]

_TEMPORARY = 75
"""EX_TEMPFAIL of sysexits.h, which Python's `os` has on Unix only."""


@click.command()
def report() -> None:
    """Take a delivery report or complaint from standard input, as an alias of a mail server has it.

    It is stored as a job. If it cannot be stored the exit code is 75, by which a mail server tries again.
    """
    stream = sys.stdin.buffer
    raw = stream.read(LONGEST)
    while stream.read(LONGEST):  # read to the end: to a mail server, a pipe that closes early is a failure
        pass
    try:
        take_report.delay(raw)
    except BrokerError as error:
        click.echo(f"error: {error}", err=True)
        click.get_current_context().exit(_TEMPORARY)
