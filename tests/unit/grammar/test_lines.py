import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import DockerfileSyntaxError
from grammar.lines import heredoc_of, read, read_one


def test_offsets_lead_back_to_lines_and_columns() -> None:
    source = read(b"FROM a\n\n  RUN abc \\\n# comment\n\n  de\\\n\tf\n", "Dockerfile")
    line = source.logical[1]
    assert line.text == "RUN abc   de\tf"
    places = {text: line.locate(line.text.index(text)) for text in ("RUN", "abc", "de", "f")}
    assert places == {"RUN": (3, 3), "abc": (3, 7), "de": (6, 3), "f": (7, 2)}
    assert (line.span.first_line, line.span.last_line) == (3, 7)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", ("EOF", True, False, None)),
        ("3<<-EOF", ("EOF", True, True, 3)),
        ("<<'EOF'", ("EOF", False, False, None)),
        ('<<-"E F"', ("E F", False, True, None)),
        ("<<E'O'F", ("EOF", False, False, None)),
        ("<<E\\OF", ("EOF", True, False, None)),
        ("<<a/b>c", ("a/b>c", True, False, None)),
    ],
)
def test_heredoc_of(word: str, expected: tuple[str, bool, bool, int | None]) -> None:
    found = heredoc_of(word)
    assert found is not None
    assert (found.name, found.expand, found.strip_tabs, found.fd) == expected


@pytest.mark.parametrize("word", ["<<", "<<-", "a<<EOF", "<EOF", "<<<EOF", "<<''", "x", "<<E F"])
def test_no_heredoc(word: str) -> None:
    assert heredoc_of(word) is None


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_is_named(mark: bytes) -> None:
    with pytest.raises(DockerfileSyntaxError, match="UTF-16") as caught:
        read(mark + b"F\0", "x")
    assert (caught.value.name, caught.value.line, caught.value.column) == ("x", 1, None)


def test_only_a_newline_ends_a_line() -> None:
    text = "RUN a\x0cb\u2028c\x85d\re\n"
    assert read(text.encode(), "x").logical[0].text == text.rstrip()


def test_directives_are_not_looked_for_in_triggers() -> None:
    assert read_one("# escape=`\nRUN a \\\n b", "\\", "x").logical[0].text == "RUN a  b"


fragments = st.lists(
    st.sampled_from(
        [
            "RUN a",
            "COPY <<E /x",
            "E\n",
            "\n",
            "\\\n",
            " ",
            "#c",
            "`\n",
            "\t",
            "x",
            "\r\n",
            "é",
            "<<-E",
        ]
    ),
    max_size=20,
).map("".join)


@given(fragments)
def test_every_character_comes_from_where_it_says(text: str) -> None:
    try:
        source = read(text.encode(), "x")
    except DockerfileSyntaxError:
        return
    for logical in source.logical:
        for offset, char in enumerate(logical.text):
            line, column = logical.locate(offset)
            assert source.physical[line - 1][column - 1] == char


@given(fragments)
def test_every_line_has_one_place(text: str) -> None:
    try:
        source = read(text.encode(), "x")
    except DockerfileSyntaxError:
        return
    last = 0
    for logical in source.logical:
        assert last < logical.span.first_line <= logical.span.last_line <= len(source.physical)
        last = logical.span.last_line
