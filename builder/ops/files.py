"""COPY, ADD and WORKDIR as steps: their keys and how their layers are made."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from builder.contenthash import Entry, Match, Selection
from builder.errors import InstructionError, SourceNotFound
from builder.lint import semantics
from builder.ops.copyfiles import CopyRefused, Target, copy_match
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.ops.unpackarchive import is_archive, unpack_archive
from builder.ownership import find_owner, parse_chmod
from builder.rootpath import make_dirs
from builder.site import FetchedFile, Result, Site, Step
from builder.tree import PathNotFound, Tree
from builder.vertex import (
    ContextPath,
    CopyOp,
    CopySource,
    DownloadedFile,
    InlineFile,
    MakeDirOp,
    StagePath,
    Vertex,
    canonical_digest,
    plain,
)
from grammar.ignorefile import PatternList
from runtime.mounting import open_overlay
from store.digest import DiffID, digest_of


@describe.register
def describe_workdir(
    op: MakeDirOp, _vertex: Vertex, _inputs: Sequence[Result], _site: Site
) -> Ingredients:
    """WORKDIR: its path and the user who owns what has to be made."""
    return Ingredients({"path": op.path, "user": op.user})


@perform.register
def perform_workdir(
    op: MakeDirOp, _vertex: Vertex, inputs: Sequence[Result], site: Site, _step: Step
) -> Made:
    """Make the directory."""
    with site.store.snapshots.prepare(inputs[0].chain) as active:
        with Tree(open_overlay(active.mount)) as tree:
            owner = find_owner(op.user, tree.root).ids if op.user else (0, 0)
            make_dirs(tree.root, op.path, 0o755, owner)
        info = active.commit()
    return Made(info.diff_id, info.size_bytes)


@describe.register
def describe_copy(op: CopyOp, vertex: Vertex, inputs: Sequence[Result], site: Site) -> Ingredients:
    """COPY and ADD: what is done with the files, and the files' contents."""
    files: list[tuple[str, str]] = []
    contents: list[str] = []
    for source in op.sources:
        digest, found = source_content(source, op, vertex, inputs, site)
        contents.append(digest)
        files += found
    keyed = {
        "destination": op.destination,
        "chown": op.chown,
        "chmod": op.chmod,
        "exclude": list(op.exclude),
        "unpack": op.unpack,
        "content": contents,
    }
    noted = {"sources": plain(op.sources), "files": files}
    return Ingredients(keyed, noted)


def source_content(
    source: CopySource, op: CopyOp, vertex: Vertex, inputs: Sequence[Result], site: Site
) -> tuple[str, list[tuple[str, str]]]:
    """Return the content digest of one source, and its files with their digests."""
    match source:
        case ContextPath(path):
            selection = select_from_context(path, op, vertex, site)
            return selection.digest(with_owner=False), list(selection.files())
        case StagePath(number, path):
            return stage_content(inputs[number].chain, path, op, vertex, site)
        case InlineFile(name, text):
            digest = digest_of(text.encode("utf-8", "surrogateescape"))
            return canonical_digest([name, digest]), [(name, digest)]
        case DownloadedFile(number):
            fetched = inputs[number].fetched
            assert fetched is not None, "the input of a downloaded source is a download"
            row = [fetched.name, fetched.digest, fetched.mtime_ns]
            return canonical_digest(row), [(fetched.name, fetched.digest)]


def stage_content(
    chain: tuple[DiffID, ...], path: str, op: CopyOp, vertex: Vertex, site: Site
) -> tuple[str, list[tuple[str, str]]]:
    """Return the content that `path` selects from a stage, remembered by the stage's layers."""
    with_owner = op.chown is None
    selector = canonical_digest([list(chain), path, list(op.exclude), with_owner])
    known = site.store.records.recall("selection", selector)
    if known is not None:
        digest, files = json.loads(known)
        return digest, [(name, value) for name, value in files]
    with Tree(open_overlay(site.store.snapshots.view(chain))) as tree:
        selection = select(tree, path, op, vertex)
    digest, files = selection.digest(with_owner=with_owner), list(selection.files())
    site.store.records.remember("selection", selector, json.dumps([digest, files]))
    return digest, files


def select_from_context(path: str, op: CopyOp, vertex: Vertex, site: Site) -> Selection:
    """Return what a source names in the context. Raises SourceNotFound."""
    try:
        return site.context.select(path, op.exclude)
    except PathNotFound as error:
        raise missing_source(error, vertex, site.context.ignore_file) from error


def select(tree: Tree, path: str, op: CopyOp, vertex: Vertex) -> Selection:
    """Return what a source names in a stage's files. Raises SourceNotFound."""
    try:
        return tree.select(path, PatternList(op.exclude) if op.exclude else None)
    except PathNotFound as error:
        raise missing_source(error, vertex, None) from error


def missing_source(error: PathNotFound, vertex: Vertex, ignore_file: str | None) -> SourceNotFound:
    """Return the error for a source that is not there, with the ignore rule that hides it."""
    path = "/" + error.path.lstrip("/")
    if error.rule is not None:
        hint = f"{os.path.basename(ignore_file or '')} hides it, {error.rule}"
    else:
        hint = "paths are relative to the source's root; `..` does not lead out of it"
    verb = vertex.title.split(None, 1)[0].upper()
    return SourceNotFound(vertex.place, f'{verb} failed: "{path}": not found', hint=hint)


@perform.register
def perform_copy(
    op: CopyOp, vertex: Vertex, inputs: Sequence[Result], site: Site, _step: Step
) -> Made:
    """Copy the files."""
    with site.store.snapshots.prepare(inputs[0].chain) as active:
        with Tree(open_overlay(active.mount)) as tree:
            target = copy_target(op, vertex, tree.root, site)
            for source in op.sources:
                try:
                    copy_source(source, op, vertex, inputs, site, target)
                except CopyRefused as error:
                    raise InstructionError(vertex.place, str(error)) from error
        info = active.commit()
    return Made(info.diff_id, info.size_bytes)


def copy_target(op: CopyOp, vertex: Vertex, root: str, site: Site) -> Target:
    """Return where the files go, with owner and mode as the flags say."""
    owner = find_owner("0:0", root)
    if op.chown is not None:
        owner = find_owner(op.chown, root)
        if owner.unknown is not None:
            message = semantics.copy_unknown_owner(op.chown, owner.unknown)
            site.warn("CopyUnknownOwner", message, vertex.place.first_line)
    chmod, parent_mode = None, 0o755
    if op.chmod is not None:
        try:
            chmod = parse_chmod(op.chmod)
        except ValueError as error:
            raise InstructionError(vertex.place, f"--chmod: {error}") from error
        if op.chmod.isdigit():
            parent_mode = chmod(0, True) & 0o777
    keeps = op.keep_owner and op.chown is None
    return Target(root, None if keeps else owner, chmod, parent_mode, op.chown is not None)


def copy_source(
    source: CopySource,
    op: CopyOp,
    vertex: Vertex,
    inputs: Sequence[Result],
    site: Site,
    target: Target,
) -> None:
    """Copy what one source selects. Raises CopyRefused, FileChanged, InstructionError."""
    match source:
        case ContextPath(path):
            root = site.context.tree.root
            for found in select_from_context(path, op, vertex, site).matches:
                copy_or_unpack(root, found, op, vertex, target)
        case StagePath(number, path):
            chain = inputs[number].chain
            with Tree(open_overlay(site.store.snapshots.view(chain))) as tree:
                for found in select(tree, path, op, vertex).matches:
                    copy_match(tree.root, found, op.destination, target)
        case InlineFile(name, text):
            put_file(name, text.encode("utf-8", "surrogateescape"), op, site, target)
        case DownloadedFile(number):
            fetched = inputs[number].fetched
            assert fetched is not None, "the input of a downloaded source is a download"
            put_download(fetched, op, site, target)


def copy_or_unpack(root: str, found: Match, op: CopyOp, vertex: Vertex, target: Target) -> None:
    """Copy a match, or unpack it into the destination where ADD finds an archive."""
    path = os.path.join(root, found.path)
    if op.unpack and found.entries[0].kind == "file" and is_archive(path):
        unpack_archive(path, found.name, op.destination, target, vertex.place)
        return
    copy_match(root, found, op.destination, target)


def put_file(name: str, data: bytes, op: CopyOp, site: Site, target: Target) -> None:
    """Write a heredoc's text as a file, mode 0644."""
    digest = site.store.content.put(data)
    put_blob(site.store.content.path(digest), name, 0o644, time.time_ns(), op, target)


def put_download(fetched: FetchedFile, op: CopyOp, site: Site, target: Target) -> None:
    """Write a downloaded file, mode 0600, its mtime the server's Last-Modified."""
    path = site.store.content.path(fetched.digest)
    put_blob(path, fetched.name, 0o600, fetched.mtime_ns, op, target)


def put_blob(path: str, name: str, mode: int, mtime_ns: int, op: CopyOp, target: Target) -> None:
    """Copy a blob of the store to the destination as a file of its own."""
    with Tree(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)) as tree:
        found = tree.select(os.path.basename(path)).matches[0]
        entry = with_attributes(found.entries[0], mode, mtime_ns)
        copy_match(tree.root, Match(found.path, name, (entry,)), op.destination, target)


def with_attributes(entry: Entry, mode: int, mtime_ns: int) -> Entry:
    """Return a file's entry with another mode, times and root as its owner."""
    return replace(entry, mode=mode, mtime_ns=mtime_ns, atime_ns=mtime_ns, uid=0, gid=0, xattrs=())
