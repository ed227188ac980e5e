"""Sizes and durations as people write them."""

import pytest

from pybuild.sizes import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("512MB", 512_000_000),
        ("10gb", 10_000_000_000),
        ("10 GB", 10_000_000_000),
        ("1.5k", 1500),
        ("1GiB", 1 << 30),
        ("2Ki", 2048),
        ("3TB", 3 * 10**12),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1x", "1GBB", "ten", "1e9", "10%"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("48h", 172_800),
        ("1h30m", 5400),
        ("60d", 5_184_000),
        ("1.5s", 1.5),
        ("0", 0),
        ("10ms", 0.01),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "5", "1h x", "-1h", "1w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)
