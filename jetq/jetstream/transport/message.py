"""A message as it came over the wire. Its headers are read only when somebody asks for them."""

from __future__ import annotations

from msgspec import Struct

from jetq.model.redaction import RedactedRepr

__all__ = ["Message", "read_headers"]

_VERSION = b"NATS/1.0"
_ID_ALONE = b"NATS/1.0\r\nNats-Msg-Id: "


class Message(RedactedRepr, Struct, gc=False):
    """One message. `block` is its header block as it was stored, empty if there are no headers."""

    subject: str
    reply: str
    data: bytes
    block: bytes = b""
    _headers: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name. A server's status is `Status` and `Description`. Unreadable headers are left out."""
        if self._headers is None:
            self._headers = read_headers(self.block) if self.block else {}
        return self._headers


def read_headers(block: bytes) -> dict[str, str]:
    """Return the headers of a block. Never raises: any client can store any bytes (nats-server 2.15 checks nothing)."""
    if block.startswith(_ID_ALONE) and block.find(b"\r\n", len(_ID_ALONE)) == len(block) - 4:  # most jobs as stored
        return {"Nats-Msg-Id": block[len(_ID_ALONE) :].decode("utf-8", "replace").strip()}
    if not block.startswith(_VERSION):
        return {}
    first, _, rest = block[len(_VERSION) :].partition(b"\r\n")
    headers: dict[str, str] = {}
    status, description = first[1:4], first[5:]
    if first.startswith(b" ") and status.isdigit():
        headers["Status"] = status.decode()
        if description:
            headers["Description"] = description.decode("utf-8", "replace")
    for line in rest.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        words = name.split()
        if colon and len(words) == 1 and name.isascii():
            headers[words[0].decode()] = value.strip().decode("utf-8", "replace")
    return headers
