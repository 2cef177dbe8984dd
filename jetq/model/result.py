"""How a job ended, kept for its caller."""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from jetq.model.failure import Failure
from jetq.model.redaction import Discreet

__all__ = ["NO_VALUE", "ResultRecord"]


NO_VALUE = Raw(b"null")


class ResultRecord(Discreet, Struct, frozen=True, omit_defaults=True, gc=False):
    """How a job ended, kept for its caller. `sequence` is that of the delivery it settles. `sealed` takes the place of
    `value` where payloads are sealed."""

    id: str
    state: Literal["succeeded", "dead", "cancelled", "expired"]
    task: str
    queue: str
    attempt: int
    sequence: int
    at: float
    worker: str = ""
    value: Raw = NO_VALUE
    sealed: bytes | None = None
    failure: Failure | None = None
    v: int = 1
