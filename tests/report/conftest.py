"""A small run with every part of a report in it; the numbers are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up_report import made_up_report

from edgeprune.records import Layer, Report, Side


@pytest.fixture
def report() -> Report:
    return made_up_report()


@pytest.fixture
def estimated(report: Report) -> Report:
    """The same run on a device that nobody has at hand."""

    def guess(one: Side) -> Side:
        return replace(one, latency=replace(one.latency, estimated=True))

    return replace(
        report,
        target=replace(report.target, costs="estimated"),
        baseline=guess(report.baseline),
        final=guess(report.final),
    )


@pytest.fixture
def long(report: Report) -> Report:
    """A network of 160 layers."""
    layers = tuple(
        Layer(f"block{i}.conv", "conv2d", (64, 64), (64, 8 + i % 56), 100.0 + i, 50.0 + i)
        for i in range(160)
    )
    return replace(report, layers=layers)
