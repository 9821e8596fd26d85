"""Filters of lists, as people write them."""

from __future__ import annotations

import pytest

from windlass.errors import UserErrorException
from windlassd.control.filters import as_text, metric_filter
from windlassd.store.base import MetricFilter


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("loss<0.1", MetricFilter("loss", "last", "<", 0.1)),
        (" val/loss >= 1e-3 ", MetricFilter("val/loss", "last", ">=", 0.001)),
        ("min( val loss )!=-2", MetricFilter("val loss", "min", "!=", -2.0)),
        ("max(f(x))==3", MetricFilter("f(x)", "max", "=", 3.0)),
        ("last(min(x))<inf", MetricFilter("min(x)", "last", "<", float("inf"))),
        ("seconds per epoch=7", MetricFilter("seconds per epoch", "last", "=", 7.0)),
    ],
)
def test_a_filter_is_read_and_written(text: str, wanted: MetricFilter) -> None:
    assert metric_filter(text) == wanted
    assert metric_filter(as_text(wanted)) == wanted


@pytest.mark.parametrize("text", ["", "loss", "loss<", "<0.1", "loss<low", "loss<nan", "0.1>=loss"])
def test_what_is_no_filter_is_told_how_one_looks(text: str) -> None:
    with pytest.raises(UserErrorException, match=r"'loss<0\.1'"):
        metric_filter(text)
