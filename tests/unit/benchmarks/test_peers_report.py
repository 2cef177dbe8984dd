"""What `make bench-peers` says about its figures, without running a peer."""

from xml.etree import ElementTree

import pytest

from benchmarks.peers.chart import chart
from benchmarks.peers.report import Results, markdown, multiple, table
from benchmarks.peers.turns import DRAIN, P50, Measure


@pytest.fixture
def results() -> Results:
    found = Results({"machine": "a & b"})
    for rate in (1_000.0, 3_000.0, 2_000.0):
        found.note("jetq", Measure(DRAIN["loop"], rate))
    found.note("arq", Measure(DRAIN["loop"], 500.0))
    found.note("jetq", Measure(P50, 0.001))
    found.note("arq", Measure(P50, 0.004))
    found.note("saq", Measure(DRAIN["loop"], None, "drain: of 10 jobs 1 lost, 0 run twice"))
    return found


def test_the_median_is_quoted_and_the_best_comes_first(results: Results) -> None:
    assert list(results.medians(DRAIN["loop"]).items()) == [("jetq", 2_000.0), ("arq", 500.0)]
    assert list(results.medians(P50)) == ["jetq", "arq"]


def test_more_than_one_is_in_favour_of_jetq_whatever_the_unit(results: Results) -> None:
    for case in (DRAIN["loop"], P50):
        assert multiple(case, results.medians(case), "arq") == 4.0


def test_without_jetq_there_is_no_multiple(results: Results) -> None:
    assert multiple(DRAIN["loop"], {"arq": 500.0}, "arq") is None


def test_a_figure_whose_ledger_does_not_add_up_is_a_problem_and_no_figure(results: Results) -> None:
    assert "saq" not in results.medians(DRAIN["loop"])
    assert "of 10 jobs 1 lost" in table(results)
    assert "of 10 jobs 1 lost" in markdown(results)


def test_the_chart_is_svg_with_a_bar_for_each_figure(results: Results) -> None:
    root = ElementTree.fromstring(chart(results))
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 4
