"""Amazon's signature, held against the examples of its published test suite."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jetq_email.providers.sigv4 import Credentials, signed
from jetq_email.secret import Secret

WHEN = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
URL = "https://example.amazonaws.com/"
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx"
    "7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q"
    "6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = "application/x-www-form-urlencoded"


def lent(token: Secret | None = None) -> Credentials:
    return Credentials("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), token, "us-east-1", "service")


@pytest.mark.parametrize(
    ("headers", "content", "token", "names", "signature"),
    [
        ({}, b"", None, "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            {"My-Header1": "VALUE1"},
            b"",
            None,
            "host;my-header1;x-amz-date",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            {},
            b"",
            Secret(TOKEN),
            "host;x-amz-date;x-amz-security-token",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
        (
            {"Content-Type": FORM},
            b"Param1=value1",
            None,
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            {"Content-Type": f"{FORM}; charset=utf8"},
            b"Param1=value1",
            None,
            "content-type;host;x-amz-date",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ],
    ids=["post-vanilla", "post-header-value-case", "post-sts-header-before", "post-form", "post-form-parameters"],
)
def test_the_published_examples(
    headers: dict[str, str], content: bytes, token: Secret | None, names: str, signature: str
) -> None:
    made = signed(lent(token), URL, headers, content, WHEN)
    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    assert made["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    )
    assert made.get("x-amz-security-token") == (TOKEN if token else None)


def test_blanks_in_a_header_are_signed_as_one() -> None:
    assert (
        signed(lent(), URL, {"a": "b   c "}, b"", WHEN)["authorization"]
        == signed(lent(), URL, {"a": " b c"}, b"", WHEN)["authorization"]
    )
