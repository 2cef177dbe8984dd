"""Removes recipients from a server's answer, so that no log line or error names them."""

from __future__ import annotations

import re

__all__ = ["without_addresses"]

_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]{1,320}@[^\s<>\"'(),;:\[\]]{1,255}")
_LONGEST = 200


def without_addresses(text: str) -> str:
    """Return `text` on one line of at most 200 characters, with `<address>` in place of each mail address."""
    shown = " ".join(_ADDRESS.sub("<address>", text[: 4 * _LONGEST]).split())
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."
