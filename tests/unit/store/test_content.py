import os
from pathlib import Path

import pytest

from store.digest import Digest, digest_of
from store.errors import Corrupt, NotFound
from store.root import Store

ABSENT = digest_of(b"absent")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def scratch(store: Store) -> list[str]:
    return os.listdir(Path(store.root) / "tmp")


def test_put_and_get(store: Store) -> None:
    digest = store.content.put(b"hello")
    assert digest == digest_of(b"hello")
    assert store.content.put(b"hello") == digest
    assert store.content.has(digest)
    assert store.content.size(digest) == 5
    assert store.content.get(digest) == b"hello"
    with store.content.open(digest) as file:
        assert file.read() == b"hello"
    assert list(store.content.iter()) == [digest]
    assert scratch(store) == []


def test_ingest_a_stream(store: Store) -> None:
    chunks = [b"x" * 1000] * 1000
    digest, size = store.content.ingest(iter(chunks))
    assert (digest, size) == (digest_of(b"x" * 1_000_000), 1_000_000)
    assert store.content.get(digest) == b"x" * 1_000_000


def test_other_bytes_than_expected_are_not_stored(store: Store) -> None:
    with pytest.raises(Corrupt, match="the bytes that came have digest"):
        store.content.ingest([b"x"], ABSENT)
    assert list(store.content.iter()) == []
    assert scratch(store) == []


def test_a_writer_left_early_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.content.writer() as writer:
        writer.write(b"half")
        raise RuntimeError
    assert list(store.content.iter()) == []
    assert scratch(store) == []


def test_damage_is_found(store: Store) -> None:
    digest = store.content.put(b"hello")
    Path(store.content.path(digest)).write_bytes(b"hellO")
    with pytest.raises(Corrupt, match=digest):
        store.content.get(digest)


def test_absent(store: Store) -> None:
    assert not store.content.has(ABSENT)
    for ask in (store.content.get, store.content.size, store.content.open):
        with pytest.raises(NotFound, match=ABSENT):
            ask(ABSENT)
    store.content.remove(ABSENT)


def test_a_digest_cannot_lead_elsewhere(store: Store) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        store.content.path(Digest("sha256:../../../etc/passwd"))
