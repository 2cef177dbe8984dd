"""Sealed payloads: the arguments and results of jobs, and the plans and marks of workflows, signed or encrypted by keys
that only the application has.

A sealed payload says in the clear how and by which key it was sealed, so that keys can follow one another. A sealed
payload begins with a byte with which neither JSON nor UTF-8 text can begin.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Literal, Protocol

from msgspec import Struct

from jetq.errors import BadPayload, DefinitionError

__all__ = ["EncryptedPayloads", "PayloadCodec", "PayloadContext", "SignedPayloads", "key_of", "opened", "sealed"]

_MAGIC = b"\xffJQ1"
_KINDS = {b"S": "signed", b"E": "encrypted"}
_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_KEY_SIZE = 32
_TAG = 32
_NONCE = 24

_MAKE_ONE = "make one with `openssl rand -base64 32`"


class PayloadContext(Struct, frozen=True):
    """What a payload belongs to. A codec binds the payload to its context, so that nobody can put the payload
    elsewhere.

    purpose: the arguments of jobs of `task` in `queue`; the result of job `id` of `task`; the plan of `workflow` in
    that `life`, or what is stored beside it or in its place: arguments of members of `step`, of which `id` says which,
    or the value, with the `id` "value"; or the mark of `member` of `step` in that `life`: its value, or its failure,
    with the `id` "failure". Arguments belong to no single job, because the arguments of a recurring schedule become
    many jobs. A field that does not apply is empty, and `member` is None.
    """

    purpose: Literal["arguments", "result", "plan", "mark"]
    task: str = ""
    queue: str = ""
    id: str = ""
    workflow: str = ""
    life: str = ""
    step: str = ""
    member: int | None = None

    def __str__(self) -> str:
        match self.purpose:
            case "arguments":
                return f"the arguments of {self.task}"
            case "result":
                return f"the result of job {self.id}"
            case "plan" if self.step:
                return f"the arguments of step {self.step} of workflow {self.workflow}"
            case "plan":
                return f"the {self.id or 'plan'} of workflow {self.workflow}"
            case "mark":
                return f"the {self.id or 'mark'} of member {self.member} of step {self.step}"

    @property
    def bound(self) -> bytes:
        """The whole context as bytes. No two contexts have the same bytes."""
        parts = (self.purpose, self.task, self.queue, self.id)
        member = "" if self.member is None else str(self.member)
        of_workflow = (self.workflow, self.life, self.step, member)
        # Arguments and results that are stored already are bound to four parts.
        return "\0".join(parts + of_workflow if any(of_workflow) else parts).encode()


class PayloadCodec(Protocol):
    """Seals what goes into the broker, and opens what comes out: `Jetq(payloads=...)`.

    Both methods are called on the event loop and from any thread, so they must be quick and share no state. For tasks
    with run_in="process" the codec must be picklable.
    """

    def seal(self, body: bytes, context: PayloadContext) -> bytes:
        """Return the bytes to be stored for `body`, which is JSON."""
        ...

    def open(self, body: bytes, context: PayloadContext) -> bytes:
        """Return the bytes that were sealed. Raises BadPayload for a body that was not sealed by this codec's keys for
        `context`."""
        ...


def sealed(codec: PayloadCodec | None, body: bytes, context: PayloadContext) -> bytes:
    """Return `body` as it is stored: unchanged without a codec. Raises BadPayload if the codec fails."""
    if codec is None:
        return body
    try:
        made = codec.seal(body, context)
    except BadPayload:
        raise
    except Exception as error:  # a codec is user code
        raise BadPayload(f"{context} cannot be sealed: the payload codec raised {type(error).__name__}") from error
    if not isinstance(made, bytes):
        raise BadPayload(f"{context} cannot be sealed: the payload codec made {type(made).__name__}, not bytes")
    return made


def opened(codec: PayloadCodec | None, body: bytes, context: PayloadContext) -> bytes:
    """Return what was sealed into the stored `body`. Raises BadPayload if `body` does not open, or if opening takes a
    codec and there is none."""
    if codec is None:
        if body.startswith(_MAGIC):
            raise BadPayload(
                f"{context}: a sealed payload (key {key_of(body) or 'unknown'}); this app has no payload codec",
                hint="give it one: Jetq(payloads=...)",
            )
        return body
    try:
        plain = codec.open(body, context)
    except BadPayload as error:
        raise BadPayload(f"{context}: {error.message}", hint=error.hint) from None
    except Exception as error:
        raise BadPayload(f"{context}: the payload codec raised {type(error).__name__}") from error
    if not isinstance(plain, bytes):
        raise BadPayload(f"{context}: the payload codec made {type(plain).__name__}, not bytes")
    return plain


def key_of(body: bytes) -> str | None:
    """Return the name of the key that sealed `body`; None if `body` was not sealed by one of jetq's codecs."""
    envelope = _split(body)
    return None if envelope is None else envelope.key


class _Keyed(ABC):
    """A codec with named keys. The first key seals, and all keys open."""

    _kind: bytes
    _exact: bool

    def __init__(self, keys: Mapping[str, bytes | str], *, accept_plain: bool = False) -> None:
        if not keys:
            raise DefinitionError(f"{type(self).__name__} needs a key", hint=_MAKE_ONE)
        self._keys = {_key_name(name): self._checked_key(name, key) for name, key in keys.items()}
        self._first = next(iter(self._keys))
        self._accept_plain = accept_plain

    def __repr__(self) -> str:
        others = ", ".join(name for name in self._keys if name != self._first)
        return f"<{type(self).__name__} with key {self._first}{f', opens also {others}' if others else ''}>"

    def seal(self, body: bytes, context: PayloadContext) -> bytes:
        """Return `body` sealed by the first key for `context`."""
        name = self._first.encode()
        head = b"%b%b%c%b" % (_MAGIC, self._kind, len(name), name)
        return head + self._close(self._keys[self._first], body, head + context.bound)

    def open(self, body: bytes, context: PayloadContext) -> bytes:
        """Return what was sealed by any of the keys for `context`. Raises BadPayload for anything else."""
        if self._accept_plain and not body.startswith(_MAGIC):
            return body
        envelope = _split(body)
        own = _KINDS[self._kind]
        if envelope is None:
            raise BadPayload(
                f"it is not {own}, and this app takes nothing else",
                hint="during a roll-out, while producers still write plain ones: accept_plain=True",
            )
        if envelope.kind != own:
            raise BadPayload(f"it is {envelope.kind} (key {envelope.key}), and this app's codec opens what is {own}")
        key = self._keys.get(envelope.key)
        if key is None:
            raise BadPayload(
                f"it is {own} with key {envelope.key}, and this app has {', '.join(self._keys)}",
                hint="add that key behind the others; then `jetq dlq replay` runs what is dead",
            )
        plain = self._verified(key, envelope.content, envelope.head + context.bound)
        if plain is None:
            raise BadPayload(
                f"it was changed, or sealed for something else, or by another key named {envelope.key}",
            )
        return plain

    @abstractmethod
    def _close(self, key: bytes, body: bytes, bound: bytes) -> bytes:
        """Return what follows the head: `body`, sealed and bound to `bound`."""

    @abstractmethod
    def _verified(self, key: bytes, content: bytes, bound: bytes) -> bytes | None:
        """Return the body; None if `key`, `content` and `bound` do not belong together."""

    def _checked_key(self, name: str, key: bytes | str) -> bytes:
        if isinstance(key, str):
            try:
                key = base64.b64decode(key.strip(), validate=True)
            except (binascii.Error, ValueError):
                raise DefinitionError(f"key {name} is a text that is not base64", hint=_MAKE_ONE) from None
        if not isinstance(key, bytes) or len(key) < _KEY_SIZE or (self._exact and len(key) > _KEY_SIZE):
            found = f"{len(key)}" if isinstance(key, bytes) else type(key).__name__
            least = "" if self._exact else " or more"
            raise DefinitionError(f"key {name} must have {_KEY_SIZE} bytes{least}, not {found}", hint=_MAKE_ONE)
        return key


class SignedPayloads(_Keyed):
    """Payloads that everybody can read, and that only the holder of a key can write or change: HMAC-SHA256.

    keys: by name, each 32 bytes or more, or base64 text of these bytes; the first key seals, all keys open.
    accept_plain: take unsigned payloads too, for the time of a roll-out; then anybody who may publish may leave the
    signature off. Raises DefinitionError.
    """

    _kind = b"S"
    _exact = False

    def _close(self, key: bytes, body: bytes, bound: bytes) -> bytes:
        return _signature(key, body, bound) + body

    def _verified(self, key: bytes, content: bytes, bound: bytes) -> bytes | None:
        tag, body = content[:_TAG], content[_TAG:]
        return body if hmac.compare_digest(tag, _signature(key, body, bound)) else None


class EncryptedPayloads(_Keyed):
    """Payloads that only the holder of a key can read, write or change: AES-256-GCM with nonces of 24 random bytes, as
    https://c2sp.org/XAES-256-GCM has it. So one key is good for any number of jobs.

    keys: by name, each 32 bytes, or base64 text of these bytes; the first key seals, all keys open. accept_plain: take
    unencrypted payloads too, for the time of a roll-out; then anybody who may publish may write payloads. Needs the
    package `cryptography`: `pip install 'jetq-nats[crypto]'`. Raises DefinitionError.
    """

    _kind = b"E"
    _exact = True

    def __init__(self, keys: Mapping[str, bytes | str], *, accept_plain: bool = False) -> None:
        try:
            import_module("cryptography.hazmat.primitives.ciphers.aead")
        except ImportError:
            raise DefinitionError(
                "EncryptedPayloads needs the package cryptography", hint="pip install 'jetq-nats[crypto]'"
            ) from None
        super().__init__(keys, accept_plain=accept_plain)

    def _close(self, key: bytes, body: bytes, bound: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(_key_of_nonce(key, nonce)).encrypt(nonce[12:], body, bound)

    def _verified(self, key: bytes, content: bytes, bound: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = content[:_NONCE]
        if len(nonce) < _NONCE:
            return None
        try:
            return AESGCM(_key_of_nonce(key, nonce)).decrypt(nonce[12:], content[_NONCE:], bound)
        except InvalidTag:
            return None


class _Envelope(Struct, frozen=True):
    kind: str
    key: str
    head: bytes
    content: bytes


def _split(body: bytes) -> _Envelope | None:
    """Return what a sealed payload says of itself; None for anything else."""
    at = len(_MAGIC) + 1
    kind = _KINDS.get(body[len(_MAGIC) : at])
    if kind is None or not body.startswith(_MAGIC) or len(body) <= at:
        return None
    end = at + 1 + body[at]
    name = body[at + 1 : end].decode("ascii", "replace")
    if len(body) < end or not _KEY_NAME.fullmatch(name):
        return None
    return _Envelope(kind, name, body[:end], body[end:])


def _key_name(name: str) -> str:
    if not isinstance(name, str) or not _KEY_NAME.fullmatch(name):
        raise DefinitionError(f"key name {name!r} is not allowed; it is at most 32 letters, digits, '_', '.' and '-'")
    return name


def _signature(key: bytes, body: bytes, bound: bytes) -> bytes:
    return hmac.digest(key, len(bound).to_bytes(4, "big") + bound + body, "sha256")


def _key_of_nonce(key: bytes, nonce: bytes) -> bytes:
    """Return the key of one message: NIST SP 800-108 in counter mode over CMAC, as XAES-256-GCM has it."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    halves = []
    for counter in (1, 2):
        mac = CMAC(AES(key))
        mac.update(b"\x00%cX\x00%b" % (counter, nonce[:12]))
        halves.append(mac.finalize())
    return b"".join(halves)
