import pytest

from builder.gotext import duration, quoted, quoted_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '""'),
        ("a b", '"a b"'),
        ('"', r'"\""'),
        ("'", '"\'"'),
        ("\\", r'"\\"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\0\x1f\x7f", r'"\x00\x1f\x7f"'),
        ("é€😀", '"é€😀"'),
        ("\u200b\u00a0\U000e0001", r'"\u200b\u00a0\U000e0001"'),
        ("\udcff", r'"\xff"'),
    ],
)
def test_quoted(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_quoted_list() -> None:
    assert quoted_list(()) == "[]"
    assert quoted_list(("a", "b c")) == '["a" "b c"]'


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (1_000_000, "1ms"),
        (500_000_000, "500ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (5_400_000_000_001, "1h30m0.000000001s"),
    ],
)
def test_duration(nanoseconds: int, expected: str) -> None:
    assert duration(nanoseconds) == expected
