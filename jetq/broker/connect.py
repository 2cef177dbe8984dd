"""How a part of jetq gets a broker of its own."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Connect"]


class Connect(Protocol):
    """Makes a broker for the running loop. With `patient` it does not give up while the broker is down."""

    def __call__(self, *, patient: bool = False) -> Coroutine[Any, Any, Broker]: ...
