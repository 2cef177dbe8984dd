"""A job that is to be stored, with what the broker has to know beside it."""

from __future__ import annotations

from msgspec import Struct

from jetq.model.job import Debounce, JobRecord
from jetq.model.names import NO_KEY

__all__ = ["Request"]


class Request(Struct, frozen=True):
    """A job to be stored: when it is due (None: at once), and what to do if another of its key stands or stood.

    throttle: seconds in which its key has one job, finished or not.
    """

    job: JobRecord
    due: float | None = None
    debounce: Debounce | None = None
    throttle: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is due at once, and nothing that stands is asked for."""
        return self.job.fresh and self.job.key == NO_KEY and self.due is None and self.throttle is None
