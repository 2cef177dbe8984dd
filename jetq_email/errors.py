"""The ways a mail does not go out: never (`Unsendable`), or not this time (`TransportError`)."""

from __future__ import annotations

from jetq import JetqError

__all__ = ["AtRate", "OutcomeUnknown", "ServerBusy", "Throttled", "TransportError", "Unsendable"]


class Unsendable(JetqError):
    """This mail can never be sent as it is: a bad address, header, attachment or template. Retrying is no use."""


class TransportError(JetqError):
    """The mail was not (surely) handed over this time: no connection, a refused login, a server busy or gone."""


class ServerBusy(TransportError):
    """The server takes no connection just now, as one that has as many as it takes. Nobody has the mail. after: seconds
    until one is taken again, if that is known."""

    def __init__(self, message: str, *, after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class OutcomeUnknown(TransportError):
    """The mail was handed over, and no answer came: it may have arrived. A repeat of it has the same Message-ID. via:
    the route that may have it, if there are several."""

    via: str | None = None


class Throttled(TransportError):
    """A provider wants fewer mails, in `after` seconds again, if it says so. Nobody has this one."""

    def __init__(self, message: str, *, after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class AtRate(Throttled):
    """A provider or server has got as many mails as the settings let it get. Nobody has this one."""
