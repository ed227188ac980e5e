from builder.errors import Place


def test_an_excerpt_has_nothing_for_the_terminal() -> None:
    place = Place("Dockerfile", 2, 2, ("FROM a", "COPY \x1b[31m\x07\t\udcff é", "RUN x"))
    assert place.excerpt().splitlines()[3] == "   2 | >>> COPY ?[31m?\t? é"


def test_an_excerpt_of_a_long_instruction_is_its_begin() -> None:
    source = ("FROM a", "COPY <<EOF /f", *(f"line {number}" for number in range(1000)), "EOF")
    rows = Place("Dockerfile", 2, 1003, source).excerpt().splitlines()
    assert rows[2:4] == ["   1 |     FROM a", "   2 | >>> COPY <<EOF /f"]
    assert rows[-2:] == ["     | … 979 more lines", "-" * 20]
