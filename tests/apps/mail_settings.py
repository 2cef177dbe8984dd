"""What a test tells its workers about mail."""

from __future__ import annotations

from typing import Protocol


class MailSettings(Protocol):
    """Sets fields of the settings: `host` as the variable `JETQ_EMAIL_HOST`, and so on."""

    def __call__(self, **fields: object) -> None: ...
