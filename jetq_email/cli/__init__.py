"""The commands that this plugin adds to the command line: `jetq email ...`.

No option here can be set by an environment variable, because a worker's settings have the prefix JETQ_EMAIL_.
"""

from __future__ import annotations

import click

from jetq_email.cli.log import log
from jetq_email.cli.preview import preview_command
from jetq_email.cli.report import report
from jetq_email.cli.suppressed import suppressed

__all__ = ["email"]


@click.group()
def email() -> None:
    """Mails: who gets none, what came of those that were sent, what comes back, and what a template makes."""


email.add_command(log)
email.add_command(preview_command)
email.add_command(report)
email.add_command(suppressed)
