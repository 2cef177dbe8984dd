"""The errors of mails that are not sent: never (`Unsendable`), or not this time (`TransportError`)."""

from __future__ import annotations

from jetq import JetqError

__all__ = ["AtRate", "OutcomeUnknown", "ServerBusy", "Throttled", "TransportError", "Unsendable"]


class Unsendable(JetqError):
    """This mail can never be sent as it is, for example because of a bad address, header, attachment or template. A
    retry would fail too."""


class TransportError(JetqError):
    """The mail was not handed over this time, or perhaps not: no connection, a refused login, a busy server."""


class ServerBusy(TransportError):
    """The server takes no connection now, for example because it has as many as it takes. Nobody has the mail. after:
    seconds until it takes one again; None if that is not known."""

    def __init__(self, message: str, *, after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class OutcomeUnknown(TransportError):
    """The mail was handed over, and no answer came, so it may have arrived. A repeat of the mail has the same
    Message-ID. via: the route that may have the mail, if there are several routes."""

    via: str | None = None


class Throttled(TransportError):
    """A provider wants fewer mails. Nobody has this mail. after: seconds until the provider takes mails again; None if
    it does not say."""

    def __init__(self, message: str, *, after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class AtRate(Throttled):
    """A provider or server has got as many mails as the settings allow. Nobody has this mail."""
