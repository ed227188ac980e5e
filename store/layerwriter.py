"""Writing a layer's folder: the tree from a tar, or the header stream of an upper directory.

Apart from store.layers and store.snapshots, because compressors and tars take long to import and
who only mounts needs none of them.
"""

import os
import time
from collections.abc import Iterator

from store.contents import Contents, Policy
from store.diff import Summary, Watcher, write_layer
from store.filling import Filling
from store.headers import HeaderWriter
from store.layerinfo import LayerInfo, LayerRecord
from store.overlay import Merged
from store.tarreader import TarReader
from store.tarstream import TarSink
from store.unpack import Unpacker
from values.classes import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Written:
    """A header stream written, and what it was written from."""

    record: LayerRecord
    summary: Summary


def write_upper(
    upper: str,
    below: Merged,
    folder: str,
    watcher: Watcher | None = None,
    filling: Filling | None = None,
    *,
    of_copy: bool = False,
) -> Written:
    """Make the tree at `upper` canonical, hash its tar and write its header stream.

    below: what the chain under it shows. folder: gets the file `headers`. watcher, filling,
    of_copy: see write_layer.
    Raises StoreError for what no layer can hold, OSError.
    """
    upper_fd = os.open(upper, _DIRECTORY)
    try:
        with open(f"{folder}/headers", "xb", buffering=0) as file, TarSink() as sink:
            headers = HeaderWriter(file)
            summary = write_layer(upper_fd, below, sink, headers, watcher, filling, of_copy=of_copy)
            headers.finish(sink.size_bytes)
            diff_id = sink.finish()
    finally:
        os.close(upper_fd)
    info = LayerInfo(
        diff_id=diff_id,
        size_bytes=sink.size_bytes,
        files=summary.files,
        content_bytes=summary.content_bytes,
        empty=summary.files == 0,
        shareable=True,
        created_ns=time.time_ns(),
    )
    return Written(LayerRecord(info, "", len(summary.whiteouts)), summary)


def unpack_into(folder: str, chunks: Iterator[bytes]) -> Contents:
    """Unpack a tar into `folder`: `fs`, `headers`, and `lost` if entries replaced others.

    Raises BadArchive, OSError; what was written stays then.
    """
    tree = f"{folder}/fs"
    os.mkdir(tree, 0o755)
    os.chmod(tree, 0o755)
    os.mkdir(f"{folder}/lost", 0o700)
    root_fd = os.open(tree, _DIRECTORY)
    try:
        with open(f"{folder}/headers", "xb", buffering=0) as file:
            headers = HeaderWriter(file)
            reader = TarReader(chunks)
            policy = Policy(headers=headers, lost=f"{folder}/lost")
            contents = Unpacker(root_fd, policy).run(reader)
            headers.finish(reader.offset)
    finally:
        os.close(root_fd)
    if not contents.displaced:
        os.rmdir(f"{folder}/lost")
    return contents
