"""What COPY and ADD copy: each kind of source has content for the key, and a way to be copied."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from builder.contenthash import Entry, Match, Selection
from builder.errors import InstructionError, SourceNotFound
from builder.ops.copyfiles import Target, copy_match
from builder.ops.freshcopy import filling_of
from builder.site import FetchedFile, Result, Site
from builder.tree import PathNotFound, Tree
from builder.vertex import (
    ContextPath,
    CopyOp,
    CopySource,
    DownloadedFile,
    InlineFile,
    StagePath,
    Vertex,
    canonical_digest,
)
from grammar import glob
from grammar.errors import PatternError
from runtime.mounting import open_overlay
from store.digest import digest_of
from store.filling import Filling
from values.classes import dataclass, replace

Files = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of one COPY or ADD, with all that it takes to read them."""

    op: CopyOp
    vertex: Vertex
    inputs: Sequence[Result]
    site: Site

    def content(self, source: CopySource) -> tuple[str, Files]:
        """Return the content digest of one source, and its files with their digests."""
        match source:
            case ContextPath():
                selection = self._select_from_context(source)
                return self._digest(selection), list(selection.files())
            case StagePath():
                return self._stage_content(source)
            case InlineFile(name, text):
                digest = digest_of(text.encode("utf-8", "surrogateescape"))
                return canonical_digest([name, digest]), [(name, digest)]
            case DownloadedFile(_, unpack, _):
                fetched = self._fetched(source)
                row = [fetched.name, fetched.digest, fetched.mtime_ns, unpack]
                return canonical_digest(row), [(fetched.name, fetched.digest)]

    def copy(self, source: CopySource, target: Target) -> None:
        """Copy what one source selects. Raises CopyRefused, FileChanged, InstructionError."""
        match source:
            case ContextPath():
                context = self.site.context_called(source.context)
                for found in self._select_from_context(source).matches:
                    self._copy_or_unpack(context.tree.root, found, target)
            case StagePath():
                with self._stage_tree(source) as tree:
                    for found in self._select(tree, source).matches:
                        copy_match(tree.root, found, self.op.destination, target)
            case InlineFile(name, text):
                data = text.encode("utf-8", "surrogateescape")
                digest = self.site.store.content.put(data)
                blob = FetchedFile(digest, len(data), name, time.time_ns())
                self._put_blob(blob, 0o644, target, unpack=False)
            case DownloadedFile(_, unpack, _):
                self._put_blob(self._fetched(source), 0o600, target, unpack=unpack)

    def filling(self, target: Target) -> Filling | None:
        """Return what copies all when the layer is written, None where `copy` has to.

        Raises CopyRefused, FileChanged, InstructionError.
        """
        (source, *others) = self.op.sources
        if others or not isinstance(source, ContextPath):
            return None
        context = self.site.context_called(source.context)
        (match, *rest) = self._select_from_context(source).matches or (None,)
        if match is None or rest:
            return None
        return filling_of(context.tree.root, match, self.op.destination, target)

    # -- trees

    def _select_from_context(self, source: ContextPath) -> Selection:
        context = self.site.context_called(source.context)
        try:
            found = context.select(source.path, self.op.exclude, source.include)
            return self._without_named_socket(source, found)
        except PathNotFound as error:
            raise missing_source(error, self.vertex, context.ignore_file) from error
        except PatternError as error:
            raise InstructionError(self.vertex.place, str(error), hint=error.hint) from error

    def _select(self, tree: Tree, source: StagePath) -> Selection:
        try:
            found = tree.select(source.path, self.op.exclude, source.include)
            return self._without_named_socket(source, found)
        except PathNotFound as error:
            raise missing_source(error, self.vertex, None) from error
        except PatternError as error:
            raise InstructionError(self.vertex.place, str(error), hint=error.hint) from error

    def _without_named_socket(
        self, source: ContextPath | StagePath, selection: Selection
    ) -> Selection:
        """Return the selection. Raises InstructionError for a socket that is named itself.

        Those that a pattern or a directory brings along are left out.
        """
        kinds = [match.entries[0].kind for match in selection.matches]
        if "socket" in kinds and not glob.has_wildcard(source.path):
            verb = self.vertex.title.split(None, 1)[0].upper()
            path = "/" + source.path.lstrip("/")
            raise InstructionError(
                self.vertex.place, f'{verb} failed: "{path}": a socket cannot be copied'
            )
        return selection

    @contextmanager
    def _stage_tree(self, source: StagePath) -> Iterator[Tree]:
        chain = self.inputs[source.input].chain
        with Tree(open_overlay(self.site.store.snapshots.view(chain))) as tree:
            yield tree

    def _stage_content(self, source: StagePath) -> tuple[str, Files]:
        """Return what is selected from a stage, remembered by the stage's layers."""
        chain = list(self.inputs[source.input].chain)
        selector = canonical_digest(
            [chain, source.path, source.include, list(self.op.exclude), self._counts_owners]
        )
        known = self.site.recall("selection", selector)
        if known is not None:
            digest, rows = json.loads(known)
            return digest, [(name, value) for name, value in rows]
        self.site.absent.need(self.inputs[source.input].chain)
        with self._stage_tree(source) as tree:
            selection = self._select(tree, source)
        digest, files = self._digest(selection), list(selection.files())
        self.site.remember("selection", selector, json.dumps([digest, files]))
        return digest, files

    @property
    def _counts_owners(self) -> bool:
        return self.op.chown is None

    def _digest(self, selection: Selection) -> str:
        return selection.digest(with_owner=self._counts_owners)

    def _copy_or_unpack(self, root: str, found: Match, target: Target) -> None:
        """Copy a match, or unpack it into the destination where ADD finds an archive."""
        top = found.entries[0]
        path = os.path.join(root, found.path)
        is_file = self.op.unpack and top.kind == "file"
        if not is_file or not self._unpack(path, found.name, top.digest, target):
            copy_match(root, found, self.op.destination, target)

    def _unpack(self, path: str, name: str, digest: str, target: Target) -> bool:
        """Unpack a file if it is an archive; tell whether it is one."""
        # Compressors take 10 ms to import.
        from builder.ops.unpackarchive import Archive, is_archive, unpack_archive

        if not is_archive(path):
            return False
        archive = Archive(path, name, digest)
        unpack_archive(archive, self.op.destination, target, self.vertex.place)
        return True

    # -- single files

    def _fetched(self, source: DownloadedFile) -> FetchedFile:
        fetched = self.inputs[source.input].fetched
        assert fetched is not None, "the input of a downloaded source is a download"
        return fetched if source.name is None else replace(fetched, name=source.name)

    def _put_blob(self, blob: FetchedFile, mode: int, target: Target, *, unpack: bool) -> None:
        """Copy a blob of the store to the destination as a file of its own, owned by root."""
        path = self.site.store.content.path(blob.digest)
        if unpack and self._unpack(path, blob.name, blob.digest, target):
            return
        with Tree(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)) as tree:
            found = tree.select(os.path.basename(path)).matches[0]
            entry = with_attributes(found.entries[0], mode, blob.mtime_ns)
            match = Match(found.path, blob.name, (entry,))
            copy_match(tree.root, match, self.op.destination, target)


def missing_source(error: PathNotFound, vertex: Vertex, ignore_file: str | None) -> SourceNotFound:
    """Return the error for a source that is not there, with the ignore rule that hides it."""
    path = "/" + error.path.lstrip("/")
    if error.rule is not None:
        hint = f"{os.path.basename(ignore_file or '')} hides it, {error.rule}"
    else:
        hint = "paths are relative to the source's root; `..` does not lead out of it"
    verb = vertex.title.split(None, 1)[0].upper()
    return SourceNotFound(vertex.place, f'{verb} failed: "{path}": not found', hint=hint)


def with_attributes(entry: Entry, mode: int, mtime_ns: int) -> Entry:
    """Return a file's entry with another mode, times and root as its owner."""
    return replace(entry, mode=mode, mtime_ns=mtime_ns, atime_ns=mtime_ns, uid=0, gid=0, xattrs=())
