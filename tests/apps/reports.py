"""Reports as mail servers send them."""

from __future__ import annotations

__all__ = ["complaint", "delivery"]


def delivery(
    *groups: str,
    to: str = "bounces@shop.example",
    kind: str = "message/delivery-status",
    encoding: str = "7bit",
    status: str | None = None,
) -> bytes:
    """A delivery status notification with a group of fields for each recipient. status: in place of all groups."""
    whole = "\n\n".join(["Reporting-MTA: dns; mx.example.net\nArrival-Date: Tue, 3 Mar 2026 08:59:00 +0000", *groups])
    return "\r\n".join(
        f"""Return-Path: <>
From: Mail Delivery System <mailer-daemon@mx.example.net>
To: {to}
Date: Tue, 3 Mar 2026 10:00:00 +0100
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_b/1"

This is a MIME-encapsulated message.

--=_b/1
Content-Type: text/plain; charset=us-ascii

I am sorry. Final-Recipient: rfc822; nobody@example.com

--=_b/1
Content-Type: {kind}
Content-Transfer-Encoding: {encoding}

{whole if status is None else status}

--=_b/1
Content-Type: message/rfc822

Return-Path: <{to}>
Message-ID: <default+j1@shop.example>
To: somebody@example.com
Subject: Hello

Final-Recipient: rfc822; nobody@example.com
Action: failed
Status: 5.1.1

--=_b/1--
""".split("\n")
    ).encode()


def complaint(
    *fields: str, feedback: str = "abuse", original: str = "To: ann@example.com\nMessage-ID: <j1@shop.example>"
) -> bytes:
    """A complaint in the abuse reporting format about the mail `original`."""
    more = "".join(f"\n{field}" for field in fields)
    return f"""From: <feedback@isp.example>
To: abuse@shop.example
Date: Thu, 8 Mar 2026 14:00:00 -0400
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary=part1

--part1
Content-Type: text/plain

This is an email abuse report.

--part1
Content-Type: message/feedback-report

Feedback-Type: {feedback}
User-Agent: SomeGenerator/1.0
Version: 1{more}

--part1
Content-Type: message/rfc822

From: shop@shop.example
{original}
Subject: News

Spam!
--part1--
""".encode()
