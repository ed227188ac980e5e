"""Damaged archives: `load` says BadArchive or loads what is whole, and nothing in between."""

import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from store.archive import export_docker, export_oci, load
from store.check import check
from store.errors import BadArchive
from store.images import Image
from store.root import Store

SEED = 20240229
ODD = [None, 1, -5, "", [], {}, True, 1e99, "\0", "\ud800", "../..", "sha256:" + "0" * 64]


def state(store: Store) -> list[Path]:
    return sorted(p for p in Path(store.root).rglob("*") if "locks" not in p.parts)


def bent(value: object, rng: random.Random) -> object:
    """Return a JSON value with one place changed, removed or doubled."""
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value))
        if rng.random() < 0.2:
            del value[key]
        else:
            value[key] = rng.choice(ODD) if rng.random() < 0.4 else bent(value[key], rng)
        return value
    if isinstance(value, list) and value:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            del value[place]
        elif rng.random() < 0.3:
            value.append(value[place])
        else:
            value[place] = bent(value[place], rng)
        return value
    return rng.choice(ODD)


def with_bent_document(data: bytes, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=buffer, mode="w") as target,
    ):
        bodies = {m.name: source.extractfile(m).read() for m in source if m.isfile()}  # type: ignore[union-attr]
        name = rng.choice([name for name, body in bodies.items() if body[:1] in b"{["])
        bodies[name] = json.dumps(bent(json.loads(bodies[name]), rng)).encode()
        for name, body in bodies.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            target.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def with_damage(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(damaged))
        way = rng.random()
        if way < 0.6:
            damaged[place] ^= 1 << rng.randrange(8)
        elif way < 0.8:
            del damaged[place : place + rng.randrange(600)]
        else:
            damaged[place:place] = rng.randbytes(rng.randrange(40))
    return bytes(damaged)


@pytest.mark.slow
def test_damaged_archives(
    store: Store,
    add_image: Callable[..., Image],
    tmp_path: Path,
    rounds: Callable[[int, int], int],
) -> None:
    image = add_image(store, {"a": b"1" * 300}, {"b": b"2"}, names=("x:1",))
    docker, oci = io.BytesIO(), io.BytesIO()
    export_docker(store, [image], docker)
    export_oci(store, image, oci, references=image.references)
    rng = random.Random(SEED)
    root, path = tmp_path / "other", tmp_path / "archive.tar"
    other = Store.open(root)
    empty = state(other)
    for number in range(rounds(20_000, 300)):
        whole = rng.choice([docker, oci]).getvalue()
        data = (with_damage if rng.random() < 0.5 else with_bent_document)(whole, rng)
        path.write_bytes(data)
        try:
            load(other, path if rng.random() < 0.5 else io.BytesIO(data))
        except BadArchive as error:
            assert "\n" not in str(error), f"round {number} of seed {SEED}"
            assert state(other) == empty, f"round {number} of seed {SEED}: {error}"
        else:
            assert check(other, deep=True) == [], f"round {number} of seed {SEED}"
            shutil.rmtree(root)
            other = Store.open(root)
