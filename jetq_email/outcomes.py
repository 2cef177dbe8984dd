"""The outcome of a mail that was handed over: who has the mail, and who was refused."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

__all__ = ["Refusal", "Sent"]

_WANTS_LOGIN = (530, 534, 538)
"""Codes with which a server asks for a login (RFC 4954 6) or for STARTTLS first (RFC 3207 3.1)."""


_TOLD = 5


class Refusal(Struct, frozen=True):
    """One recipient that a server refused, and its reply. A 4xx may pass later. A 5xx will not, unless it says that the
    worker has to log in, which is no fault of the mail.

    told: what a log line may say in place of a reply that may repeat addresses and content. unknown: no reply came, and
    the recipient may have the mail.
    """

    recipient: str
    code: int
    reply: str
    told: str | None = None
    unknown: bool = False

    @property
    def permanent(self) -> bool:
        """Whether the server says that another try would be refused too."""
        return self.code >= 500 and not self.of_account

    @property
    def of_account(self) -> bool:
        """Whether the reply is not about the mail, but about the login, the key or the account."""
        return self.code in _WANTS_LOGIN

    @property
    def shown(self) -> str:
        """What a log line may say about the refusal."""
        return f"{self.code} {self.reply if self.told is None else self.told}".rstrip()


class Sent(Struct, frozen=True):
    """The outcome of one envelope: who has the mail, and who was refused. reference: the provider's own id of the mail.
    via: the route that the mail went, if there are several."""

    delivered: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()
    reference: str | None = None
    via: str | None = None

    @property
    def reason(self) -> str:
        """What a log may say about the refusals: `2 of 3 recipients were refused: 550 5.1.1 (no such mailbox) twice`.
        It does not name the recipients, because the job's arguments do."""
        count, total = len(self.refused), len(self.refused) + len(self.delivered)
        who = "the recipient was" if total == 1 else f"{count} of {total} recipients {'was' if count == 1 else 'were'}"
        replies = Counter(each.shown for each in self.refused).most_common()
        told = [reply + _times(count) for reply, count in replies[:_TOLD]]
        more = ["others"] if len(replies) > _TOLD else []
        return f"{who} refused: {', '.join([*told, *more])}"


def _times(count: int) -> str:
    return "" if count == 1 else " twice" if count == 2 else f" {count} times"
