"""Fields that a newer jetq has added to what it writes: who rewrites that hands them on unread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import fields, replace

__all__ = ["Extended", "encode_extended", "with_others"]

_PLACE = "*"
"""Under which name `others` are encoded, before they take their own places. No field is called so."""

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


class Extended(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A value on the wire. others: the fields it came with that this version has no name for, each as its JSON.

    Guarantee: tests/unit/properties/test_wire.py: nobody who writes a job, letter or schedule anew drops one.
    """

    others: tuple[tuple[str, bytes], ...] = field(default=(), name=_PLACE)


K = TypeVar("K", bound=Extended)


def with_others(value: K, text: bytes | str | Raw) -> K:
    """`value`, which was decoded from the JSON object `text`, with the fields that were passed over, also in what it
    holds."""
    found, changes = _decode_fields(text), dict[str, Any]()
    known = set()
    for each in fields(value):
        known.add(each.encode_name)
        inner = getattr(value, each.name)
        if isinstance(inner, Extended) and each.encode_name in found:
            changes[each.name] = with_others(inner, found[each.encode_name])
        elif isinstance(inner, tuple) and inner and isinstance(inner[0], Extended):
            raws = _decode_list(found[each.encode_name])
            changes[each.name] = tuple(with_others(*pair) for pair in zip(inner, raws, strict=True))
    changes["others"] = tuple((name, bytes(raw)) for name, raw in found.items() if name not in known)
    return replace(value, **changes)


def encode_extended(value: Extended) -> bytes:
    """The JSON of `value`, with the fields it only hands on."""
    plain = _encode(value)
    return _encode(_merged(value, plain)) if b'"*":' in plain else plain


def _merged(value: Extended, plain: bytes) -> Mapping[str, Any]:
    made: dict[str, Any] = dict(_decode_fields(plain))
    made.pop(_PLACE, None)
    for each in fields(value):
        inner = getattr(value, each.name)
        if each.encode_name not in made:
            continue
        if isinstance(inner, Extended):
            made[each.encode_name] = _merged(inner, _encode(inner))
        elif isinstance(inner, tuple) and inner and isinstance(inner[0], Extended):
            made[each.encode_name] = [_merged(one, _encode(one)) for one in inner]
    return {**made, **{name: Raw(raw) for name, raw in value.others}}
