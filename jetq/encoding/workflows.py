"""Plans, ends and pages of workflows as they are stored. Anyone with the permission may have stored them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from jetq.encoding.headers import WIRE_VERSION
from jetq.encoding.json_text import TOO_DEEP, is_too_deep
from jetq.encoding.sealer import Sealer
from jetq.errors import NewerVersion
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Plan, check_plan
from jetq.model.workflows.records import Closed, Ended
from jetq.model.workflows.recurring import RecurringPlan

__all__ = [
    "BadRecord",
    "encode_closed",
    "encode_ended",
    "encode_failure",
    "encode_plan",
    "encode_recurring",
    "joined",
    "read_bodies",
    "read_ended",
    "read_failure",
    "read_plan",
    "read_recurring",
    "write_bodies",
]

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_CHUNK = 256 * 1024
"""Bytes of arguments that are stored together. A body of more bytes is stored alone."""


class BadRecord(ValueError):
    """A record of a workflow that cannot be read, or cannot be followed."""


class _Head(Struct):
    """What every plan says in the clear, open or closed, sealed or not."""

    life: str
    v: int = 1
    closed: str | None = None
    sealed: bytes | None = None


class _Bodies(Struct, array_like=True):
    """The arguments of some members of a page, in their order, from the member `first` on."""

    first: int
    bodies: list[Raw]


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_plan = msgspec.json.Decoder(Plan).decode
_decode_closed = msgspec.json.Decoder(Closed).decode
_decode_ended = msgspec.json.Decoder(Ended).decode
_decode_failure = msgspec.json.Decoder(Failure).decode
_decode_recurring = msgspec.json.Decoder(RecurringPlan).decode
_decode_bodies = msgspec.json.Decoder(_Bodies).decode


# --- plans


def encode_plan(plan: Plan, workflow: str, sealer: Sealer) -> bytes:
    """Return an open plan as it is stored. Raises BadPayload if it cannot be sealed."""
    body = _encode(plan)
    if sealer.codec is None:
        return body
    return _encode({"v": plan.v, "life": plan.life, "sealed": sealer.seal_plan(workflow, plan.life, body)})


def read_plan(body: bytes, workflow: str, sealer: Sealer) -> Plan | Closed:
    """Return a plan, open or closed. Raises BadRecord, BadPayload for a plan that was not sealed by the app's keys,
    NewerVersion."""
    head = _read("plan", body, _decode_head)
    _check_version(f"the plan of workflow {workflow}", head.v)
    if head.closed is not None:
        return _read("plan", body, _decode_closed)
    if sealer.codec is not None or head.sealed is not None:
        body = sealer.open_plan(workflow, head.life, body if head.sealed is None else head.sealed)
    plan = _read("plan", body, _decode_plan)
    if plan.life != head.life:
        raise BadRecord("plan: it is of another life than it says")
    try:
        check_plan(plan)
    except ValueError as error:
        raise BadRecord(f"plan: {error}") from None
    return plan


def encode_recurring(recurring: RecurringPlan) -> bytes:
    """Return a recurring plan as JSON: the arguments of the job that starts it."""
    return _encode(recurring)


def read_recurring(body: bytes, schedule: str) -> RecurringPlan:
    """Return the recurring plan of `schedule`. Raises BadRecord for a plan that cannot be followed, NewerVersion."""
    recurring = _read("plan", body, _decode_recurring)
    _check_version(f"the plan of schedule {schedule}", recurring.v)
    try:
        check_plan(recurring.plan("recurring", 0.0))
    except ValueError as error:
        raise BadRecord(f"plan: {error}") from None
    for name, step in recurring.steps.items():
        stored = len(recurring.bodies.get(name, ()))
        if step.call is not None and not step.call.body and stored != step.members:
            raise BadRecord(f"plan: step {name} has arguments of {stored} members, and not of {step.members}")
    return recurring


def encode_closed(closed: Closed) -> bytes:
    """Return what is kept of a plan as it is stored."""
    return _encode(closed)


# --- ends and failures


def encode_ended(ended: Ended) -> bytes:
    """Return an end as it is stored."""
    return _encode(ended)


def read_ended(body: bytes) -> Ended:
    """Return an end. Raises BadRecord."""
    return _read("end", body, _decode_ended)


def encode_failure(failure: Failure) -> bytes:
    """Return a failure as JSON: as it is stored where nothing is sealed, and as an argument."""
    return _encode(failure)


def read_failure(body: bytes) -> Failure:
    """Return a failure. Raises BadRecord."""
    return _read("failure", body, _decode_failure)


# --- arguments in pages


def write_bodies(bodies: Iterable[bytes], first: int) -> Iterator[bytes]:
    """Yield chunks of `bodies`, the arguments of members from the number `first` on."""
    chunk: list[Raw] = []
    size = 0
    for body in bodies:
        if chunk and size + len(body) > _CHUNK:
            yield _encode(_Bodies(first, chunk))
            first, chunk, size = first + len(chunk), [], 0
        chunk.append(Raw(body))
        size += len(body)
    if chunk:
        yield _encode(_Bodies(first, chunk))


def read_bodies(chunk: bytes) -> tuple[int, list[bytes]]:
    """Return the number of the first member in a chunk, and the arguments from that member on. Raises BadRecord."""
    read = _read("page", chunk, _decode_bodies)
    return read.first, [bytes(body) for body in read.bodies]


def joined(values: Iterable[bytes]) -> Raw:
    """Return JSON values as one list, without reading them."""
    return Raw(b"[" + b",".join(values) + b"]")


# --- reading


def _check_version(what: str, version: int) -> None:
    if version > WIRE_VERSION:
        raise NewerVersion(
            f"{what} is of wire version {version}, and this jetq reads up to {WIRE_VERSION}",
            hint="use a jetq that is as new as the one that wrote it",
        )


def _read(what: str, body: bytes, decode: Callable[[bytes], T]) -> T:
    if is_too_deep(body):
        raise BadRecord(f"{what}: {TOO_DEEP}")
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeError are ValueErrors
        raise BadRecord(f"{what}: unreadable: {error}") from None
