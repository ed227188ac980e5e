"""Filters: their words, their times, their labels."""

import pytest

from pybuild.engine.filters import Filters, moment
from pybuild.errors import PybuildError, UsageError

KNOWN = ("label", "label!", "until")


@pytest.mark.parametrize(
    ("words", "labels", "fits"),
    [
        ([], {}, True),
        (["label=a"], {}, False),
        (["label=a"], {"a": ""}, True),
        (["label=a=1"], {"a": "1"}, True),
        (["label=a=1"], {"a": "2"}, False),
        (["label=a", "label=b"], {"a": ""}, False),
        (["label!=a"], {"a": ""}, False),
        (["label!=a=1"], {"a": "2"}, True),
        (["LABEL=a=b=c"], {"a": "b=c"}, True),
    ],
)
def test_labels(words: list[str], labels: dict[str, str], fits: bool) -> None:
    assert Filters.parse(words, KNOWN).fit_labels(labels) is fits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", 1700000000.0),
        ("1700000000.5", 1700000000.5),
        ("10m", 400.0),
        ("1m30s", 910.0),
        ("0.5h", -800.0),
        ("1970-01-01T00:01:40Z", 100.0),
        ("1970-01-01T01:01:40+01:00", 100.0),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert moment(text, now_s=1000.0) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "h", "1x"])
def test_no_moments(text: str) -> None:
    with pytest.raises(PybuildError, match="invalid filter 'until="):
        moment(text)


def test_words_that_are_no_filters() -> None:
    with pytest.raises(UsageError, match="expected name=value"):
        Filters.parse(["label"], KNOWN)
    with pytest.raises(PybuildError, match="invalid filter 'x'"):
        Filters.parse(["x=1"], KNOWN)
    with pytest.raises(PybuildError, match="more than one until"):
        Filters.parse(["until=1h", "until=2h"], KNOWN).before_s()
