"""The name that a worker gives when it greets a server."""

from __future__ import annotations

import re
import socket

__all__ = ["own_name"]

_FULL_NAME = re.compile(
    r"(?=.{1,255}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.I
)


def own_name(host: str, port: int) -> str:
    """Return the machine's full name. If it has none, return the address from which it reaches `host`, in brackets (RFC
    5321 4.1.4), because servers refuse a name without a domain. This asks the resolver, so call it off the event loop.
    Raises nothing."""
    name = socket.getfqdn()
    if _FULL_NAME.fullmatch(name) and not name.endswith((".arpa", ".localdomain")):
        return name
    try:
        address = _address_towards(host, port)
    except OSError:  # connecting will fail too, and say what is wrong
        address = "127.0.0.1"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _address_towards(host: str, port: int) -> str:
    """Return the local address of a datagram socket that is connected to `host`, without sending anything."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as asking:
        asking.connect(place)
        return str(asking.getsockname()[0]).partition("%")[0]
