"""Attestations as files beside a root file system: `--output type=local` and `tar`.

Each is an in-toto statement about all regular files that are written. Source: BuildKit
exporter/local/fs.go.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from builder.errors import ExportError
from builder.export.attestations import Statement
from store.root import Store
from store.treetar import entries, open_file, open_folder


@contextmanager
def attested_folder(
    store: Store,
    statements: Sequence[Statement],
    root_fd: int,
    suffix: str,
    check: Callable[[], None],
) -> Iterator[int]:
    """Give a directory with the statements about the files of another one, until the end.

    suffix: stands in their names before the last ending. check: called before each file, may raise.
    Raises ExportError.
    """
    subjects = list(digests_of(root_fd, check))
    scratch = store.folder.scratch_directory()
    try:
        os.fchmod(scratch.fd, 0o755)
        for statement in statements:
            start, ending = os.path.splitext(statement.file)
            text = json.dumps(statement.about(subjects), indent=2, ensure_ascii=False)
            _write(scratch.fd, f"{start}{suffix}{ending}", text)
        yield scratch.fd
    finally:
        store.remove_tree(scratch.path)
        os.close(scratch.fd)


def _write(folder_fd: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, 0o600, dir_fd=folder_fd), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape") + b"\n")
    except FileExistsError as error:
        raise ExportError(f"two attestations have the same file name {name}") from error


def digests_of(root_fd: int, check: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """Yield the path of each regular file below a directory and its sha256 digits."""
    left = [(os.dup(root_fd), b"")]
    try:
        while left:
            folder_fd, path = left.pop()
            try:
                for entry in entries(folder_fd, path):
                    check()
                    if stat.S_ISDIR(entry.status.st_mode):
                        left.append((open_folder(entry), entry.path + b"/"))
                    elif stat.S_ISREG(entry.status.st_mode):
                        with open(open_file(entry), "rb") as file:
                            digits = hashlib.file_digest(file, "sha256").hexdigest()
                        yield os.fsdecode(entry.path), digits
            finally:
                os.close(folder_fd)
    finally:
        for folder_fd, _ in left:
            os.close(folder_fd)
