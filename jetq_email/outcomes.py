"""What became of a mail that was handed over: who has it, and who was refused."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

__all__ = ["Refusal", "Sent"]

_WANTS_LOGIN = (530, 534, 538)
"""RFC 4954 6, and 3.1 of RFC 3207, which wants STARTTLS first."""


_TOLD = 5


class Refusal(Struct, frozen=True):
    """One recipient a server would not take, and its reply. A 4xx may pass later. A 5xx will not, unless it says that
    the worker has to log in, which is no fault of the mail.

    told: what a line of a log may say in place of a reply that may repeat addresses and content. unknown: no reply
    came, and it may have the mail.
    """

    recipient: str
    code: int
    reply: str
    told: str | None = None
    unknown: bool = False

    @property
    def permanent(self) -> bool:
        """Whether the server says that trying again is no use."""
        return self.code >= 500 and not self.of_account

    @property
    def of_account(self) -> bool:
        """Whether it says nothing of the mail: the login, the key or the account is not in order."""
        return self.code in _WANTS_LOGIN

    @property
    def shown(self) -> str:
        """What a line of a log may say of it."""
        return f"{self.code} {self.reply if self.told is None else self.told}".rstrip()


class Sent(Struct, frozen=True):
    """What became of one envelope: who has the mail, and who was refused. reference: a provider's own id of it.
    via: the route that it went, if there are several."""

    delivered: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()
    reference: str | None = None
    via: str | None = None

    @property
    def reason(self) -> str:
        """What a log may say of those refused: `2 of 3 recipients were refused: 550 5.1.1 (no such mailbox) twice`.
        Not who: the job's arguments name them."""
        count, total = len(self.refused), len(self.refused) + len(self.delivered)
        who = "the recipient was" if total == 1 else f"{count} of {total} recipients {'was' if count == 1 else 'were'}"
        replies = Counter(each.shown for each in self.refused).most_common()
        told = [reply + _times(count) for reply, count in replies[:_TOLD]]
        more = ["others"] if len(replies) > _TOLD else []
        return f"{who} refused: {', '.join([*told, *more])}"


def _times(count: int) -> str:
    return "" if count == 1 else " twice" if count == 2 else f" {count} times"
