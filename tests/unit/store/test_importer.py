import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from store.archive import import_rootfs
from store.check import check
from store.digest import digest_of
from store.errors import BadArchive
from store.oci import ContainerConfig, Platform
from store.reference import Reference
from store.root import Store

TarOf = Callable[..., bytes]


def test_one_layer_with_the_tars_digest(store: Store, tar_of: TarOf) -> None:
    tar = tar_of({"etc/": b"", "etc/passwd": b"root"})
    image = import_rootfs(
        store,
        io.BytesIO(gzip.compress(tar)),
        reference=Reference.parse("base:1"),
        changes=ContainerConfig(cmd=("/bin/sh",)),
        message="made by hand",
        platform=Platform("linux", "arm64", "v8"),
    )
    assert image.config.diff_ids == (digest_of(tar),)
    assert image.config.config.cmd == ("/bin/sh",)
    assert image.config.platform == Platform("linux", "arm64", "v8")
    (entry,) = image.config.history
    assert entry.comment == "made by hand"
    assert entry.created == image.config.created
    assert store.images.find("base:1") == image
    assert check(store, deep=True) == []


def test_without_a_name(store: Store, tar_of: TarOf) -> None:
    image = import_rootfs(store, io.BytesIO(tar_of({"a": b"1"})))
    assert image.references == ()
    assert image.config.history[0].comment == "Imported from -"
    again = import_rootfs(store, io.BytesIO(tar_of({"a": b"1"})))
    assert again.config.diff_ids == image.config.diff_ids


def test_a_broken_tar_changes_nothing(store: Store, tar_of: TarOf) -> None:
    tar = tar_of({"a": b"1" * 5000})
    for data in (tar[:3000], gzip.compress(tar)[:-9], b"no tar" * 200, tar_of({"../a": b"1"})):
        with pytest.raises(BadArchive, match=r"^import: "):
            import_rootfs(store, io.BytesIO(data), reference=Reference.parse("x"))
        assert store.images.list() == []
        assert list(store.layers.iter()) == []
        assert list(Path(store.root, "tmp").iterdir()) == []
