"""A store, and images made without a build: layers are tars of a few files."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from store.images import Image
from store.oci import ContainerConfig, HistoryEntry, ImageConfig
from store.reference import Reference
from store.root import Store

Files = Mapping[str, bytes]
AddImage = Callable[..., Image]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a new store."""
    with Store.open(tmp_path / "store") as store:
        yield store


def make_tar(files: Files) -> bytes:
    """Return a tar with regular files; a name that ends with a slash is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def tar_of() -> Callable[[Files], bytes]:
    """Return `make_tar`."""
    return make_tar


@pytest.fixture
def add_image() -> AddImage:
    """Return a function that stores an image of some layers, each given by its files."""

    def add(store: Store, *layers: Files, names: tuple[str, ...] = (), author: str = "") -> Image:
        diff_ids = tuple(store.layers.unpack([make_tar(files)]) for files in layers)
        config = ImageConfig(
            "amd64",
            "linux",
            author=author,
            config=ContainerConfig(cmd=("/bin/sh",), env=("A=<b>",)),
            diff_ids=diff_ids,
            history=tuple(HistoryEntry(created_by=f"layer {d}") for d in diff_ids),
        )
        return store.images.add(config, references=[Reference.parse(name) for name in names])

    return add
