"""What the signature of a mail costs: `python -m benchmarks.signing`.

CPU time of signing one mail, by each kind of key and for three sizes: a short one, the usual one of 5 KB, and one with
an attachment. Of each the fastest round counts, because what else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.machine import environment
from benchmarks.report import describe
from jetq_email.dkim import Signer
from jetq_email.dkim_keys import signer_for
from jetq_email.message import Email, Part, compose
from jetq_email.settings import parse

SIZES: Mapping[str, int] = {"1 KB": 500, "5 KB": 4_500, "1 MB": 1_000_000}
"""The characters of the text; the largest is an attachment."""

KEYS: Mapping[str, Callable[[], RSAPrivateKey | Ed25519PrivateKey]] = {
    "RSA of 2048 bits": lambda: generate_private_key(65537, 2048),
    "RSA of 4096 bits": lambda: generate_private_key(65537, 4096),
    "Ed25519": Ed25519PrivateKey.generate,
}


def signer(key: RSAPrivateKey | Ed25519PrivateKey) -> Signer:
    """What signs with `key`, as a worker reads it from its settings."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    values = {"DOMAIN": "example.org", "SELECTOR": "bench", "KEY": pem}
    made = signer_for(parse({f"JETQ_EMAIL_DKIM_{name}": value for name, value in values.items()}))
    assert made is not None
    return made


def mail(size: int) -> bytes:
    """A mail of about `size` octets."""
    line = "A line of a mail, as long as such lines are, more or less.\n"
    parts = [Part("file", bytes(size * 3 // 4))] if size > 100_000 else []
    text = "See the file." if parts else line * (size // len(line))
    email = Email(to=["ann@example.com"], subject="A signed mail", text=text, sender="Shop <shop@example.org>")
    return compose(email, parts, job_id="bench", date=datetime(2026, 1, 2, tzinfo=UTC)).message


def measured(signer: Signer, message: bytes, count: int) -> float:
    """Microseconds of CPU time to sign `message`."""
    began = time.process_time()
    for _ in range(count):
        signer.sign(message)
    return (time.process_time() - began) / count * 1e6


def main(rounds: int, count: int) -> None:
    messages = {name: mail(size) for name, size in SIZES.items()}
    print(f"| us to sign a mail of | {' | '.join(messages)} |\n|---|{'---:|' * len(messages)}")
    for name, generate in KEYS.items():
        signs = signer(generate())
        cells = [
            f"{min(measured(signs, message, max(count * 1000 // len(message), 1)) for _ in range(rounds)):.0f}"
            for message in messages.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print()
    print(describe(environment(uvloop=False)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    main(options.rounds, options.count)
