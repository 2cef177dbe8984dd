"""Stored schedules as the text of one header."""

from __future__ import annotations

import re

import msgspec

from jetq.encoding.headers import SCHEDULE_HEADER, WIRE_VERSION, NewerHeader, check_meta, read_extended
from jetq.encoding.json_text import encode_extended
from jetq.errors import DefinitionError
from jetq.model.bounds import check_numbers
from jetq.model.names import NO_KEY, check_queue, check_schedule, check_task, key_token
from jetq.model.schedule import ScheduleRecord, timetable_of

__all__ = ["encode_record", "read_record"]

_HASHED = re.compile(r"=[0-9a-f]{32}")

encode_record = encode_extended
_decode_record = msgspec.json.Decoder(ScheduleRecord).decode


def read_record(text: str) -> ScheduleRecord:
    """Return the record in a header's text. Raises ValueError for text that is no record, NewerHeader for a record of a
    newer version."""
    record = read_extended(SCHEDULE_HEADER, text, _decode_record)
    if record.meta.v > WIRE_VERSION:
        raise NewerHeader(SCHEDULE_HEADER, record.meta.v)
    _check(record)
    return record


def _check(record: ScheduleRecord) -> None:
    """Raise ValueError for a record that would make an illegal subject or an impossible time."""
    try:
        for check, name in ((check_schedule, record.name), (check_queue, record.queue), (check_task, record.task)):
            check(name)
        timetable_of(record)
    except (DefinitionError, OverflowError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    if record.key not in (NO_KEY, key_token(record.key)) and not _HASHED.fullmatch(record.key):
        raise ValueError("its key is none")
    check_numbers(record, spans=("catch_up", "jitter", "expires"))
    check_meta(record.meta)
