"""Sealed payloads open for what they were sealed for, by who has the key, and for nobody and nothing else."""

from __future__ import annotations

import base64
import pickle
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jetq import (
    BadPayload,
    DefinitionError,
    EncryptedPayloads,
    Jetq,
    PayloadCodec,
    PayloadContext,
    SignedPayloads,
)
from jetq.encoding.sealing import _key_of_nonce, key_of, opened, sealed

K1, K2 = b"1" * 32, b"2" * 32
CODECS = (SignedPayloads, EncryptedPayloads)
BODY = b'{"card":"canary-4711"}'
ARGUMENTS = PayloadContext("arguments", "tasks.pay", queue="billing")
RESULT = PayloadContext("result", "tasks.pay", id="id-1")
PLAN = PayloadContext("plan", workflow="weekly-48", life="0192abcdef")
MARK = PayloadContext("mark", life="0192abcdef", step="fetch", member=7)

both = pytest.mark.parametrize("codec", CODECS)


@both
@given(body=st.binary(max_size=300))
def test_what_was_sealed_opens(codec: type[SignedPayloads], body: bytes) -> None:
    seals = codec({"k1": K1})
    for context in (ARGUMENTS, RESULT, PLAN, MARK):
        assert seals.open(seals.seal(body, context), context) == body


@both
@given(body=st.binary(max_size=300))
def test_nothing_else_opens_whatever_it_is(codec: type[SignedPayloads], body: bytes) -> None:
    start = codec({"k1": K1}).seal(b"", ARGUMENTS)
    for hostile in (body, start[:4] + body, start[:8] + body, start + body):
        if hostile != start:
            with pytest.raises(BadPayload):
                codec({"k1": K1}).open(hostile, ARGUMENTS)


@both
@pytest.mark.parametrize("context", [ARGUMENTS, PLAN, MARK], ids=lambda context: context.purpose)
def test_every_changed_byte_is_noticed(codec: type[SignedPayloads], context: PayloadContext) -> None:
    seals = codec({"k1": K1})
    whole = seals.seal(BODY, context)
    for place in range(len(whole)):
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[place] ^= bit
            with pytest.raises(BadPayload):
                seals.open(bytes(changed), context)
        with pytest.raises(BadPayload):
            seals.open(whole[:place], context)


@both
@pytest.mark.parametrize(
    "elsewhere",
    [
        PayloadContext("arguments", "tasks.refund", queue="billing"),
        PayloadContext("arguments", "tasks.pay", queue="other"),
        PayloadContext("result", "tasks.pay", queue="billing"),
        PayloadContext("arguments", "tasks.pay", queue="billing", id="id-1"),
        RESULT,
    ],
)
def test_it_opens_only_where_it_belongs(codec: type[SignedPayloads], elsewhere: PayloadContext) -> None:
    seals = codec({"k1": K1})
    with pytest.raises(BadPayload, match="changed, or sealed for something else"):
        seals.open(seals.seal(BODY, ARGUMENTS), elsewhere)


@both
@pytest.mark.parametrize(
    ("one", "another"),
    [
        (PLAN, MARK),
        (PLAN, ARGUMENTS),
        (PLAN, RESULT),
        (MARK, ARGUMENTS),
        (MARK, RESULT),
        (PLAN, replace(PLAN, workflow="weekly-49")),
        (PLAN, replace(PLAN, life="0192abcdeg")),
        (PLAN, replace(PLAN, purpose="mark")),
        (MARK, replace(MARK, life="0192abcdeg")),
        (MARK, replace(MARK, step="parse")),
        (MARK, replace(MARK, member=8)),
        (MARK, replace(MARK, member=None)),
        (replace(MARK, member=0), replace(MARK, member=None)),
    ],
    ids=str,
)
def test_plans_and_marks_are_not_swapped(
    codec: type[SignedPayloads], one: PayloadContext, another: PayloadContext
) -> None:
    """Guarantee: what is sealed for one workflow, life, step or member opens for no other, and not as anything else."""
    seals = codec({"k1": K1})
    for sealed_for, opened_for in ((one, another), (another, one)):
        with pytest.raises(BadPayload, match="changed, or sealed for something else"):
            seals.open(seals.seal(BODY, sealed_for), opened_for)


def test_errors_name_the_plan_or_the_mark() -> None:
    for context, name in ((PLAN, "the plan of workflow weekly-48"), (MARK, "the mark of member 7 of step fetch")):
        with pytest.raises(BadPayload, match=name):
            opened(SignedPayloads({"k1": K1}), BODY, context)


def test_no_two_contexts_are_bound_alike() -> None:
    contexts = [
        PayloadContext(purpose, task, queue, id, workflow, life, step, member)
        for purpose in ("arguments", "result", "plan", "mark")
        for task in ("a", "ab")
        for queue in ("", "b", "bc")
        for id in ("", "c")
        for workflow in ("", "a")
        for life in ("", "a")
        for step in ("", "a", "0")
        for member in (None, 0)
    ]
    assert len({context.bound for context in contexts}) == len(contexts)


def test_what_is_stored_already_is_bound_as_before() -> None:
    """Guarantee: arguments and results that were sealed before there were workflows open."""
    assert ARGUMENTS.bound == b"arguments\0tasks.pay\0billing\0"
    assert RESULT.bound == b"result\0tasks.pay\0\0id-1"


@both
def test_another_key_of_that_name_does_not_open_it(codec: type[SignedPayloads]) -> None:
    with pytest.raises(BadPayload, match="another key named k1"):
        codec({"k1": K2}).open(codec({"k1": K1}).seal(BODY, ARGUMENTS), ARGUMENTS)


@both
def test_a_key_is_added_then_made_first_then_the_old_one_dropped(codec: type[SignedPayloads]) -> None:
    old, added = codec({"k1": K1}), codec({"k1": K1, "k2": K2})
    first, dropped = codec({"k2": K2, "k1": K1}), codec({"k2": K2})
    by_old, by_added = old.seal(BODY, ARGUMENTS), added.seal(BODY, ARGUMENTS)
    assert [key_of(body) for body in (by_old, by_added)] == ["k1", "k1"]
    by_new = first.seal(BODY, ARGUMENTS)
    assert key_of(by_new) == "k2"
    for codec_now, bodies in ((added, (by_old, by_new)), (first, (by_old, by_new)), (dropped, (by_new,))):
        for body in bodies:
            assert codec_now.open(body, ARGUMENTS) == BODY
    with pytest.raises(BadPayload, match="with key k1, and this app has k2") as refused:
        dropped.open(by_old, ARGUMENTS)
    assert "add that key" in str(refused.value.hint)


@both
def test_a_sealed_body_is_no_json_and_no_text(codec: type[SignedPayloads]) -> None:
    whole = codec({"k1": K1}).seal(BODY, ARGUMENTS)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(whole)
    with pytest.raises(UnicodeDecodeError):
        whole.decode()
    assert key_of(BODY) is key_of(b"") is key_of(whole[:6]) is None


def test_signing_leaves_the_text_readable_and_encryption_does_not() -> None:
    assert BODY in SignedPayloads({"k1": K1}).seal(BODY, ARGUMENTS)
    seals = EncryptedPayloads({"k1": K1})
    made = {seals.seal(BODY, ARGUMENTS) for _ in range(20)}
    assert len(made) == 20
    assert not any(b"canary" in each or b"card" in each for each in made)


@both
def test_plain_payloads_are_taken_only_when_that_is_said(codec: type[SignedPayloads]) -> None:
    with pytest.raises(BadPayload, match="this app takes nothing else") as refused:
        codec({"k1": K1}).open(BODY, ARGUMENTS)
    assert "accept_plain" in str(refused.value.hint)
    rolling_out = codec({"k1": K1}, accept_plain=True)
    assert rolling_out.open(BODY, ARGUMENTS) == BODY
    forged = bytearray(rolling_out.seal(BODY, ARGUMENTS))
    forged[-1] ^= 1
    for hostile in (bytes(forged), bytes(forged[:4])):
        with pytest.raises(BadPayload):
            rolling_out.open(hostile, ARGUMENTS)


def test_signed_is_not_encrypted() -> None:
    with pytest.raises(BadPayload, match=r"it is signed \(key k1\), and this app's codec opens what is encrypted"):
        EncryptedPayloads({"k1": K1}).open(SignedPayloads({"k1": K1}).seal(BODY, ARGUMENTS), ARGUMENTS)


@pytest.mark.parametrize(
    ("key", "extra", "ciphertext"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
)
def test_encryption_is_that_of_the_specification(key: bytes, extra: bytes, ciphertext: str) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    made = AESGCM(_key_of_nonce(key, nonce)).encrypt(nonce[12:], b"XAES-256-GCM", extra)
    assert made.hex() == ciphertext


@both
def test_keys_are_bytes_or_base64_text(codec: type[SignedPayloads]) -> None:
    text = base64.b64encode(K1).decode() + "\n"
    assert codec({"k1": K1}).open(codec({"k1": text}).seal(BODY, ARGUMENTS), ARGUMENTS) == BODY


@both
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"k1": b"short"},
        {"k1": "short"},
        {"k1": "!" * 44},
        {"": K1},
        {"a b": K1},
        {"k" * 33: K1},
        {"k1": 7},
        {1: K1},
    ],
)
def test_impossible_keys_are_refused_and_not_shown(codec: type[SignedPayloads], keys: Any) -> None:
    with pytest.raises(DefinitionError) as refused:
        codec(keys)
    assert "short" not in str(refused.value)


def test_an_aes_key_has_32_bytes() -> None:
    SignedPayloads({"k1": K1 * 2})
    with pytest.raises(DefinitionError, match="must have 32 bytes, not 64"):
        EncryptedPayloads({"k1": K1 * 2})


@both
def test_a_codec_does_not_show_its_keys_and_crosses_to_a_process(codec: type[SignedPayloads]) -> None:
    seals = codec({"k1": K1, "k2": K2})
    assert repr(seals) == f"<{codec.__name__} with key k1, opens also k2>"
    assert pickle.loads(pickle.dumps(seals)).open(seals.seal(BODY, ARGUMENTS), ARGUMENTS) == BODY


def test_encryption_without_its_package_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(DefinitionError) as refused:
        EncryptedPayloads({"k1": K1})
    assert "jetq-nats[crypto]" in str(refused.value.hint)


class Broken:
    """A codec of somebody's own."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    def seal(self, body: bytes, context: PayloadContext) -> bytes:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[return-value]

    open = seal


@pytest.mark.parametrize("outcome", [KeyError("canary"), "text", None])
def test_a_codec_that_fails_is_named_and_what_it_said_is_not(outcome: object) -> None:
    codec: PayloadCodec = Broken(outcome)
    for work in (sealed, opened):
        with pytest.raises(BadPayload, match=r"^the arguments of tasks\.pay.*(KeyError|str|NoneType)") as refused:
            work(codec, BODY, ARGUMENTS)
        assert "canary" not in str(refused.value)


def test_without_a_codec_plain_stays_plain_and_sealed_is_told() -> None:
    assert sealed(None, BODY, ARGUMENTS) is opened(None, BODY, ARGUMENTS) is BODY
    whole = SignedPayloads({"k2": K2}).seal(BODY, ARGUMENTS)
    with pytest.raises(BadPayload, match=r"a sealed payload \(key k2\); this app has no payload codec"):
        opened(None, whole, ARGUMENTS)
    with pytest.raises(BadPayload, match="key unknown"):
        opened(None, whole[:5], ARGUMENTS)


def test_an_app_opens_what_it_sealed() -> None:
    app = Jetq(payloads=EncryptedPayloads({"k1": K1}))
    stored = app.seal_arguments("tasks.pay", "billing", BODY)
    assert b"canary" not in stored
    assert app.open_arguments("tasks.pay", "billing", stored) == BODY
    with pytest.raises(BadPayload, match=r"^the arguments of tasks\.pay: "):
        app.open_arguments("tasks.pay", "other", stored)
