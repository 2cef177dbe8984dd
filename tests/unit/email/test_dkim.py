"""Signatures of mails: the examples of the RFCs, any mail before another implementation, and the keys of a worker."""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from jetq import SettingsError
from jetq_email import dkim_keys
from jetq_email.dkim import Signer, relaxed_body, relaxed_header
from jetq_email.dkim_keys import signer_for
from jetq_email.message import Email, Part, compose
from jetq_email.settings import parse
from jetq_email.tasks import jetq_ready
from tests.apps.dkim_keys import DOMAIN, SELECTORS, pem, verifies
from tests.unit.properties.examples import examples

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@lru_cache
def signer(**more: str) -> Signer:
    values = {"domain": DOMAIN, "selector": SELECTORS, "key": pem()} | more
    made = signer_for(parse({f"JETQ_EMAIL_DKIM_{name.upper()}": value for name, value in values.items()}))
    assert made is not None
    return made


def mail(
    subject: str = "Hello", text: str = "Hi  there\n", *parts: Part, html: str | None = None, **headers: str
) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    email = Email(to=["ann@example.com"], subject=subject, text=text, html=html, sender=f"s@{DOMAIN}", headers=named)
    return compose(email, parts, job_id="j1", date=WHEN).message


# --- the form that is signed


def test_headers_and_body_of_the_rfc_have_its_relaxed_form() -> None:
    """RFC 6376 3.4.5."""
    assert relaxed_header(b"A: X") == b"a:X"
    assert relaxed_header(b"B : Y\t\r\n\tZ  ") == b"b:Y Z"
    assert relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \t", b" \r\n\t\r\n "])
def test_a_body_without_text_is_empty(body: bytes) -> None:
    assert relaxed_body(body) == b""
    # RFC 6376 3.4.4
    assert b64encode(sha256(relaxed_body(body)).digest()) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize("body", [b"x", b"x \t", b"x\r\n", b"x\r\n\r\n", b"x  \r\n \r\n\t\r\n"])
def test_a_body_ends_in_one_line_end(body: bytes) -> None:
    assert relaxed_body(body) == b"x\r\n"


@given(st.lists(st.text(" \tab\r\n\x0b\x0c\xa0").map(str.encode)).map(b"\r\n".join))
@examples(300)
def test_any_body_has_the_form_that_others_give_it(body: bytes) -> None:
    assert relaxed_body(body + b"\r\n") == Relaxed.canonicalize_body(body + b"\r\n")


@given(st.text(" \tab:\xa0"))
@examples(300)
def test_any_header_has_the_form_that_others_give_it(value: str) -> None:
    ((name, text),) = Relaxed.canonicalize_headers([(b"X-Y ", f"{value}.".encode())])
    assert relaxed_header(b"X-Y :" + f"{value}.".encode()) + b"\r\n" == name + b":" + text


@pytest.mark.parametrize("piece", [b" ", b"\t \r", b"\r\n", b" \r\n", b" x", b"\r\n\r"])
def test_no_body_takes_long(piece: bytes) -> None:
    """In time that grew as the square each were an hour, and a test has a minute."""
    relaxed_body(piece * 1_000_000 + b"x")
    relaxed_header(b"X:" + piece * 1_000_000 + b"x")


SIGNED_MAIL = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def test_the_mail_of_the_rfc_has_its_signature() -> None:
    """RFC 8463 A.2 and A.3."""
    head, _, body = SIGNED_MAIL.partition(b"\r\n\r\n")
    own, *fields = re.split(rb"\r\n(?! )", head)
    assert b64encode(sha256(relaxed_body(body)).digest()) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    key = Ed25519PrivateKey.from_private_bytes(b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    as_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (ours,) = signer(domain="football.example.com", selector="brisbane", key=as_pem).keys
    data = b"".join(relaxed_header(field) + b"\r\n" for field in fields) + relaxed_header(own)
    assert (ours.algorithm, b64encode(ours.sign(data)).decode()) == (
        "ed25519-sha256",
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==",
    )


# --- mails


_line = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=120)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_headers = st.fixed_dictionaries(
    {}, optional={"X_Note": _line, "List_Unsubscribe": st.just("<https://example.org/u?" + "a" * 90 + ">")}
)


@given(_line, _text, st.none() | _text, st.lists(st.binary(max_size=200), max_size=2), _headers)
@examples(200)
def test_any_mail_is_signed_as_others_check_it(
    subject: str, text: str, html: str | None, files: list[bytes], headers: dict[str, str]
) -> None:
    """Guarantee: the signatures of a mail, by RSA and by Ed25519, are good for who receives it."""
    parts = [Part(f"{number}.bin", content) for number, content in enumerate(files)]
    message = mail(subject, text, *parts, html=html, **headers)
    signed = signer().sign(message)
    assert signed.endswith(message)
    assert verifies(signed) == [True, True]


def test_a_header_that_is_there_twice_is_signed_twice() -> None:
    message = mail().replace(b"Date:", b"List-Id: <a.x>\r\nTo: bob@example.com\r\nList-Id: <b.x>\r\nDate:")
    signed = signer().sign(message)
    assert verifies(signed) == [True, True]
    assert verifies(signed.replace(b"<a.x>", b"<c.x>")) == verifies(signed.replace(b"bob@", b"eve@")) == [False, False]


_TOP = b"DKIM-Signature: v=1; a=rsa"


def _signed() -> bytes:
    return signer().sign(mail(List_Unsubscribe="<https://example.org/u>", X_Note="a"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hi  there", b"Hi there"),
        (b"Subject: Hello\r\n", b"subject:  Hello \r\n"),
        (b"To: ann", b"To:\r\n\tann"),
        (b"X-Note: a", b"X-Note: b"),
        (b"Subject:", b"Received: by mx.example.com\r\nSubject:"),
        (b"there\r\n", b"there \r\n\r\n\r\n"),
    ],
    ids=["blanks", "case", "folding", "not-signed", "received", "end"],
)
def test_what_servers_do_on_the_way_keeps_it_good(old: bytes, new: bytes) -> None:
    assert _signed().count(old) == 1
    assert verifies(_signed().replace(old, new)) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hi  there", b"Hi here"),
        (b"Hi  there", b"Hi  there\r\nmore"),
        (b"Hi  there", b"\r\nHi  there"),
        (b"Subject: Hello", b"Subject: Hell"),
        (b"To: ann", b"To: bob"),
        (b"<https://example.org/u>", b"<https://evil.example/u>"),
        (b"2026 03:04:05", b"2026 03:04:06"),
        (b"Message-ID: <j1", b"Message-ID: <j2"),
        (b"Content-Type: text/plain", b"Content-Type: text/html"),
        *((b"Message-ID:", name + b": x\r\nMessage-ID:") for name in (b"From", b"To", b"Subject", b"Date", b"Cc")),
        *((b"Message-ID:", name + b": x\r\nMessage-ID:") for name in (b"Reply-To", b"Content-Type")),
        *((_TOP, name + b": x\r\n" + _TOP) for name in (b"From", b"To", b"Subject", b"Date", b"Cc", b"Content-Type")),
    ],
)
def test_a_mail_that_was_altered_has_no_good_signature(old: bytes, new: bytes) -> None:
    """Guarantee: nothing that is shown of a signed mail can be changed or added."""
    assert _signed().count(old) == 1
    assert verifies(_signed().replace(old, new)) == [False, False]


def test_a_signature_is_folded_and_of_the_mails_own_time() -> None:
    head = _signed().partition(b"From:")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert head.count(f"t={WHEN.timestamp():.0f};".encode()) == 2
    assert not re.search(rb"[; ]l=", head)  # a part of the body that is signed: one could write below it
    assert _signed() == _signed()  # so are all attempts of a job


# --- keys


def _pem(key: object, encryption: KeySerializationEncryption | None = None) -> str:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())  # type: ignore[attr-defined]
    return made.decode()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (_pem(generate_private_key(65537, 2048), BestAvailableEncryption(b"canary")), "is encrypted"),
        (_pem(generate_ec_key(SECP256R1())), "neither an RSA key nor one of Ed25519"),
        ("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----", "'one' .* cannot be read"),
        ("canary", "has 0 private keys"),
        (pem(), "has 2 private keys"),
    ],
    ids=["encrypted", "other", "broken", "none", "two"],
)
def test_a_key_that_cannot_sign_is_refused_in_words(key: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        signer(selector="one", key=key)
    assert "canary" not in f"{caught.value!r} {caught.value.hint}"


def test_a_key_that_is_too_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkim_keys, "_LEAST_BITS", 2049)  # cryptography makes none below 1024
    with pytest.raises(SettingsError, match="'rsa2026' in JETQ_EMAIL_DKIM_KEY has 2048 bits, and receivers take 2049"):
        signer.__wrapped__()


def test_a_key_is_read_from_a_file_or_a_variable_of_one_line(tmp_path: Path) -> None:
    file = tmp_path / "dkim.pem"
    file.write_text(pem())
    read = signer_for(
        parse(
            {
                "JETQ_EMAIL_DKIM_DOMAIN": DOMAIN,
                "JETQ_EMAIL_DKIM_SELECTOR": "rsa2026, ed2026",
                "JETQ_EMAIL_DKIM_KEY_FILE": str(file),
            }
        )
    )
    assert read is not None
    message = mail()
    assert read.sign(message) == signer(key=pem().replace("\n", "\\n")).sign(message) == signer().sign(message)


def test_a_worker_without_its_key_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a worker that is told to sign sends nothing unsigned."""
    monkeypatch.setenv("JETQ_EMAIL_HOST", "mail.example.org")
    jetq_ready()
    monkeypatch.setenv("JETQ_EMAIL_DKIM_DOMAIN", DOMAIN)
    monkeypatch.setenv("JETQ_EMAIL_DKIM_SELECTOR", SELECTORS)
    monkeypatch.setenv("JETQ_EMAIL_DKIM_KEY_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(SettingsError, match=r"gone\.pem .* cannot be read: No such file"):
        jetq_ready()
    (tmp_path / "gone.pem").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not a text"):
        jetq_ready()
    (tmp_path / "gone.pem").write_text(pem())
    jetq_ready()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(SettingsError, match="needs the package cryptography") as caught:
        signer.__wrapped__()
    assert caught.value.hint is not None and "jetq-nats[email,crypto]" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"domain": "example.org"}, "signing mails takes"),
        ({"selector": "a", "key": "k"}, "signing mails takes"),
        ({"domain": "example.org", "selector": "a"}, "signing mails takes"),
        ({"domain": "example.org", "selector": "a", "key": "canary", "key_file": "f"}, "signing mails takes"),
        ({"domain": "exämple.org", "selector": "a", "key": "canary"}, "DKIM_DOMAIN: 'exämple.org' is not"),
        ({"domain": "a.org; l=0", "selector": "a", "key": "canary"}, "DKIM_DOMAIN"),
        ({"domain": "example.org", "selector": "a,,b", "key": "canary"}, "DKIM_SELECTOR: ''"),
    ],
)
def test_settings_of_a_signature_go_together(values: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse({f"JETQ_EMAIL_DKIM_{name.upper()}": value for name, value in values.items()})
    assert "canary" not in str(caught.value)
