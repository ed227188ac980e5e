"""Machines that share a cache: stores of their own, one registry that counts what it gives."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakeregistry import FakeRegistry, serve


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    yield from serve()


@pytest.fixture
def machine(pybuild, busybox_rootfs: Path, tmp_path: Path) -> Callable[..., object]:
    """Return a function: machine("a") runs pybuild on a store of its own that has busybox."""
    made: dict[str, object] = {}
    archive = tmp_path / "busybox.tar"
    pybuild("import", busybox_rootfs, "busybox:test")
    pybuild("save", "-o", archive, "busybox:test")

    def get(name: str, *, has_base: bool = True):
        if name not in made:
            root = tmp_path / f"store-{name}"
            made[name] = type(pybuild)(root, {"HOME": str(tmp_path / f"home-{name}")})
            if has_base:
                made[name]("load", "-q", "-i", archive)
        return made[name]

    return get
