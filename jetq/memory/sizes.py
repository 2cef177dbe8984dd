"""Bounds of the size of a message in the memory broker: the default bounds of nats-server."""

from __future__ import annotations

from jetq.broker.numbers import HEADROOM
from jetq.encoding.headers import job_headers
from jetq.errors import PayloadTooLarge
from jetq.model.job import JobRecord

__all__ = ["MAX_PAYLOAD", "check_arguments", "check_size"]

MAX_PAYLOAD = 1024 * 1024
"""nats-server's default limit of one message, in bytes."""


def check_arguments(job: JobRecord) -> None:
    """Raise PayloadTooLarge if the arguments of `job` have more bytes than an enqueue takes."""
    limit = MAX_PAYLOAD - HEADROOM
    if len(job.body) > limit:
        raise PayloadTooLarge(
            f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; the limit is {limit:,}",
            hint="store the data elsewhere and pass its id or path",
            job_ids=(job.id,),
        )


def check_size(job: JobRecord) -> None:
    """Raise PayloadTooLarge if `job`, with its headers, has more bytes than one message may have."""
    size = len(job.body) + sum(len(name) + len(value.encode()) + 4 for name, value in job_headers(job).items())
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge(
            f"job {job.id} of {job.task} has {size:,} bytes with its headers, the limit is {MAX_PAYLOAD:,}",
            job_ids=(job.id,),
        )
