"""Signs requests as Amazon demands: version 4, for a POST without a query.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from urllib.parse import urlsplit

from msgspec import Struct

from jetq_email.secret import Secret

__all__ = ["Credentials", "signed"]

_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(Struct, frozen=True):
    """The access key that signs, and the region and service that it signs for. session_token: that of a temporary key,
    which is valid for some hours."""

    key_id: str
    secret_key: Secret
    session_token: Secret | None
    region: str
    service: str


def signed(
    credentials: Credentials, url: str, headers: Mapping[str, str], content: bytes, when: datetime
) -> dict[str, str]:
    """Return `headers` with the headers that sign the request, all with names in lower case.

    when: in UTC. Amazon accepts the signature for five minutes.
    """
    parts = urlsplit(url)
    instant = when.strftime("%Y%m%dT%H%M%SZ")
    lent = credentials.session_token
    all_headers = {
        **{name.lower(): value for name, value in headers.items()},
        "host": parts.netloc,
        "x-amz-date": instant,
        **({} if lent is None else {"x-amz-security-token": lent.reveal()}),
    }
    names = sorted(all_headers)
    asked = "\n".join(
        (
            "POST",
            parts.path or "/",
            "",  # the query
            *(f"{name}:{' '.join(all_headers[name].split())}" for name in names),
            "",
            ";".join(names),
            sha256(content).hexdigest(),
        )
    )
    scope = f"{instant[:8]}/{credentials.region}/{credentials.service}/aws4_request"
    text = "\n".join((_ALGORITHM, instant, scope, sha256(asked.encode()).hexdigest()))
    signature = _hmac(_key(credentials, instant[:8]), text).hex()
    authorization = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return {**all_headers, "authorization": authorization}


def _key(credentials: Credentials, day: str) -> bytes:
    key = b"AWS4" + credentials.secret_key.reveal().encode()
    for step in (day, credentials.region, credentials.service, "aws4_request"):
        key = _hmac(key, step)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
