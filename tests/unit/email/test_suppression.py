"""Who gets no mail, as values."""

from __future__ import annotations

import pytest

from jetq_email.suppression import _read, address_hash


def test_an_address_has_one_hash_in_any_form() -> None:
    forms = ["Ann@Example.com", " ann@example.COM", "Ann <ann@example.com>"]
    assert {address_hash(form) for form in forms} == {address_hash("ann@example.com")}
    assert address_hash("ann@straße.de") == address_hash("ann@xn--strae-oqa.de")
    assert address_hash("ann@example.com") != address_hash("ann@example.org")
    assert len(address_hash("no address at all")) == 40


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[1]", b'{"reason": "odd", "source": "x", "at": 1}'])
def test_a_record_that_nobody_can_read_suppresses(value: bytes) -> None:
    assert _read(value, "ab").reason == "manual"
    assert _read(value, "ab").hash == "ab"
