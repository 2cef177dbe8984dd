"""A job that is to be stored, with what the broker has to know besides."""

from __future__ import annotations

from msgspec import Struct

from jetq.model.job import Debounce, JobRecord
from jetq.model.names import NO_KEY

__all__ = ["Request"]


class Request(Struct, frozen=True):
    """A job to be stored: when it is due (None: at once), and what to do if another job of its key is or was stored.

    throttle: seconds in which the job's key has one job, finished or not.
    """

    job: JobRecord
    due: float | None = None
    debounce: Debounce | None = None
    throttle: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the job is due at once, and no stored job has to be looked for."""
        return self.job.fresh and self.job.key == NO_KEY and self.due is None and self.throttle is None
