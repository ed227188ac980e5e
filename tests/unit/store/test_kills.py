"""A kill between any two steps on names and archives leaves a store that `check` finds clean."""

import contextlib
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from store.archive import export_docker, export_oci, load
from store.check import check
from store.gc import collect
from store.images import Image
from store.oci import ImageConfig
from store.reference import Reference
from store.root import Store


def act(store: Store, action: str, archive: str) -> None:
    if action == "load":
        load(store, archive)
    elif action == "save":
        with open(archive, "wb") as file:
            export_oci(store, store.images.find("x:1"), file)
    elif action == "move":
        config = ImageConfig("amd64", "linux", author="new")
        store.images.add(config, references=[Reference.parse("x:1"), Reference.parse("y:1")])
    elif action == "remove":
        store.images.remove("x:1")


def status_of(store: Store, action: str, archive: str, point: str) -> int:
    """Return how a child that does `action` and is killed at `point` ends."""
    child = os.fork()
    if child == 0:
        os.environ["PYBUILD_STORE_KILL_AT"] = point
        with contextlib.suppress(BaseException):
            act(Store.open(store.root), action, archive)
        os._exit(99)  # never back into pytest
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


LOAD = [
    *("blob-synced", "blob-renamed", "layer-unpacked", "layer-recorded", "layer-renamed"),
    *("config-stored", "image-listed", "reference-written", "image-listed:2"),
]
SAVE = ["blob-synced", "blob-renamed", "blob-synced:2", "blob-synced:3", "blob-renamed:3"]
MOVE = ["config-stored", "image-listed", "reference-written", "image-listed:2"]
REMOVE = ["reference-removed", "image-unnamed", "image-removed"]
POINTS = [
    *(("load", point) for point in LOAD),
    *(("save", point) for point in SAVE),
    *(("move", point) for point in MOVE),
    *(("remove", point) for point in REMOVE),
]


@pytest.fixture
def archive(store: Store, add_image: Callable[..., Image], tmp_path: Path) -> Path:
    add_image(store, {"a": b"1"}, {"b": b"2" * 5000}, names=("x:1",))
    path = tmp_path / "archive.tar"
    with Store.open(tmp_path / "source") as source, open(path, "wb") as file:
        image = add_image(source, {"a": b"1"}, {"c": b"3"}, names=("x:1", "z:1"))
        export_docker(source, [image], file)
    return path


@pytest.mark.parametrize(("action", "point"), POINTS)
def test_a_kill_leaves_a_clean_store(
    store: Store, archive: Path, tmp_path: Path, action: str, point: str
) -> None:
    path = str(archive) if action == "load" else str(tmp_path / "out.tar")
    before = store.images.find("x:1").id
    status = status_of(store, action, path, point)
    assert status == -signal.SIGKILL, f"{point} was not reached"

    assert check(store, deep=True) == []
    names = {str(name) for image in store.images.list() for name in image.references}
    if action == "save":
        assert store.images.find("x:1").id == before
    if point in ("reference-removed", "image-unnamed"):
        assert names == set()
        assert [image.id for image in store.images.list()] == [before]
    collect(store)
    assert check(store, deep=True) == []
    # Whatever was cut off can simply be done again.
    with open(archive, "rb") as file:
        loaded = load(store, io.BytesIO(file.read()))
    assert {str(name) for _, name in loaded} == {
        "docker.io/library/x:1",
        "docker.io/library/z:1",
    }
    assert check(store, deep=True) == []
