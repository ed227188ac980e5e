"""Whole requests, remembered: a build in which nothing changed ends without a parser or a graph.

Owns what a request is made of (`identity_of`), what is remembered of a finished build (`Memo`), and
what has to hold for it to count: every file of the context that was used is in the very state it
was in, every name of an image means the same image, and everything that the build made is there,
in the cache too.
What is not certain is a miss, and the build goes its usual way. Only builds are remembered whose
sources are of this machine; see `memorize`. A derived cache: it may be dropped at any time.

Imports little: this is most of what an unchanged build loads.
"""

import json
import marshal
import os
import sys
import time
from collections.abc import Sequence

from builder import derived
from builder.cachekey import KEY_SCHEMA
from builder.definition import (
    SourceTree,
    ignore_file_of,
    path_inside,
    read_dockerfile,
    read_small_file,
)
from builder.errors import ContextError
from builder.isolation import isolation_of
from builder.looked import Group, state_of
from builder.request import BuildRequest
from store.digest import Digest, digest_of, hex_of
from store.root import Store
from values.classes import dataclass, fields

VERSION = 4
# What a request may ask for; whatever else is given, nothing is looked up. tags are always done;
# jobs, tls_verify, ca_files and keep_failed mean nothing to what is made of files of this machine.
_COVERED = frozenset({"context", "contexts", "dockerfile", "dockerfile_text", "build_args"})
_COVERED |= {"labels", "target", "platform", "allow", "network", "sandbox"}
_COVERED |= {"tags", "jobs", "tls_verify", "ca_files", "keep_failed"}
FOLDER = "memos"

# An event, or a part of one: the name of its class and its values, or a plain value.
Packed = object
# The root of a tree, the directories on the way to what was named in it, what was selected there,
# and the digest of its state.
TreeState = tuple[str, tuple[str, ...], list[Group], str]
# What the journal has of a step: number, title, stage, number in the stage, details, cache key.
StepMemo = tuple[int, str, str, int, dict[str, object], str]
# A tag as it was given; registry, repository and tag of the reference; its record and the bytes.
TagMemo = tuple[str, tuple[str, str, str | None], str, bytes]


@dataclass(frozen=True, slots=True)
class Memo:
    """A finished build.

    dockerfile, context: what the journal calls them; ignored: the patterns of the ignore file, or
    None. there: files of the store that have to be
    there. same: files of the store with the bytes they have to hold.
    records: keys of the steps with the numbers of their newest records. said: the build's events
    up to its export, as they are when every step is cached. export_step: the export's number.
    manifest: what the image's record says of its manifest, JSON. metadata: as of a BuildResult.
    """

    image_id: str
    dockerfile: str
    context: str
    ignored: list[str] | None
    there: tuple[str, ...]
    same: tuple[tuple[str, bytes], ...]
    trees: tuple[TreeState, ...]
    steps: tuple[StepMemo, ...]
    records: tuple[tuple[str, int], ...]
    said: tuple[Packed, ...]
    export_step: int
    manifest: str
    metadata: tuple[tuple[str, object], ...]
    tags: tuple[TagMemo, ...]
    until_ns: int = 0


def identity_of(request: BuildRequest, key_schema: int = KEY_SCHEMA) -> Digest | None:
    """Return what names a request: all that decides about its image besides the files it uses.

    None for a request whose sources are not all on this machine, and for one that wants its steps
    run or its base images asked for. Tags and outputs are no part of it: they are always done.
    """
    if not _is_local(request):
        return None
    source = SourceTree(request.context, os.path.abspath(request.context))
    try:
        dockerfile = read_dockerfile(request, source)
        ignore_file = ignore_file_of(source, dockerfile)
        contexts = [(name, where, *_folder(where)) for name, where in request.contexts]
        ignored = ignore_file and read_small_file(ignore_file, "ignore file")
    except ContextError:
        return None  # whoever builds says what is wrong
    parts = (
        (VERSION, key_schema, program(), sys.version_info[:3], os.uname().machine),
        (_real(request.context), dockerfile.name, dockerfile.path, dockerfile.data),
        (ignore_file, ignored, contexts),
        (request.build_args, request.labels, request.target, request.platform),
        (request.allow, request.network, request.sandbox, isolation_of(request.sandbox)),
    )
    return digest_of(repr(parts).encode("utf-8", "surrogateescape"))


def _is_local(request: BuildRequest) -> bool:
    """Tell whether a request asks for nothing but what is in its identity, or is always done."""
    for each in fields(request):
        if each.name not in _COVERED and getattr(request, each.name) != each.default:
            return False
    is_address = request.dockerfile is not None and "://" in request.dockerfile
    return not is_address and os.path.isdir(request.context)


def _folder(where: str) -> tuple[str, bytes]:
    """Return the real path of a named context that is a folder, and its ignore rules."""
    if not os.path.isdir(where):
        return "", b""
    path = path_inside(where, ".dockerignore")
    rules = read_small_file(path, "ignore file") if os.path.exists(path) else b""
    return _real(where), rules


def _real(path: str) -> str:
    return os.path.realpath(path)


def program() -> tuple[tuple[str, int, int], ...]:
    """Return what tells this program from others: the files of its rooms, their sizes and times.

    Asking for the installed version takes ten times as long, and says less while one is at work.
    """
    house = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = []
    folders = [os.path.join(house, room) for room in ("builder", "grammar", "store", "runtime")]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".lark", ".json")):
                    status = entry.stat()
                    found.append((entry.name, status.st_size, status.st_mtime_ns))
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
    return tuple(sorted(found))


def path_of(store: Store, identity: Digest) -> str:
    """Return where the memo of a request is kept."""
    return store.folder.path(FOLDER, hex_of(identity))


def recall(store: Store, identity: Digest) -> Memo | None:
    """Return what is remembered of a request if all of it still holds.

    The caller holds a lease, so that what was there stays there.
    """
    data = derived.read(path_of(store, identity))
    if data is None:
        return None
    memo = Memo(*marshal.loads(data))
    if memo.until_ns and time.time_ns() >= memo.until_ns:
        return None
    held = all(os.path.exists(store.folder.path(name)) for name in memo.there)
    held = held and all(holds(store, name, data) for name, data in memo.same)
    held = held and manifest_of(store, memo.image_id) == memo.manifest
    held = held and all(_is_as_it_was(tree) for tree in memo.trees)
    # What was pruned from the cache, or has another result by now, is for the usual way.
    keys = [key for *_, key in memo.steps]
    return memo if held and store.records.newest(keys) == memo.records else None


def manifest_of(store: Store, image_id: str) -> str | None:
    """Return what the record of an image says of its manifest, None without a record."""
    try:
        with open(store.folder.path("images", "ids", f"{image_id[7:]}.json"), "rb") as file:
            return json.dumps(json.load(file)["manifest"], sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def holds(store: Store, name: str, data: bytes) -> bool:
    """Tell whether a file of the store has exactly these bytes."""
    try:
        with open(store.folder.path(name), "rb", buffering=0) as file:
            return file.read() == data
    except OSError:
        return False


def _is_as_it_was(tree: TreeState) -> bool:
    root, ways, groups, digest = tree
    return state_of(root, groups, ways) == digest


def tags_that_lead(store: Store, memo: Memo, tags: Sequence[str]) -> list[TagMemo] | None:
    """Return what is remembered of tags that lead to the image already, None if any does not."""
    known = {tag[0]: tag for tag in memo.tags}
    found = [known[tag] for tag in dict.fromkeys(tags) if tag in known]
    if len(found) != len({*tags}) or not all(holds(store, tag[2], tag[3]) for tag in found):
        return None
    return found
