"""Layers: unpacked trees by diff_id, whiteouts in overlay's form, each able to be a tar again.

Answers one question to those above: which lower directories show this chain. That a layer is an
unpacked tree is nobody else's business.
"""

import contextlib
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from store import aliases
from store.checkpoint import checkpoint
from store.content import ContentStore
from store.digest import DiffID, Digest, hex_of, is_digest
from store.errors import Corrupt, NotFound, disk_errors
from store.folder import Folder, durable_rename, names_in, write_durably
from store.layerinfo import BlobRef, LayerInfo, LayerRecord
from store.overlay import Merged
from store.tarstream import TarSink
from values.classes import replace

if TYPE_CHECKING:
    from store.restream import Source

__all__ = ["BlobRef", "LayerInfo", "LayerStore"]

_CHUNK_BYTES = 1 << 18


class LayerStore:
    """The layers of one store; immutable once they have their name."""

    def __init__(self, folder: Folder, content: ContentStore) -> None:
        self._folder = folder
        self._content = content
        self._root = folder.path("layers", "sha256")
        self._records: dict[DiffID, LayerRecord] = {}

    # -- asking ------------------------------------------------------------------------------

    def path(self, diff_id: DiffID) -> str:
        """Return the layer's own folder, whether it is there or not."""
        return f"{self._root}/{hex_of(diff_id)}"

    def has(self, diff_id: DiffID) -> bool:
        """Tell whether the layer is here."""
        return os.path.exists(f"{self.path(diff_id)}/layer.json")

    def info(self, diff_id: DiffID) -> LayerInfo:
        """Return what is recorded of the layer. Raises NotFound, Corrupt, NewerFormat."""
        return self.record(diff_id, fresh=True).info

    def record(self, diff_id: DiffID, *, fresh: bool = False) -> LayerRecord:
        """Return the layer's whole record; unless `fresh`, its blob may be out of date."""
        known = None if fresh else self._records.get(diff_id)
        if known is None or not self._leads_to(known.alias, diff_id):
            try:
                with open(f"{self.path(diff_id)}/layer.json", "rb", buffering=0) as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotFound(f"layer {diff_id}: not in the store") from error
            known = self._records[diff_id] = LayerRecord.from_json(data, f"layer {diff_id}")
        return known

    def _leads_to(self, alias: str, diff_id: DiffID) -> bool:
        """Tell whether an alias is still the layer's: another process may have removed both."""
        try:
            target = os.readlink(self._folder.path("l", alias))
        except OSError:
            return False
        return target == f"../{_tree(diff_id)}"

    def noted(self, diff_id: DiffID, what: str) -> list[bytes]:
        """Return the paths kept beside a layer, see `note`."""
        try:
            with open(f"{self.path(diff_id)}/{what}", "rb", buffering=0) as file:
                return file.read().split(b"\0")
        except FileNotFoundError:
            return []

    def iter(self) -> Iterator[DiffID]:
        """Yield the diff_id of every layer, sorted."""
        for name in names_in(self._root):
            diff_id = f"sha256:{name}"
            if is_digest(diff_id):
                yield DiffID(diff_id)

    # -- composing ---------------------------------------------------------------------------

    def lower_path(self, chain: Sequence[DiffID]) -> tuple[str, ...]:
        """Return the lower directories that show `chain`, topmost first, relative to the root.

        chain: base first. Empty layers are left out, a repeated one stands once, at its topmost
        place, since overlay refuses the same directory twice. Raises NotFound, BadArchive for a
        layer that does not fit on those below.
        """
        lowers: list[str] = []
        for index, diff_id in enumerate(chain):
            record = self.record(diff_id)
            if record.opaque_root:
                lowers.clear()
            if record.info.empty:
                continue
            alias = record.alias
            if record.whiteouts or not record.info.shareable:
                from store.chains import alias_on

                alias = alias_on(self._folder, self, chain[: index + 1])
            lower = f"l/{alias}"
            if lower in lowers:
                lowers.remove(lower)
            lowers.append(lower)
        return tuple(reversed(lowers))

    def merged(self, chain: Sequence[DiffID]) -> Merged:
        """Return what `chain` shows, as a directory to look things up in."""
        root = os.fsencode(self._folder.root)
        return Merged([b"%b/%b" % (root, os.fsencode(lower)) for lower in self.lower_path(chain)])

    # -- storing -----------------------------------------------------------------------------

    def unpack(
        self,
        tar: Iterable[bytes] | BinaryIO,
        *,
        expected: DiffID | None = None,
        blob: BlobRef | None = None,
        below: Sequence[DiffID] = (),
    ) -> DiffID:
        """Store the layer that an uncompressed tar holds; return its diff_id.

        expected: what the tar's digest must be. blob: the bytes it came as, when they are kept.
        below: the chain it came on, base first; a layer that leans on it is composed at once.
        A layer that is here is not unpacked again, but the tar is read and its digest verified.
        Raises BadArchive, Corrupt (another digest), DiskFull; nothing stays behind then.
        """
        chunks = _chunks(tar)
        name = f"unpack layer {expected}" if expected else "unpack layer"
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(name, self._root))
            stack.enter_context(self._folder.lease())
            if expected is not None:
                stack.enter_context(self._folder.lock(f"layer {expected}"))
                if self.has(expected):
                    return self._verified(chunks, expected, blob)
            diff_id = self._unpack(chunks, expected, blob)
        if not self.record(diff_id).info.shareable and below:
            self.lower_path((*below, diff_id))
        return diff_id

    def unpack_blob(
        self, digest: Digest, media_type: str, expected: DiffID, below: Sequence[DiffID] = ()
    ) -> DiffID:
        """Store the layer that a kept blob holds, compressed in whatever way; see unpack."""
        from store.unpacklimit import bounded

        blob = BlobRef(digest, self._content.size(digest), media_type)
        if self.has(expected) and self.info(expected).blob == blob:
            return expected
        with self._plain(digest) as tar:
            limited = bounded(tar, blob.size_bytes, self._root)
            return self.unpack(limited, expected=expected, blob=blob, below=below)

    @contextlib.contextmanager
    def _plain(self, digest: Digest) -> Iterator[Iterator[bytes]]:
        """Open a kept blob as the tar that it holds. Raises NotFound."""
        from store.compression import decompressed

        with self._content.open(digest) as file:
            tar = decompressed(_chunks(file), name=f"blob {digest}")
            with contextlib.closing(tar):
                yield tar

    def _verified(self, chunks: Iterator[bytes], expected: DiffID, blob: BlobRef | None) -> DiffID:
        with TarSink() as sink:
            for chunk in chunks:
                sink.write(chunk)
            _expect(sink.finish(), expected)
        if blob is not None:
            self.set_blob(expected, blob, verified=True)
        return expected

    def _unpack(
        self, chunks: Iterator[bytes], expected: DiffID | None, blob: BlobRef | None
    ) -> DiffID:
        from store.layerwriter import unpack_into

        scratch = self._folder.scratch_directory()
        try:
            with TarSink() as sink:
                contents = unpack_into(scratch.path, sink.tee(chunks))
                diff_id = sink.finish()
            if expected is not None:
                _expect(diff_id, expected)
            checkpoint("layer-unpacked")
            info = LayerInfo(
                diff_id,
                sink.size_bytes,
                contents.entries,
                contents.content_bytes,
                contents.entries == 0,
                not contents.missing and not contents.external,
                time.time_ns(),
                blob,
            )
            record = LayerRecord(
                info,
                "",
                len(contents.whiteouts),
                len(contents.external),
                contents.opaque_root,
                tuple(contents.displaced),
            )
            note(scratch.path, "whiteouts", contents.whiteouts)
            note(scratch.path, "missing", sorted(contents.missing))
            self.adopt(scratch.path, scratch.fd, record)
            return diff_id
        finally:
            self._folder.remove_tree(scratch.path)
            os.close(scratch.fd)

    def adopt(self, path: str, fd: int, record: LayerRecord) -> LayerRecord:
        """Give a finished folder (fs, headers, perhaps lost and whiteouts) the layer's name.

        fd: on the same file system, opened before the first write. When another process was
        faster its layer stands, and the folder stays where it is. Returns the record that holds.
        """
        diff_id = record.info.diff_id
        if self.has(diff_id):
            return self._keep_blob(diff_id, record)
        target = self.path(diff_id)
        alias = aliases.make(self._folder, _tree(diff_id))
        record = replace(record, alias=alias)
        with open(f"{path}/layer.json", "xb", buffering=0) as file:
            file.write(record.to_json())
        checkpoint("layer-recorded")
        try:
            durable_rename(path, target, fd)
        except OSError:
            aliases.remove(self._folder, alias)
            if not self.has(diff_id):
                raise
            return self._keep_blob(diff_id, record)
        checkpoint("layer-renamed")
        self._records[diff_id] = record
        return record

    def _keep_blob(self, diff_id: DiffID, record: LayerRecord) -> LayerRecord:
        if record.info.blob is not None:
            self.set_blob(diff_id, record.info.blob, verified=True)
        return self.record(diff_id, fresh=True)

    def set_blob(self, diff_id: DiffID, blob: BlobRef, *, verified: bool = False) -> None:
        """Record, durably, which kept blob holds the layer's bytes.

        verified: the caller knows that it does; else it is read, since a wrong one, named by a
        hostile image, would be pushed with every image that has this layer.
        Raises NotFound; Corrupt, BadArchive when the blob holds something else.
        """
        record = self.record(diff_id, fresh=True)
        if record.info.blob == blob:
            return
        with disk_errors(f"record layer {diff_id}", self._root):
            if not verified:
                with self._plain(blob.digest) as tar:
                    self._verified(tar, diff_id, None)
            record = replace(record, info=replace(record.info, blob=blob))
            write_durably(self._folder, f"{self.path(diff_id)}/layer.json", record.to_json())
        self._records[diff_id] = record

    def forget_blob(self, diff_id: DiffID) -> None:
        """Record, durably, that the layer's bytes are its tree's alone. Raises NotFound."""
        record = self.record(diff_id, fresh=True)
        record = replace(record, info=replace(record.info, blob=None))
        with disk_errors(f"record layer {diff_id}", self._root):
            write_durably(self._folder, f"{self.path(diff_id)}/layer.json", record.to_json())
        self._records[diff_id] = record

    def remove(self, diff_id: DiffID) -> None:
        """Delete the layer and what was composed from it; absent is fine. Its blob stays."""
        from store.chains import remove_with

        alias = ""
        with contextlib.suppress(NotFound, Corrupt):
            alias = self.record(diff_id).alias
        remove_with(self._folder, diff_id)
        self._records.pop(diff_id, None)
        self._folder.remove_tree(self.path(diff_id))
        if alias:
            aliases.remove(self._folder, alias)

    # -- giving out --------------------------------------------------------------------------

    def source(self, diff_id: DiffID) -> "Source":
        """Return what the layer's tar can be made from again. Raises NotFound."""
        from store.restream import Source

        record = self.record(diff_id)
        return Source(self.path(diff_id), f"layer {diff_id}", record.displaced)

    def stream_tar(self, diff_id: DiffID) -> Generator[bytes, None, None]:
        """Yield the layer's exact uncompressed tar, in pieces, its digest verified at the end.

        Raises NotFound; Corrupt, perhaps only after the last piece, when it is damaged.
        """
        from store.restream import stream

        record = self.record(diff_id, fresh=True)
        blob = record.info.blob
        with contextlib.ExitStack() as stack:
            if blob is not None and self._content.has(blob.digest):
                pieces = stack.enter_context(self._plain(blob.digest))
            else:
                pieces = stack.enter_context(contextlib.closing(stream(self.source(diff_id))))
            sink = stack.enter_context(TarSink())
            stack.enter_context(disk_errors(f"read layer {diff_id}", self._root))
            yield from sink.tee(pieces)
            if (found := sink.finish()) != diff_id:
                raise Corrupt(
                    f"layer {diff_id}: its stored bytes give {found}",
                    hint="remove it and build or pull it again",
                )


def note(path: str, what: str, names: Iterable[bytes]) -> None:
    """Keep paths beside a layer, for the chains it will be part of; none make no file.

    what: "whiteouts", what it deletes, or "missing", its parent directories without an entry.
    """
    data = b"\0".join(names)
    if data:
        with open(f"{path}/{what}", "xb", buffering=0) as file:
            file.write(data)


def _tree(diff_id: DiffID) -> str:
    """Return the layer's tree, relative to the store's root."""
    return f"layers/sha256/{hex_of(diff_id)}/fs"


def _chunks(tar: Iterable[bytes] | BinaryIO) -> Iterator[bytes]:
    # An open file is an iterable too, of lines.
    read = getattr(tar, "read", None)
    return iter(partial(read, _CHUNK_BYTES), b"") if read else iter(tar)


def _expect(found: DiffID, expected: DiffID) -> None:
    if found != expected:
        raise Corrupt(f"layer {expected}: the tar that came has digest {found}")
