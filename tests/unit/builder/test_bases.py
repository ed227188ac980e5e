"""Base images: those of the store need no registry, and a registry that is silent is an error."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import events
from builder.bases import Bases, StoredBases
from builder.errors import BaseImageNotFound, Place
from builder.request import BuildRequest
from builder.site import Progress
from store import platforms
from store.oci import ImageConfig
from store.reference import Reference
from store.root import Store

PLACE = Place("Dockerfile", 3, 3)
OWN = str(platforms.host())
NOBODY = Reference.parse("127.0.0.1:1/base:1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def bases(store: Store, seen: list[events.Event], *, pull: bool = False) -> Bases:
    request = BuildRequest(context=".", pull=pull)
    return Bases(store, request, Progress(seen.append))


def test_an_image_of_the_store_is_not_asked_for(store: Store) -> None:
    seen: list[events.Event] = []
    image = store.images.add(ImageConfig("amd64", "linux"), references=[NOBODY])
    assert bases(store, seen).image(NOBODY, PLACE, OWN).id == image.id
    assert StoredBases(store).image(NOBODY, PLACE, OWN).id == image.id
    assert seen == []


@pytest.mark.parametrize("is_here", [False, True])
def test_a_registry_that_is_not_there(is_here: bool, store: Store) -> None:
    if is_here:
        store.images.add(ImageConfig("amd64", "linux"), references=[NOBODY])
    seen: list[events.Event] = []
    with pytest.raises(BaseImageNotFound) as caught:
        bases(store, seen, pull=is_here).image(NOBODY, PLACE, OWN)
    missing = "" if is_here else "image not found in the store, and it "
    assert str(caught.value) == (
        f"Dockerfile:3: 127.0.0.1:1/base:1: {missing}cannot be pulled: "
        "registry 127.0.0.1:1: connection refused"
    )
    started, failed = seen
    assert started == events.StepStarted(1, "[internal] pull 127.0.0.1:1/base:1")
    assert isinstance(failed, events.StepFailed)


def test_without_a_registry(store: Store) -> None:
    with pytest.raises(BaseImageNotFound, match="image not found in the store"):
        StoredBases(store).image(NOBODY, PLACE, OWN)
