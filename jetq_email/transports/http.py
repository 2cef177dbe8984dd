"""Mails handed to a provider over HTTP: one client with its connections, whatever the provider is."""

from __future__ import annotations

import httpx2

from jetq_email.errors import OutcomeUnknown, Throttled, TransportError
from jetq_email.message import Envelope
from jetq_email.providers.exchange import Answer, Provider, Refused, Request, Response, Slower, Unavailable
from jetq_email.settings import Settings
from jetq_email.transports.outcomes import Refusal, Sent

__all__ = ["HttpTransport"]

_LONGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read."""

_NOT_BEGUN = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
)
"""What is raised before any byte of a request has gone out."""

_REFUSED, _WANTS_ACCOUNT = 554, 530
"""The codes of refusals that no server of SMTP has said: of the mail, and of the account, which is no fault of it."""


class HttpTransport:
    """Hands mails to one provider, over as many connections as the settings say."""

    def __init__(self, provider: Provider, settings: Settings) -> None:
        self._provider = provider
        self._client = httpx2.AsyncClient(
            timeout=settings.timeout,
            limits=httpx2.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
                keepalive_expiry=15,
            ),
            follow_redirects=False,
            headers={"user-agent": "jetq_email"},
        )

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. A connection lost after the request was sent leaves the outcome unknown: that is an
        OutcomeUnknown, and the retry carries the same key, if the provider has one."""
        request = self._provider.build(envelope)
        answer = self._provider.read(await self._exchange(request), envelope)
        return self._settled(answer, envelope)

    async def close(self) -> None:
        """Close the connections. Never raises."""
        await self._client.aclose()

    async def _exchange(self, request: Request) -> Response:
        name = self._provider.name
        try:
            async with self._client.stream(
                "POST", request.url, headers=dict(request.headers), content=request.content
            ) as response:
                return Response(response.status_code, dict(response.headers), await _body(response))
        except _NOT_BEGUN as error:
            raise TransportError(
                f"no connection to {name}: {str(error) or type(error).__name__}", hint="the mail is tried again"
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise OutcomeUnknown(
                f"the connection to {name} was lost before its answer: {type(error).__name__}",
                hint="the mail is tried again under the same Message-ID",
            ) from error

    def _settled(self, answer: Answer, envelope: Envelope) -> Sent:
        """`answer`, if it says who has the mail; raised else."""
        name = self._provider.name
        match answer:
            case Sent():
                return answer
            case Refused(reason, permanent):
                code = _REFUSED if permanent else _WANTS_ACCOUNT
                return Sent((), tuple(Refusal(each, code, f"{name}: {reason}") for each in envelope.recipients))
            case Slower(reason, after):
                raise Throttled(f"{name} wants fewer mails: {reason}", after=after)
            case Unavailable(reason):
                raise TransportError(f"{name} failed: {reason}", hint="the mail is tried again")
            case _:
                raise OutcomeUnknown(f"{name} gave an answer that nobody can read: {answer.reason}")


async def _body(response: httpx2.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > _LONGEST_ANSWER:
            break
    return bytes(content)
