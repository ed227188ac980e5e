"""A whole request is remembered, and each thing that decides about its image makes it forgotten."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder import events
from builder.memo import identity_of
from builder.replay import replayed
from builder.request import BuildRequest, Output, SecretSource, SshSource
from pybuild.engine.engine import Engine
from store.reference import Reference
from values.classes import replace

pytestmark = pytest.mark.kernel

PROJECT = Path(__file__).parents[2]
SETTLED_NS = 150_000_000  # above what statcache takes for too young
DOCKERFILE = """\
FROM base:1 AS first
COPY files /files
FROM first
ARG WHO=me
COPY one.txt /
COPY --from=base:1 /base.txt /from-base
LABEL who=$WHO
MAINTAINER someone
"""


class House:
    """A store, a context, and the events of what was done last."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(str(folder / "store"))
        self.context = folder / "context"
        self.events: list[events.Event] = []
        write(self.context / "files/sub/b.txt", "b")
        write(self.context / "files/a.txt", "a")
        write(self.context / "files/ignored.log", "log")
        write(self.context / "one.txt", "one")
        write(self.context / "elsewhere/unused.txt", "u")
        write(self.context / "Dockerfile", DOCKERFILE)
        write(self.context / ".dockerignore", "**/*.log\n")
        (self.context / "files/link").symlink_to("a.txt")
        base = folder / "base"
        write(base / "base.txt", "base")
        write(base / "Dockerfile", "FROM scratch\nCOPY base.txt /\n")
        self.build(BuildRequest(context=str(base), tags=("base:1",)))
        write(base / "base.txt", "another")
        self.build(BuildRequest(context=str(base), tags=("base:2",)))
        self.request = BuildRequest(context=str(self.context), tags=("made:1",))

    def build(self, request: BuildRequest) -> str:
        self.events = []
        image_id = self.engine.build(request, self.events.append).image_id
        assert image_id is not None
        return image_id

    def remembered(self, request: BuildRequest | None = None) -> bool:
        """Do what is remembered of a request; tell whether anything is."""
        self.events = []
        done = replayed(self.engine.store, request or self.request, self.events.append)
        assert done is not None or not self.events, "half a build"
        return done is not None

    def image(self, name: str) -> str:
        return self.engine.store.images.find(name).id


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def settle(folder: Path) -> None:
    """Wait until every file is old enough for its state to be trusted."""
    paths = [folder, *folder.rglob("*")]
    newest = max(path.lstat().st_ctime_ns for path in paths)
    while time.time_ns() < newest + SETTLED_NS:
        time.sleep(0.01)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    settle(made.context)
    made.build(made.request)
    with made.engine:
        yield made


def test_the_second_build_is_remembered(house: House) -> None:
    image_id = house.image("made:1")
    assert house.remembered()
    assert house.image("made:1") == image_id


def rewritten(house: House) -> None:
    """Same name, size and mtime."""
    path = house.context / "files/a.txt"
    before = path.stat()
    path.write_text("z")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(house: House) -> None:
    """A directory gives way to a link to where it went."""
    (house.context / "files").rename(house.context / "moved")
    (house.context / "files").symlink_to("moved")


def retagged(house: House) -> None:
    house.engine.tag("base:2", "base:1")


def without_base_name(house: House) -> None:
    house.engine.tag("base:1", "kept:1")
    house.engine.remove_image("base:1")


def without_image(house: House) -> None:
    house.engine.remove_image("made:1", force=True)


def without_layer(house: House) -> None:
    store = house.engine.store
    store.layers.remove(store.images.find("made:1").config.diff_ids[-1])


CHANGES: dict[str, Callable[[House], object]] = {
    "bytes": rewritten,
    "new file": lambda h: write(h.context / "files/new.txt", "n"),
    "new file deeper": lambda h: write(h.context / "files/sub/new.txt", "n"),
    "removed": lambda h: (h.context / "files/sub/b.txt").unlink(),
    "renamed": lambda h: (h.context / "files/a.txt").rename(h.context / "files/c.txt"),
    "mode": lambda h: (h.context / "one.txt").chmod(0o600),
    "mode of a directory": lambda h: (h.context / "files/sub").chmod(0o700),
    "xattr": lambda h: os.setxattr(h.context / "one.txt", "user.x", b"1"),
    "directory for link": swapped,
    "link": lambda h: (
        (h.context / "files/link").unlink(),
        (h.context / "files/link").symlink_to("sub"),
    ),
    "file is a directory": lambda h: (
        (h.context / "one.txt").unlink(),
        (h.context / "one.txt").mkdir(),
    ),
    "Dockerfile": lambda h: write(h.context / "Dockerfile", f"{DOCKERFILE}# more\n"),
    "ignore file": lambda h: write(h.context / ".dockerignore", "files/sub\n"),
    "no ignore file": lambda h: (h.context / ".dockerignore").unlink(),
    "ignore file of its own": lambda h: write(h.context / "Dockerfile.dockerignore", "x\n"),
    "base means another image": retagged,
    "base has lost its name": without_base_name,
    "image removed": without_image,
    "layer removed": without_layer,
    "a later result": lambda h: h.build(replace(h.request, no_cache=True, tags=("later:1",))),
    "cache pruned": lambda h: h.engine.store.records.forget(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_just_this_is_no_longer_the_same(name: str, house: House) -> None:
    CHANGES[name](house)
    assert not house.remembered()


REQUESTS: dict[str, dict[str, Any]] = {
    "argument": {"build_args": (("WHO", "you"),)},
    "unused argument": {"build_args": (("OTHER", "x"),)},
    "epoch": {"build_args": (("SOURCE_DATE_EPOCH", "1"),)},
    "label": {"labels": (("a", "b"),)},
    "target": {"target": "first"},
    "platform": {"platform": "linux/arm/v7"},
    "network": {"network": "none"},
    "entitlement": {"allow": ("network.host",)},
    "no cache": {"no_cache": True},
    "pull": {"pull": True},
    "secret": {"secrets": (SecretSource("x", variable="HOME"),)},
    "ssh": {"ssh": (SshSource("default", ("/nowhere",)),)},
    "named context": {"contexts": (("first", "docker-image://base:2"),)},
    "Dockerfile from stdin": {"dockerfile": "-", "dockerfile_text": b"FROM base:2\n"},
    "another output": {"outputs": (Output("oci", (("dest", "-"),)),)},
    "pushed": {"outputs": (Output("registry"),)},
    "another directory": {"context": "elsewhere"},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_another_request_is_another(name: str, house: House) -> None:
    change = dict(REQUESTS[name])
    if "context" in change:
        change["context"] = str(house.context / change["context"])
    assert not house.remembered(replace(house.request, **change))


def test_another_key_schema_is_another_request(house: House) -> None:
    assert identity_of(house.request) == identity_of(house.request)
    assert identity_of(house.request) != identity_of(house.request, key_schema=0)


def test_the_content_of_named_contexts_and_their_ignore_files_count(house: House) -> None:
    named = house.context.parent / "named"
    write(named / "n.txt", "n")
    write(named / "m.txt", "m")
    write(house.context / "Dockerfile", "FROM scratch\nCOPY --from=named . /\n")
    request = replace(house.request, contexts=(("named", str(named)),))
    settle(named)
    house.build(request)
    assert house.remembered(request)
    write(named / ".dockerignore", "m.txt\n")
    assert not house.remembered(request)
    settle(named)
    house.build(request)
    assert house.remembered(request)
    write(named / "n.txt", "other")
    assert not house.remembered(request)


SAME: dict[str, Callable[[House], object]] = {
    "touched, unused": lambda h: (h.context / "elsewhere/unused.txt").touch(),
    "new, unused": lambda h: write(h.context / "elsewhere/new.txt", "n"),
    "new beside what is named": lambda h: write(h.context / "notes.md", "n"),
    "ignored": lambda h: write(h.context / "files/ignored.log", "more"),
}


@pytest.mark.parametrize("name", SAME)
def test_what_no_step_uses_does_not_count(name: str, house: House) -> None:
    SAME[name](house)
    assert house.remembered()


def test_a_pattern_sees_new_files(house: House) -> None:
    write(house.context / "Dockerfile", "FROM scratch\nCOPY files/*.txt /\n")
    settle(house.context)
    house.build(house.request)
    assert house.remembered()
    write(house.context / "files/z.txt", "z")
    assert not house.remembered()


def test_files_of_a_moment_ago_are_not_trusted(house: House) -> None:
    write(house.context / "one.txt", "new")
    house.build(house.request)
    assert not house.remembered()
    settle(house.context)
    house.build(house.request)
    assert house.remembered()


def test_tags_are_always_done(house: House) -> None:
    image_id = house.image("made:1")
    assert house.remembered(replace(house.request, tags=("made:2", "other/name:3")))
    assert house.image("made:2") == house.image("other/name:3") == image_id
    house.engine.tag("base:1", "made:1")
    assert house.remembered()
    assert house.image("made:1") == image_id
    assert [str(r) for r in house.engine.store.images.references(house.image("base:1"))] == [
        str(Reference.parse("base:1"))
    ]


def test_nobody_can_tell_it_from_a_build_that_was_cached(house: House) -> None:
    store = house.engine.store
    shutil.rmtree(store.folder.path("memos"))
    house.build(house.request)
    usual, usual_build = without_times(house.events), store.journal.builds(1)[0]
    assert any(isinstance(event, events.BuildWarning) for event in usual)
    assert house.remembered()
    assert without_times(house.events) == usual
    build = store.journal.builds(1)[0]
    assert build.build_id != usual_build.build_id
    same = {"build_id": "", "started_ns": 0, "ended_ns": 0}
    assert replace(build, **same) == replace(usual_build, **same)
    steps = [replace(s, **same) for s in store.journal.steps(build.build_id)]
    assert steps == [replace(s, **same) for s in store.journal.steps(usual_build.build_id)]
    assert all(step.status == "cached" for step in steps)


def without_times(found: list[events.Event]) -> list[events.Event]:
    """Return events without seconds and the build's name.

    Warnings come last: they are from several threads.
    """
    plain = [
        replace(event, seconds=0.0) if isinstance(event, events.StepDone) else event
        for event in found
        if not isinstance(event, events.BuildStarted)
    ]
    return sorted(plain, key=lambda event: isinstance(event, events.BuildWarning))


def test_what_is_used_is_kept_by_garbage_collection(house: House) -> None:
    before_ns = time.time_ns()
    assert house.remembered()
    records, journal = house.engine.store.records, house.engine.store.journal
    keys = {step.key for step in journal.steps(journal.builds(1)[0].build_id)}
    assert keys
    assert records.forget(unused_since_ns=before_ns) >= 0
    assert all(records.lookup(key) for key in keys)


def test_it_loads_neither_parser_nor_graph(house: House) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYBUILD_ROOT": house.engine.root}
    os.utime(Path(house.engine.root, "locks", "gc"))  # nobody looks for garbage for a minute now
    # As it is installed: what `python -m` imports itself is not ours.
    script = PROJECT / "bin" / "pybuild"
    argv = [sys.executable, "-X", "importtime", str(script), "build", "-t", "x:1"]
    done = subprocess.run(
        [*argv, str(house.context)], env=environment, capture_output=True, text=True, check=True
    )
    assert "CACHED" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "builder.replay" in imported
    assert not imported & {"lark", "networkx", "requests", "dataclasses", "builder.build", "ssl"}
    assert not imported & {"typing", "hashlib", "secrets", "random", "pybuild.engine.cachegc"}


@pytest.mark.parametrize("damage", [b"", b"\x00", b"garbage", None])
def test_a_damaged_memo_is_none(damage: bytes | None, house: House) -> None:
    # On a slow machine the builds of its base were remembered too.
    memos = Path(house.engine.store.folder.path("memos")).iterdir()
    memo = max(memos, key=lambda path: path.stat().st_mtime_ns)
    memo.write_bytes(memo.read_bytes()[:100] if damage is None else damage)
    assert not house.remembered()
    house.build(house.request)
    assert house.remembered()


def test_a_tag_that_is_none_is_said_before_anything_is_done(house: House) -> None:
    with pytest.raises(Exception, match="invalid tag"):
        house.remembered(replace(house.request, tags=("UPPER",)))
    assert house.events == []
