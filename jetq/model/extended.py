"""Fields that a newer jetq has added to stored values: an older jetq keeps them, unread, when it rewrites a value."""

from __future__ import annotations

from msgspec import Struct, field

__all__ = ["OTHERS", "Extended", "Versioned"]

OTHERS = "*"
"""The name under which the encoder writes `others`, before they get their own names. No field has this name."""


class Extended(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A value on the wire.

    others: the fields of the value that this version of jetq does not know, each as a name and its JSON.

    Guarantee: tests/unit/properties/test_headers.py: no code that writes a job, letter or schedule anew drops such a
    field.
    """

    others: tuple[tuple[str, bytes], ...] = field(default=(), name=OTHERS)


class Versioned(Extended, frozen=True, omit_defaults=True, kw_only=True):
    """A value on the wire that names the version of its wire format, `v`."""

    v: int = 1
