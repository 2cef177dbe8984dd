"""The shop under test: its web application is called, its jobs run in memory."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from shop import charge, web

from jetq.testing import AppTester

ORDER = {"number": 42, "customer": "ann@example.com", "lines": [{"sku": "tea", "price": "4.50"}]}


def test_an_order_is_taken_and_charged(jetq_app: AppTester) -> None:
    with TestClient(web) as client:
        taken = client.post("/orders", json=ORDER)
        assert (taken.status_code, taken.json()) == (202, {"job": "order-42"})
        jetq_app.assert_enqueued(charge)
        assert client.get("/orders/42").json() == {"state": "queued", "receipt": None}

        assert jetq_app.run_until_empty().succeeded == 1
        assert client.get("/orders/42").json() == {"state": "succeeded", "receipt": {"order": 42, "total": "4.50"}}


def test_an_order_that_comes_twice_is_charged_once(jetq_app: AppTester) -> None:
    with TestClient(web) as client:
        for _ in range(2):
            assert client.post("/orders", json=ORDER).status_code == 202
    assert jetq_app.run_until_empty().succeeded == 1


@pytest.mark.parametrize("lines", [[], [{"sku": "tea", "price": "-1"}]])
def test_what_is_no_order_makes_no_job(jetq_app: AppTester, lines: list[dict[str, str]]) -> None:
    with TestClient(web) as client:
        assert client.post("/orders", json={**ORDER, "lines": lines}).status_code == 422
    jetq_app.assert_not_enqueued(charge)


def test_an_order_that_is_too_large_is_left_to_people(jetq_app: AppTester) -> None:
    with TestClient(web) as client:
        client.post("/orders", json={**ORDER, "lines": [{"sku": "ship", "price": "20000"}]})
        assert jetq_app.run_until_empty().dead == 1
        assert client.get("/orders/42").json()["state"] == "dead"
        assert client.get("/orders/43").status_code == 404
