"""Is a build reproducible: build twice under changed conditions, and name the first difference.

The second build runs later, on one processor, with another umask of ours. Its steps see another
time zone, locale and hostname, unless the image sets them, and the context is a copy whose files
were made in another order. Times are compared as `rewrite-timestamp` makes them: what is later than
SOURCE_DATE_EPOCH, or than the beginning of the first build, is no difference.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from builder.build import build
from builder.events import OnEvent
from builder.export.forms import EPOCH_ARG, epoch_of
from builder.request import BuildRequest, Output
from builder.variability import known_cause
from runtime.cancel import Cancel
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest
from store.root import Store
from store.tarreader import TarReader
from values.classes import dataclass, replace

_LARGEST_COPY_BYTES = 2 << 30
_APART_S = 2.0  # file times in layers are whole seconds
_HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
_ENVIRONMENT = (("TZ", "Pacific/Kiritimati"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "tr_TR.UTF-8"))
_UMASK = 0o077

# What a file is, by its path: kind and mode, owner, time, target, xattrs, digest of its bytes.
Files = dict[bytes, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Made:
    """One step of one build: where it stands, and the layer it made."""

    number: int
    title: str
    stage: str
    step: int
    line: int
    diff_id: DiffID
    parent: tuple[DiffID, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step whose files differ. what: the properties of `path` that do.

    others: how many more files of the step differ. cause: what is known to make such a file so.
    """

    made: Made
    path: str
    what: tuple[str, ...]
    others: int
    cause: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. conditions: what was changed, in words. difference: None if there is none.

    advice: what the request lacks for images with equal digests.
    """

    steps: int
    conditions: tuple[str, ...]
    difference: Difference | None
    advice: str | None = None


def reproduce(store: Store, request: BuildRequest, on_event: OnEvent, cancel: Cancel) -> Verdict:
    """Build `request` twice and compare the layers. Raises what a build raises."""
    plain = replace(
        request,
        no_cache=True,
        outputs=(Output("cacheonly"),),
        tags=(),
        stage_tags=(),
        cache_from=(),
        cache_to=(),
    )
    epoch_s = epoch_of(request)
    epoch_s = int(time.time()) if epoch_s is None else epoch_s
    with store.lease():
        first = made_by(store, build(store, plain, on_event, cancel).build_id)
        # Not in the same second, or a date would be taken for something that does not change.
        time.sleep(_APART_S)
        with disturbed(store, plain) as (other, conditions):
            second = made_by(store, build(store, other, on_event, cancel).build_id)
        difference = first_difference(store, first, second, epoch_s)
    return Verdict(len(first), conditions, difference, advice(request))


def made_by(store: Store, build_id: str) -> list[Made]:
    """Return the steps of a build that made layers, in the order in which they stand."""
    found = []
    for row in store.journal.steps(build_id):
        records = [r for r in store.records.lookup(Digest(row.key)) if r.build_id == build_id]
        if records and row.status in ("done", "adopted"):
            found.append(_made(row.number, records[0], int(str(row.details.get("line") or 0))))
    return sorted(found, key=lambda made: (made.line, made.number))


def _made(number: int, record: BuildRecord, line: int) -> Made:
    parent = record.ingredients.get("parent")
    chain = tuple(DiffID(str(item)) for item in parent) if isinstance(parent, list) else ()
    return Made(number, record.title, record.stage, record.step, line, record.diff_ids[-1], chain)


@contextmanager
def disturbed(
    store: Store, request: BuildRequest
) -> Iterator[tuple[BuildRequest, tuple[str, ...]]]:
    """Change the conditions; yield the request for them, and what they are in words."""
    conditions = ["two seconds later and more", "TZ, LANG and LC_ALL", f"our umask {_UMASK:04o}"]
    args = request.build_args
    if not any(name == _HOSTNAME for name, _ in args):
        args = (*args, (_HOSTNAME, "elsewhere"))
        conditions.append("hostname")
    sandbox = replace(request.sandbox, env=_ENVIRONMENT)
    changed = replace(request, build_args=args, sandbox=sandbox)
    cores, umask = os.sched_getaffinity(0), os.umask(_UMASK)
    folder = tempfile.mkdtemp(prefix="repro-", dir=store.folder.path("tmp"))
    try:
        if os.path.isdir(request.context) and _size(request.context) <= _LARGEST_COPY_BYTES:
            copy = os.path.join(folder, "context")
            copy_backwards(request.context, copy)
            changed = replace(changed, context=copy, dockerfile=_dockerfile(request, copy))
            conditions.append("order of the context's directories")
        if len(cores) > 1:
            os.sched_setaffinity(0, {min(cores)})
            conditions.append("one processor")
        yield changed, tuple(conditions)
    finally:
        os.umask(umask)
        os.sched_setaffinity(0, cores)
        shutil.rmtree(folder, ignore_errors=True)


def _dockerfile(request: BuildRequest, copy: str) -> str | None:
    """Return where the Dockerfile is when the context is at `copy`."""
    name = request.dockerfile
    if name is None or name == "-" or os.path.exists(name):
        return name
    return os.path.join(copy, name)


def _size(folder: str) -> int:
    found = 0
    for root, _, names in os.walk(folder):
        for name in names:
            found += os.lstat(os.path.join(root, name)).st_size
    return found


def copy_backwards(source: str, target: str) -> None:
    """Copy a tree so that its files are made in the opposite order of their names."""
    os.mkdir(target)
    for name in sorted(os.listdir(source), reverse=True):
        here, there = os.path.join(source, name), os.path.join(target, name)
        if os.path.isdir(here) and not os.path.islink(here):
            copy_backwards(here, there)
        elif os.path.islink(here) or os.path.isfile(here):
            shutil.copy2(here, there, follow_symlinks=False)
    shutil.copystat(source, target)


# -- comparing


def first_difference(
    store: Store, first: list[Made], second: list[Made], epoch_s: int
) -> Difference | None:
    """Return the first step, in the order of the file, whose layer has other files."""
    others = {(made.stage, made.step, made.title): made for made in second}
    for made in first:
        other = others.get((made.stage, made.step, made.title))
        if other is None or other.diff_id == made.diff_id:
            continue
        one, two = (files_of(store, item.diff_id, epoch_s) for item in (made, other))
        paths = [path for path in sorted(one.keys() | two.keys()) if one.get(path) != two.get(path)]
        if not paths:
            continue
        path = paths[0]
        what = _properties(one.get(path), two.get(path))
        shown = "/" + os.fsdecode(path)
        return Difference(made, shown, what, len(paths) - 1, known_cause(shown, what))
    return None


def files_of(store: Store, diff_id: DiffID, epoch_s: int) -> Files:
    """Return the files of a layer, no time later than `epoch_s`."""
    found: Files = {}
    reader = TarReader(store.layers.stream_tar(diff_id))
    while (member := reader.next()) is not None:
        digest = hashlib.sha256()
        for chunk in reader.body():
            digest.update(chunk)
        found[member.name.rstrip(b"/")] = {
            "kind": member.kind,
            "mode": member.mode,
            "owner": (member.uid, member.gid),
            "size": member.size_bytes,
            "content": digest.digest(),
            "time": min(member.mtime_ns // 1_000_000_000, epoch_s),
            "link target": member.target,
            "device": (member.major, member.minor),
            "extended attributes": member.xattrs,
        }
    return found


def _properties(one: dict[str, object] | None, two: dict[str, object] | None) -> tuple[str, ...]:
    if one is None or two is None:
        return ("only the second build has it" if one is None else "only the first build has it",)
    return tuple(name for name in one if one[name] != two[name])


def advice(request: BuildRequest) -> str | None:
    """Return what a request lacks for images with equal digests."""
    if epoch_of(request) is None:
        return f"set {EPOCH_ARG} and use --output …,rewrite-timestamp=true for equal digests"
    return None
