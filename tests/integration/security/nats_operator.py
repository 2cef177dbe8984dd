"""A NATS operator with one account, made by hand: what `nsc` would write, for tests of credentials files."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import nkeys

__all__ = ["new_seed", "operator_configuration", "public_key", "write_credentials"]

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}


def new_seed(kind: int = nkeys.PREFIX_BYTE_USER) -> str:
    """A fresh nkey seed, of a user unless told otherwise."""
    return str(nkeys.encode_seed(os.urandom(32), kind).decode())


def public_key(seed: str) -> str:
    """The public key of a seed."""
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def operator_configuration(operator: str, account: str, system: str) -> str:
    """A server's configuration that trusts `operator` (a seed, like the others) and knows both accounts."""
    limits = {
        **_NO_LIMITS,
        "imports": -1,
        "exports": -1,
        "wildcards": True,
        "conn": -1,
        "leaf": -1,
        "mem_storage": -1,
        "disk_storage": -1,
        "streams": -1,
        "consumer": -1,
    }
    without_jetstream = {key: value for key, value in limits.items() if not key.endswith("_storage")}
    operator_jwt = _jwt(operator, operator, {"type": "operator", "version": 2, "system_account": public_key(system)})
    account_jwt = _jwt(operator, account, {"type": "account", "version": 2, "limits": limits})
    system_jwt = _jwt(operator, system, {"type": "account", "version": 2, "limits": without_jetstream})
    return f"""
        operator: {operator_jwt}
        system_account: {public_key(system)}
        resolver: MEMORY
        resolver_preload: {{ {public_key(account)}: {account_jwt}, {public_key(system)}: {system_jwt} }}
    """


def write_credentials(path: Path, account: str, user: str, *, expires: float | None = None) -> None:
    """A credentials file of `user` in `account` (seeds), valid until `expires` (unix seconds)."""
    claims = {"type": "user", "version": 2, "pub": {}, "sub": {}, **_NO_LIMITS}
    jwt = _jwt(account, user, claims, expires=expires)
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user}\n------END USER NKEY SEED------\n"
    )


def _jwt(issuer: str, subject: str, nats: dict[str, object], *, expires: float | None = None) -> str:
    now = int(time.time())
    claims: dict[str, object] = {"jti": "X", "iat": now - 60, "iss": public_key(issuer), "name": "test"}
    claims |= {"sub": public_key(subject), "nats": nats}
    if expires is not None:
        claims["exp"] = int(expires)
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (_HEADER, claims))
    signature = nkeys.from_seed(bytearray(issuer.encode())).sign(signed)
    return (signed + b"." + _base64(signature)).decode()


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
