"""The arguments of a dead job: shown to be changed, and read back. Pure: no terminal, no broker."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from jetq.encoding.json_text import decode_plain
from jetq.encoding.signature import Signature, encode_plain
from jetq.errors import ArgumentError
from jetq.model.redaction import HIDDEN, redacted

__all__ = ["Draft"]

_raw = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Draft:
    """The arguments in `body`, which is JSON, of a call with `signature`, and what may become of them.

    A body that is no JSON object cannot be shown: the draft begins empty then, and `readable` is False. Secrets are
    hidden in what is shown, and keep their values where they are left hidden. Values that are not changed keep
    their bytes.
    """

    _stored: dict[str, Raw]
    _values: dict[str, Any]
    _shown: dict[str, Any]

    def __init__(self, signature: Signature, body: bytes) -> None:
        self._signature = signature
        self._stored, self._values, self._shown = {}, {}, {}
        self.readable = False
        with suppress(ValueError):  # msgspec's errors are ValueErrors, also for JSON which is no object
            stored, values = _raw(body), decode_plain(body)
            shown = redacted(values, signature.annotations)
            if isinstance(shown, dict):  # else nested too deeply to be looked through
                self._stored, self._values, self._shown = stored, values, shown
                self.readable = True

    @property
    def text(self) -> str:
        """The arguments as people read and change them."""
        return msgspec.json.format(_encode(self._shown), indent=2).decode() + "\n"

    def value(self, name: str) -> Any:
        """Return the value that parameter `name` has now; None if the parameter is not there."""
        return self._values.get(name)

    def changed_by(self, text: str) -> bytes | None:
        """Return the arguments that `text` asks for; None if they are as they were shown.

        Raises ArgumentError for a text that is no JSON object, does not fit the signature, or has a hidden part in a
        parameter that was changed.
        """
        try:
            values = decode_plain(text.encode())
        except (ValueError, UnicodeError) as error:
            raise ArgumentError(f"{self._signature.call_text}: the arguments are not readable JSON: {error}") from None
        if not isinstance(values, dict):
            raise ArgumentError(f"{self._signature.call_text}: the arguments are no JSON object by parameter name")
        changes = {name: value for name, value in values.items() if not _stands(self._shown, name, value)}
        if self.readable and not changes and len(values) == len(self._shown):
            return None
        for name, value in changes.items():
            self._check_revealed(name, value)
        return self._made(list(values), changes)

    def with_values(self, changes: Mapping[str, Any]) -> bytes | None:
        """Return the arguments with JSON values for some parameters; None if that changes nothing. Raises
        ArgumentError."""
        if self.readable and all(_stands(self._values, name, value) for name, value in changes.items()):
            return None
        return self._made([*dict.fromkeys([*self._stored, *changes])], changes)

    def _made(self, names: list[str], changes: Mapping[str, Any]) -> bytes:
        new = _raw(encode_plain(self._signature.call_text, changes))
        body = _encode({name: new[name] if name in new else self._stored[name] for name in names})
        self._signature.check(body, changes)
        return body

    def _check_revealed(self, name: str, value: Any) -> None:
        own_stars = _holds_stars(self._values.get(name)) and _stands(self._shown, name, self._values[name])
        if _holds_stars(value) and not own_stars:
            raise ArgumentError(
                f"{self._signature.call_text}: {name}: was changed, and a part of it is still hidden ({HIDDEN})",
                hint="write the secret part too, or leave the whole parameter as it was shown; --set takes such a text",
            )


def _stands(values: Mapping[str, Any], name: str, value: Any) -> bool:
    """Return whether `name` has just that `value`, compared as JSON text: in Python 1, 1.0 and True are equal."""
    return name in values and _encode(values[name]) == _encode(value)


def _holds_stars(value: Any) -> bool:
    left = [value]
    while left:
        each = left.pop()
        if each == HIDDEN:
            return True
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
    return False
