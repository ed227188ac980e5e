import pytest

from pybuild.cli.celltext import aligned, cells, clipped, plain_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m \x1b[2K\x1b[5Aup", "red up"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("10%\r50%\r100%\r", "100%"),
        ("a\tb", "a       b"),
        ("two\nlines", "two lines"),
        ("bell\x07back\x08\x00\x9b", "bellback"),
        ("\x1b", ""),
        ("日本語", "日本語"),
    ],
)
def test_nothing_is_left_that_moves_the_cursor(text: str, expected: str) -> None:
    assert plain_text(text) == expected


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1)])
def test_cells(text: str, width: int) -> None:
    assert cells(text) == width


def test_wide_characters_are_not_cut_in_half() -> None:
    assert clipped("日本語", 5) == "日本"
    assert clipped("abc", 2) == "ab"
    assert clipped("e\u0301e\u0301", 1) == "e\u0301"


def test_the_time_stands_at_the_right() -> None:
    assert aligned("日本語", "1.0s", 30) == "日本語" + " " * 20 + "1.0s"
    assert aligned("a long name that is cut", "1.0s", 24) == "a long name that is 1.0s"
    assert aligned("a long name", "1.0s", 8) == "a long n"
