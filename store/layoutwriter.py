"""Writing an archive's files: as a tar to a stream, or into a folder.

The tar depends on the files alone: entries sorted by name, times and owners zero.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from store import tarwriter
from store.content import ContentStore
from store.digest import Digest
from store.errors import Corrupt, StoreError, disk_errors
from store.layers import LayerStore
from store.layout import Body, Files, LayerTar

_CHUNK_BYTES = 1 << 20


def write_tar(
    content: ContentStore, files: Files, dest: BinaryIO, layers: LayerStore | None = None
) -> None:
    """Write `files` to `dest` as a tar, front to back; `dest` may be a pipe.

    layers: needed where files are plain layers.
    Raises Corrupt when a blob is not what its name says, StoreError when writing fails.
    """
    with _writing(dest):
        for folder in sorted({parent for name in files for parent in _parents(name)}):
            _write(dest, _header(f"{folder}/", tarwriter.DIRECTORY, 0o755, 0))
        for name, body in sorted(files.items()):
            size = len(body) if isinstance(body, bytes) else body.size_bytes
            _write(dest, _header(name, tarwriter.REGULAR, 0o644, size))
            for chunk in _chunks(content, body, layers):
                _write(dest, chunk)
            _write(dest, tarwriter.padding(size))
        _write(dest, tarwriter.END)
        dest.flush()


def write_folder(content: ContentStore, files: Files, folder: str) -> None:
    """Write `files` below `folder`, which is made when absent; each appears whole.

    Raises Corrupt when a blob is not what its name says, StoreError when writing fails.
    """
    with disk_errors(f"write layout {folder}", folder):
        # The index comes last: until it names them, the blobs are nobody's.
        for name, body in sorted(files.items(), key=lambda item: (item[0] == "index.json", item)):
            path = os.path.join(folder, name)
            if not isinstance(body, bytes) and os.path.exists(path):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = f"{path}.{os.getpid()}.part"
            try:
                with open(temporary, "wb") as file:
                    file.writelines(_chunks(content, body))
                os.rename(temporary, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)


def _write(dest: BinaryIO, data: bytes) -> None:
    """Write all of `data`: a raw file or pipe may take less at once."""
    written = dest.write(data)
    while written < len(data):
        written += dest.write(data[written:])


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _header(name: str, kind: bytes, mode: int, size_bytes: int) -> bytes:
    return tarwriter.encode(tarwriter.Header(name.encode(), kind, mode, size_bytes=size_bytes))


def _chunks(content: ContentStore, body: Body, layers: LayerStore | None = None) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    if isinstance(body, LayerTar):
        assert layers is not None, "plain layers are written by whoever has the layers"
        yield from layers.stream_tar(body.diff_id)
        return
    digest, size = hashlib.sha256(), 0
    with content.open(body.digest) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            if size > body.size_bytes:
                break
            yield chunk
    if size != body.size_bytes or Digest(f"sha256:{digest.hexdigest()}") != body.digest:
        raise Corrupt(f"blob {body.digest}: the stored bytes are damaged")


@contextmanager
def _writing(dest: BinaryIO) -> Iterator[None]:
    name = getattr(dest, "name", "")
    what = f"write archive {name}" if isinstance(name, str) and name else "write archive"
    try:
        with disk_errors(what, name if isinstance(name, str) and name else "/"):
            yield
    except ValueError as error:  # a closed file
        raise StoreError(f"{what}: {error}") from error
