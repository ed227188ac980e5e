"""A registry in memory, for caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeregistry import FakeRegistry, serve

from store.root import Store


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    yield from serve()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened
