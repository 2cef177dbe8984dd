"""Reads reports that mail servers send as mail: delivery status notifications (RFC 3464), and complaints (ARF, RFC
5965).

Anybody can send a report. So it is read line by line, once, and only up to a bound, and every mail becomes either
events or a BadReport.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import a2b_qp
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

from jetq import JetqError
from jetq_email.feedback.events import Event, Kind, event
from jetq_email.message.address import ReturnPath

__all__ = ["LONGEST", "BadReport", "read_report"]

LONGEST = 256 * 1024
"""Bytes of a report that are read. A report says what it is about before it quotes the mail."""

_PROVIDER = "smtp"

_BOUNDARY = re.compile(r'\bboundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_ADDRESS = re.compile(r"[^\s<>,;:\"()]{1,320}@[^\s<>,;:\"()]{1,255}")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
"""The form of an address with characters beyond ASCII in 7 bits (RFC 6533 3)."""

_OF_THE_SENDER = frozenset({"1.7", "1.8"})
_OF_THE_MAIL = frozenset({"2.2", "2.3", "4.7"})
"""Subjects and details of a status (RFC 3463 3), here and in `_OF_THE_SENDER`, that do not say whether the address is
good: a bad sender, a full mailbox, a mail that is too long, a delivery time that is up."""

_OF_SOMETHING_ELSE = frozenset({"3", "6", "7"})
"""Subjects of a status about the server, the content or the policy. If these counted, a sender with a broken DKIM setup
would suppress everybody."""


class BadReport(JetqError):
    """A mail that is neither a readable delivery report nor a readable complaint."""


class _Part(Struct, frozen=True):
    """One part of a mail: its headers in order, with names in lower case, and its lines."""

    headers: Sequence[tuple[str, str]]
    lines: Sequence[bytes]

    def header(self, *names: str) -> str:
        """Return the first header with one of these names; an empty text if there is none."""
        return _first(self.headers, *names)

    @property
    def kind(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()


def read_report(raw: bytes, path: ReturnPath | None = None) -> list[Event]:
    """Return the events that the mail `raw` reports. Only its first 256 KiB are read. Raises BadReport, and no other
    error.

    path: the address that bounces go to. It may tell which recipient a mail was for.
    """
    report = _part(raw[:LONGEST].split(b"\n"))
    parts = list(_parts(report))
    original = _headers_of_original(parts)
    at, reference = _date(report.header("date")), _first(original, "message-id")
    statuses = [_decoded(each) for each in parts if each.kind in _STATUS_KINDS]
    complaints = [_decoded(each) for each in parts if each.kind == "message/feedback-report"]
    if statuses:
        groups = [group for each in statuses for group in _groups(each) if _first(group, "final-recipient")]
        sent_to = _sent_to(path, report.headers, *_TO) if len(groups) == 1 else None
        return [found for group in groups for found in _delivery(group, sent_to, at, reference)]
    if complaints:
        fields = [field for each in complaints for group in _groups(each) for field in group]
        sent_to = _sent_to(path, [*fields, *original], "original-mail-from", "return-path")
        return _complaint(fields, original, sent_to, at, reference)
    if told := _first([*report.headers, *original], _MICROSOFT):
        return event("complaint", told, _PROVIDER, at=at, reference=reference)
    raise BadReport(
        "the mail is no report of a delivery, and no complaint",
        hint="a report is multipart/report with a part message/delivery-status or message/feedback-report",
    )


_STATUS_KINDS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ORIGINAL_KINDS = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers"}
)
_TO = ("to", "delivered-to", "x-original-to")
_MICROSOFT = "x-hmxmroriginalrecipient"
"""The header that names the recipient in complaints of Outlook.com, which follow no standard."""


# --- lines, headers and parts


def _part(lines: Sequence[bytes]) -> _Part:
    headers, end = _fields(lines)
    return _Part(headers, lines[end:])


def _fields(lines: Sequence[bytes]) -> tuple[list[tuple[str, str]], int]:
    """Return the fields up to an empty line, unfolded, and the number of the line after it."""
    found: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        if not text.strip():
            return [(name, " ".join(values)) for name, values in found], number + 1
        name, colon, value = text.partition(":")
        if text[0] in " \t":
            if found:
                found[-1][1].append(text.strip())
        elif colon:
            found.append((name.strip().lower(), [value.strip()]))
    return [(name, " ".join(values)) for name, values in found], len(lines)


def _parts(report: _Part) -> Iterator[_Part]:
    """Yield the parts of a multipart mail; a part that is multipart itself stays whole. Yield nothing if the mail is
    none."""
    boundary = _BOUNDARY.search(report.header("content-type")[:2000])
    if boundary is None or not report.kind.startswith("multipart/"):
        return
    delimiter = b"--" + (boundary[1] or boundary[2]).encode()
    part: list[bytes] | None = None
    for line in report.lines:
        bare = line.rstrip()
        if bare in (delimiter, delimiter + b"--"):
            if part is not None:
                yield _part(part)
            part = []
        elif part is not None:
            part.append(line)
    if part is not None:
        yield _part(part)


def _decoded(part: _Part) -> Sequence[bytes]:
    """Return the lines of a part without its encoding. Some servers encode parts that do not need it."""
    encoding, content = part.header("content-transfer-encoding").lower(), b"\n".join(part.lines)
    if encoding == "base64":
        try:
            content = b64decode(content)
        except ValueError:
            return part.lines
    elif encoding == "quoted-printable":
        content = a2b_qp(content)
    return content.split(b"\n")


def _groups(lines: Sequence[bytes]) -> Iterator[list[tuple[str, str]]]:
    """Yield the groups of fields between empty lines. In a status the first group is about the whole mail, and each
    further group is about one recipient."""
    start = 0
    while start < len(lines):
        end = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
        fields, _ = _fields(lines[start:end])
        if fields:
            yield fields
        start = end + 1


def _first(fields: Iterable[tuple[str, str]], *names: str) -> str:
    return next((value for name, value in fields if name in names), "")


def _headers_of_original(parts: Sequence[_Part]) -> Sequence[tuple[str, str]]:
    """Return the headers of the mail that the report is about. The report holds that mail whole, or only its
    headers."""
    found = [_fields(_decoded(part))[0] for part in parts if part.kind in _ORIGINAL_KINDS]
    return found[0] if found else ()


def _date(text: str) -> datetime | None:
    try:
        read = parsedate_to_datetime(text[:100])
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# --- what they say


def _delivery(
    group: Sequence[tuple[str, str]], sent_to: str | None, at: datetime | None, reference: str
) -> list[Event]:
    """Return what became of one recipient. The address that we wrote to is preferred to an address that it was
    forwarded to."""
    address = sent_to or _typed(_first(group, "original-recipient")) or _typed(_first(group, "final-recipient"))
    detail = _first(group, "diagnostic-code") or _first(group, "status")
    return event(_kind(group), address, _PROVIDER, at=at, detail=detail, reference=reference)


def _kind(group: Sequence[tuple[str, str]]) -> Kind | None:
    action = _first(group, "action").lower()
    if action == "delivered":
        return "delivered"
    if action == "delayed":
        return "deferred"
    return None if action != "failed" else "bounce" if _is_hard(group) else "deferred"


def _is_hard(group: Sequence[tuple[str, str]]) -> bool:
    """Return whether the status says that the address is bad. A report without a status does not say so."""
    status = _STATUS.search(_first(group, "status")[:200])
    if status is None or status[1] != "5":
        return False
    code = f"{status[2]}.{status[3]}"
    return status[2] not in _OF_SOMETHING_ELSE and code not in _OF_THE_MAIL and code not in _OF_THE_SENDER


def _complaint(
    fields: Sequence[tuple[str, str]],
    original: Sequence[tuple[str, str]],
    sent_to: str | None,
    at: datetime | None,
    reference: str,
) -> list[Event]:
    """Return who complained, as the report or the mail that it is about says. No recipient is guessed."""
    if _first(fields, "feedback-type").lower() != "abuse":
        return []
    told = [value for name, value in fields if name == "original-rcpt-to"]
    to = _ADDRESS.findall(_first(original, "to")[:2000])
    address = (
        (told[0] if len(told) == 1 else "")
        or _first(original, _MICROSOFT)
        or sent_to
        or (to[0] if len(to) == 1 and not _first(original, "cc", "bcc") else "")
    )
    return event("complaint", _typed(address), _PROVIDER, at=at, reference=reference)


def _typed(text: str) -> str | None:
    """Return the address in `rfc822; <ann@example.com>`."""
    kind, semicolon, address = text[:1000].partition(";")
    found = (address if semicolon else kind).strip()
    if semicolon and kind.strip().lower() == "utf-8":
        found = _UNICODE.sub(lambda each: chr(min(int(each[1], 16), 0x10FFFF)), found)
    found = found.strip("<> ")
    return found if "@" in found else None


def _sent_to(path: ReturnPath | None, headers: Iterable[tuple[str, str]], *names: str) -> str | None:
    """Return the recipient of a mail, found in one of these headers as part of the address that bounces go to; None if
    no header has it."""
    found = [address for name, value in headers if name in names for address in _ADDRESS.findall(value[:1000])]
    read = [path.recipient_in(address) for address in found] if path is not None else []
    return next((each for each in read if each is not None), None)
