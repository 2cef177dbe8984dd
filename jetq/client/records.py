"""Records: small values that an application or a plugin keeps beside its jobs, for its tasks and for itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from jetq.client.app import Jetq, default_app
from jetq.errors import DefinitionError
from jetq.model.cell import StoredRecord
from jetq.model.job_context import CURRENT

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Record", "Records"]

_TOKEN = r"[A-Za-z0-9_=-]{1,128}"
_NAME = re.compile(_TOKEN)
_KEY = re.compile(rf"{_TOKEN}(?:\.{_TOKEN}){{0,7}}")
_LARGEST = 64 * 1024


class Record(Struct, frozen=True):
    """One value. version: grows with every write, and is never used twice. at: when the record was written, aware
    UTC."""

    key: str
    value: bytes
    version: int
    at: datetime


class Records:
    """The records called `name`, such as a plugin's, of the app whose job runs here, or else of the default app.

    A key is one to eight words of letters, digits, `_`, `=` and `-`, with dots between them. A value has up to 64 KiB.
    A record that is written is stored before the call returns, and everybody reads it from then on. Every method raises
    BrokerError as enqueueing does, and DefinitionError for a key or value that is not allowed.
    """

    def __init__(self, name: str, app: Jetq | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise DefinitionError(f"records {name[:128]!r}: not a name", hint="letters, digits, '_', '=' and '-'")
        self._name = name
        self._given = app

    def now(self) -> float | None:
        """Return the broker's time in unix seconds, the clock of `Record.at`; None until the time is known here."""
        return self.app.session.now()

    async def aget(self, key: str) -> Record | None:
        """Return the record of `key` as it was last written; None if there is no record."""
        name = self._full_name(key)
        record = await (await self._broker()).read_record(name)
        return None if record is None else self._shown(record)

    async def aput(
        self, key: str, value: bytes, *, ttl: float | None = None, expected: int | None = None
    ) -> int | None:
        """Write a record, and return its new version. Return None if nothing was written because of `expected`.

        ttl: the seconds for which the record is kept, rounded up to whole seconds; None keeps the record for ever.
        expected: the version that the record must have now, 0 for no record. If the version is another, nothing is
        written.
        """
        name = self._full_name(key)
        if len(value) > _LARGEST:
            raise DefinitionError(f"record {key!r} has {len(value):,} bytes; a record has {_LARGEST:,} at most")
        return await (await self._broker()).write_record(name, value, expected=expected, ttl=ttl)

    async def aremove(self, key: str, *, version: int | None = None) -> bool:
        """Remove a record; with `version` only if the record has just that version. Return False if there is no such
        record."""
        name = self._full_name(key)
        broker = await self._broker()
        while (record := await broker.read_record(name)) is not None:
            if version not in (None, record.version):
                return False
            if await broker.drop_record(record):
                return True
        return False

    async def aeach(self, below: str = "") -> AsyncIterator[Record]:
        """Yield the records whose keys begin with the words `below`, or all records if `below` is empty, in the order
        in which they were written."""
        name = self._full_name(below) if below else self._name
        async for record in (await self._broker()).each_record(name):
            yield self._shown(record)

    def get(self, key: str) -> Record | None:
        """Do what `aget` does, from code that is not async."""
        return self.app.session.run(lambda: self.aget(key))

    def put(self, key: str, value: bytes, *, ttl: float | None = None, expected: int | None = None) -> int | None:
        """Do what `aput` does, from code that is not async."""
        return self.app.session.run(lambda: self.aput(key, value, ttl=ttl, expected=expected))

    def remove(self, key: str, *, version: int | None = None) -> bool:
        """Do what `aremove` does, from code that is not async."""
        return self.app.session.run(lambda: self.aremove(key, version=version))

    def each(self, below: str = "") -> list[Record]:
        """Return all that `aeach` yields as one list, from code that is not async."""

        async def gather() -> list[Record]:
            return [record async for record in self.aeach(below)]

        return self.app.session.run(gather)

    @property
    def app(self) -> Jetq:
        """The app whose records they are, here and now."""
        if self._given is not None:
            return self._given
        current = CURRENT.get()
        return current.app if current is not None and isinstance(current.app, Jetq) else default_app()

    async def _broker(self) -> Broker:
        return await self.app.session.broker()

    def _full_name(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise DefinitionError(
                f"{key[:128]!r} is not the key of a record",
                hint="one to eight words of letters, digits, '_', '=' and '-', with dots between them",
            )
        return f"{self._name}.{key}"

    def _shown(self, record: StoredRecord) -> Record:
        key = record.name.partition(".")[2]
        return Record(key, record.value, record.version, datetime.fromtimestamp(record.at, UTC))
