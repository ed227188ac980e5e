"""Secrets: where values come from, and that they do not come out again."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.request import SecretSource
from builder.secrets import MASK, Masker, Secrets


def test_where_values_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTH", "variable")
    for name in ("BOTH", "FILE", "other"):
        Path(name).write_bytes(b"file " + name.encode() + b"\xff\0")
    secrets = Secrets(
        (
            SecretSource("BOTH"),
            SecretSource("FILE"),
            SecretSource("a", path="other"),
            SecretSource("b", variable="BOTH"),
            SecretSource("c", variable="NOT_SET"),
            SecretSource("a2", path="FILE"),
            SecretSource("a2", path="other"),
        )
    )
    secrets.check()
    assert secrets.value("BOTH") == b"variable"
    assert secrets.value("FILE") == b"file FILE\xff\0"
    assert secrets.value("a") == secrets.value("a2") == b"file other\xff\0"
    assert secrets.value("b") == b"variable"
    assert secrets.value("c") is None
    assert secrets.value("unknown") is None


def test_a_value_is_read_once_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("first")
    secrets = Secrets((SecretSource("s", path=str(path)),))
    assert secrets.value("s") == b"first"
    path.write_text("second")
    assert secrets.value("s") == b"first"
    assert "first" not in repr(secrets)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="secret x: /none: no such file"):
        Secrets((SecretSource("x", path="/none"),)).check()
    with pytest.raises(BuildError, match=r"secret x: .*: is a directory"):
        Secrets((SecretSource("x", path=str(tmp_path)),)).value("x")
    with pytest.raises(BuildError, match="larger than 16 MiB"):
        Secrets((SecretSource("x", path="/dev/zero"),)).value("x")


def masked(values: list[bytes], *pieces: bytes) -> bytes:
    masker = Masker(values)
    return b"".join(masker.feed(piece) for piece in pieces) + masker.finish()


def test_masking() -> None:
    assert masked([b"secret\n"], b"a secret!") == b"a **** !".replace(b" !", b"!")
    assert masked([b"line one\r\nline two\n"], b"(line two) (line one)") == b"(****) (****)"
    assert masked([b"abc"], b"abc") == b"abc", "too short to be told from other text"
    assert masked([b"   \n"], b"      ") == b"      "
    assert masked([b"abcd", b"abcdef"], b"abcdef abcd") == b"**** ****"
    assert masked([], b"x") == b"x"


def test_only_what_may_be_a_secret_is_held_back() -> None:
    masker = Masker([b"abcdefgh"])
    assert masker.feed(b"line\nabc") == b"line\n"
    assert masker.feed(b"d") == b""
    assert masker.feed(b"x\n") == b"abcdx\n"
    assert masker.feed(b"abcdefgh") == MASK


@given(
    secret=st.binary(min_size=4, max_size=12),
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_no_cut_lets_a_secret_through(
    secret: bytes, before: bytes, after: bytes, cuts: list[int]
) -> None:
    word = secret.strip(b"\r\n")
    text = before + secret + after
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    found = masked([secret], *pieces)
    if len(word.strip()) >= 4 and not set(word) & set(MASK):
        assert word not in found
    if word not in text and secret not in text:
        assert found == text
