"""Shows authors of templates the mail that a template makes, and the variables that it lacks."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.message import Email, compose
from jetq_email.plaintext import html_to_text
from jetq_email.templates.gaps import Gap
from jetq_email.templates.rendering import render, variables

__all__ = ["Preview", "lacks", "preview"]

_SENDER = "sender@example.com"
_RECIPIENT = "recipient@example.com"


class Preview(Struct, frozen=True):
    """A mail of the template `name`. size: its octets, as it travels.

    lacking: the variables that were used and not given, in the order of their use; the mail shows their names in
    brackets. unused: further variables that were not given and that other data may make the template use.
    """

    name: str
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str | None
    size: int
    lacking: tuple[str, ...]
    unused: tuple[str, ...]


def preview(name: str, context: Mapping[str, Any], directory: Path | None, sender: str | None) -> Preview:
    """Return the mail that the template `name` makes from `context`, also if variables are missing.

    Raises Unsendable as `render` does.
    """

    class Noted(Gap):
        found: ClassVar[dict[str, None]] = {}

    try:
        rendered = render(name, context, directory, undefined=Noted)
    except Unsendable:
        if Noted.found:
            raise lacks(name, Noted.found) from None
        raise
    text = html_to_text(rendered.html or "") if rendered.text is None else rendered.text
    mail = Email(
        to=[_RECIPIENT], subject=rendered.subject, text=rendered.text, html=rendered.html, sender=sender or _SENDER
    )
    message = compose(mail, job_id="preview", date=datetime.now(UTC).replace(microsecond=0)).message
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    unused = variables(name, directory) - set(context) - {path.partition(".")[0] for path in Noted.found}
    return Preview(
        name=name,
        headers=tuple((key, str(value)) for key, value in parsed.items()),
        text=text,
        html=rendered.html,
        size=len(message),
        lacking=tuple(Noted.found),
        unused=tuple(sorted(unused)),
    )


def lacks(name: str, lacking: Mapping[str, None] | tuple[str, ...]) -> Unsendable:
    """Return the error for a template that was not given all variables that it uses."""
    return Unsendable(
        f"template {name!r} lacks {', '.join(lacking)}", hint="give them as a JSON object in a file: --data FILE"
    )
