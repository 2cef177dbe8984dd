"""How large a message of the memory broker may be: what nats-server takes by default."""

from __future__ import annotations

from jetq.broker.numbers import HEADROOM
from jetq.encoding.headers import job_headers
from jetq.errors import PayloadTooLarge
from jetq.model.job import JobRecord

__all__ = ["MAX_PAYLOAD", "check_arguments", "check_size"]

MAX_PAYLOAD = 1024 * 1024
"""nats-server's default limit of one message."""


def check_arguments(job: JobRecord) -> None:
    """Raise PayloadTooLarge for more arguments than may be enqueued."""
    limit = MAX_PAYLOAD - HEADROOM
    if len(job.body) > limit:
        raise PayloadTooLarge(
            f"job {job.id} of {job.task} has {len(job.body):,} bytes of arguments; the limit is {limit:,}",
            hint="store the data elsewhere and pass its id or path",
            job_ids=(job.id,),
        )


def check_size(job: JobRecord) -> None:
    """Raise PayloadTooLarge for more than one message holds."""
    size = len(job.body) + sum(len(name) + len(value.encode()) + 4 for name, value in job_headers(job).items())
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge(
            f"job {job.id} of {job.task} has {size:,} bytes with its headers, the limit is {MAX_PAYLOAD:,}",
            job_ids=(job.id,),
        )
