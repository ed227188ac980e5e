"""Values of secrets in bytes: found wherever they lie, and nothing else is."""

import base64
import itertools

from hypothesis import given
from hypothesis import strategies as st

from builder.secretsearch import StreamSearch, encodings, needles_of

VALUE = b"correct-horse-battery\xff\xfe\xfd staple"
values = st.binary(min_size=8, max_size=80).filter(lambda v: len(v.strip()) >= 8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def found(value: bytes, pieces: list[bytes]) -> set[str]:
    search = StreamSearch(needles_of({"id": value}))
    for piece in pieces:
        search.feed(piece)
    return search.found


@given(values, st.binary(max_size=50), st.binary(max_size=50), st.lists(st.integers(0, 999)))
def test_a_value_across_pieces(
    value: bytes, before: bytes, after: bytes, places: list[int]
) -> None:
    assert found(value, cut(before + value.rstrip(b"\r\n") + after, places)) == {"id"}


@given(
    values,
    st.binary(max_size=50),
    st.binary(max_size=50),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes]),
    st.lists(st.integers(0, 999)),
)
def test_a_value_in_base64_wherever_it_begins(
    value: bytes, before: bytes, after: bytes, encode, places: list[int]
) -> None:
    assert found(value, cut(encode(before + value + after), places)) == {"id"}


@given(values, st.data())
def test_with_one_byte_changed_it_is_not_found(value: bytes, data: st.DataObject) -> None:
    trimmed = value.rstrip(b"\r\n")
    at = data.draw(st.integers(0, len(trimmed) - 1))
    other = trimmed[:at] + bytes([trimmed[at] ^ 1]) + trimmed[at + 1 :]
    needles = needles_of({"id": value})
    assert not any(needle in other for _, needle in needles.plain)


def test_the_line_end_at_the_end_does_not_count() -> None:
    assert found(VALUE + b"\r\n", [b"x" + VALUE + b"x"]) == {"id"}


def test_which_secret_it_is() -> None:
    needles = needles_of({"a": b"a" * 8, "b": b"b" * 8, "short": b"1234567", "blank": b" " * 9})
    assert needles.found_in(b"aaaaaaaa bbbbbbb 1234567          ") == {"a"}
    assert needles.found_in_text("x" + "b" * 8) == {"b"}
    assert not needles_of({"short": b"1234567"})


def test_what_is_hidden_is_not_legible() -> None:
    needles = needles_of({"a": VALUE})
    encoded = base64.b64encode(b"x" + VALUE).decode()
    text = needles.hidden(f"a {VALUE.decode('utf-8', 'surrogateescape')} b {encoded} c")
    assert not needles.found_in_text(text)
    assert text.startswith("a **** b ")
    assert text.endswith(" c")


def test_encodings_are_parts_of_every_encoding() -> None:
    for before in range(3):
        text = base64.b64encode(b"y" * before + VALUE + b"z")
        assert any(part in text for part in encodings(VALUE))
