"""Hands mails to a provider over HTTP, whatever the provider."""

from __future__ import annotations

import httpx2

from jetq_email.errors import OutcomeUnknown, Throttled, TransportError
from jetq_email.message import Envelope
from jetq_email.outcomes import Refusal, Sent
from jetq_email.providers.exchange import Answer, Provider, Refused, Request, Response, Slower, Unavailable
from jetq_email.providers.recipients import in_ascii, in_requests
from jetq_email.settings import Settings
from jetq_email.transports.http.clients import Clients

__all__ = ["HttpTransport"]

_LONGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read at most."""

_NOT_BEGUN = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
)
"""Errors that are raised before any byte of a request has been sent."""

_NO_REQUEST = (httpx2.LocalProtocolError, httpx2.InvalidURL, UnicodeEncodeError)
"""Errors for an impossible URL or header. Their texts may hold the key."""

_UNKNOWN, _REFUSED, _WANTS_ACCOUNT, _NOT_ASCII = 451, 554, 530, 553
"""Codes of refusals that no SMTP server has sent, in this order: it is unknown who has the mail, the mail is refused,
the account is at fault and not the mail, the address is not ASCII."""

_WANTS_ASCII = "no provider takes international addresses (SMTPUTF8)"


class HttpTransport:
    """Hands mails to one provider, over as many connections as the settings say."""

    def __init__(self, provider: Provider, settings: Settings) -> None:
        self._provider = provider
        self._clients = Clients(settings)

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. If a connection is lost after the request was sent, the outcome is unknown:
        OutcomeUnknown is raised, and the retry has the same key, if the provider has keys.

        A mail may have more recipients than the provider takes at once. If a later request fails then, its recipients
        and those after it are refused for now. A recipient whose address no provider takes is refused alone.
        """
        possible, impossible = in_ascii(envelope)
        delivered: list[str] = []
        refused: list[Refusal] = []
        references: list[str] = []
        for part in in_requests(self._provider, possible):
            try:
                done = await self._hand_over(part)
            except TransportError as error:
                if not delivered:
                    raise
                done_with = {*delivered, *(refusal.recipient for refusal in refused)}
                left = [each for each in possible.recipients if each not in done_with]
                unknown = part.recipients if isinstance(error, OutcomeUnknown) else ()
                refused += [Refusal(each, _UNKNOWN, error.message, unknown=each in unknown) for each in left]
                break
            delivered += done.delivered
            refused += done.refused
            references += [done.reference] if done.reference else []
        refused += [Refusal(each, _NOT_ASCII, _WANTS_ASCII) for each in impossible]
        return Sent(tuple(delivered), tuple(refused), references[0] if references else None)

    async def close(self) -> None:
        """Close the connections. Never raises."""
        await self._clients.close()

    async def _hand_over(self, envelope: Envelope) -> Sent:
        """Send one request for `envelope`, and return who has the mail and who was refused.

        Raises TransportError and Unsendable.
        """
        request = self._provider.build(envelope)
        return self._settled(self._provider.read(await self._exchange(request), envelope), envelope)

    async def _exchange(self, request: Request) -> Response:
        name = self._provider.name
        try:
            async with (
                self._clients.one() as client,
                client.stream("POST", request.url, headers=dict(request.headers), content=request.content) as response,
            ):
                return Response(response.status_code, dict(response.headers), await _body(response))
        except _NO_REQUEST as error:
            raise TransportError(
                f"no request to {name} can be made: {type(error).__name__}",
                hint=f"see whether JETQ_EMAIL_{name.upper()}_* have a key or a URL with a blank or a line break in it",
            ) from None
        except _NOT_BEGUN as error:
            raise TransportError(
                f"no connection to {name}: {str(error) or type(error).__name__}", hint="the mail is tried again"
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise OutcomeUnknown(
                f"the connection to {name} was lost before its answer: {type(error).__name__}", hint=self._repeat()
            ) from error

    def _settled(self, answer: Answer, envelope: Envelope) -> Sent:
        """Return `answer` if it says who has the mail; otherwise raise its error."""
        name = self._provider.name
        match answer:
            case Sent():
                return answer
            case Refused(reason, permanent, said):
                code, told = _REFUSED if permanent else _WANTS_ACCOUNT, f"{name}: {reason}"
                reply = f"{told} {said}".rstrip()
                return Sent((), tuple(Refusal(each, code, reply, told) for each in envelope.recipients))
            case Slower(reason, after):
                raise Throttled(f"{name} wants fewer mails: {reason}", after=after)
            case Unavailable(reason):
                raise TransportError(f"{name} failed: {reason}", hint="the mail is tried again")
            case _:
                raise OutcomeUnknown(
                    f"{name} gave an answer that nobody can read: {answer.reason}", hint=self._repeat()
                )

    def _repeat(self) -> str:
        if self._provider.repeats:
            return "the mail is tried again, and may arrive twice"
        return "the mail is tried again under the same key, by which the provider can tell"


async def _body(response: httpx2.Response) -> bytes:
    content = bytearray()
    # Not decompressed: no compressed answer was asked for, and decompressed it could have any size.
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > _LONGEST_ANSWER:
            break
    return bytes(content)
