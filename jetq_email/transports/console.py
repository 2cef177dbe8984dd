"""Prints mails to standard output, for development."""

from __future__ import annotations

import email
import email.policy
import sys

from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["ConsoleTransport"]


class ConsoleTransport:
    """Prints the recipients, the headers and the text of each mail, not the bytes that would travel."""

    async def send(self, envelope: Envelope) -> Sent:
        """Print `envelope`."""
        message = email.message_from_bytes(envelope.message, policy=email.policy.default)
        lines = [f"{name}: {value}" for name, value in message.items() if name in ("From", "To", "Cc", "Subject")]
        body = message.get_body(("plain",))
        attachments = [part.get_filename("?") for part in message.iter_attachments()]
        lines += ["", body.get_content().rstrip() if body is not None else ""]
        lines += [f"[attached: {', '.join(attachments)}]"] if attachments else []
        rule = "-" * 72
        sys.stdout.write(f"{rule}\nmail to {', '.join(envelope.recipients)}\n" + "\n".join(lines) + f"\n{rule}\n")
        sys.stdout.flush()
        return Sent(envelope.recipients)

    async def close(self) -> None:
        """Do nothing: standard output stays open."""
