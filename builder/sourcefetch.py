"""Making a directory of a context that is a stream, an archive at an address or a repository.

Imported by builds that have such a context only: compressors, HTTP and subprocesses are slow to
import.
"""

import itertools
import os
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from builder.errors import ContextError
from builder.gitcheckout import Git, GitFailure
from builder.gitref import GitRef, without_password
from builder.ops.remote import fetch_file
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress, Step
from builder.vertex import DownloadOp
from registry_client.errors import RegistryError
from runtime.cancel import Cancel
from store.compression import decompressed, detect
from store.contents import PLAIN_ARCHIVE
from store.errors import BadArchive
from store.root import Store
from store.tarreader import TarReader, chunks_of, is_header
from store.unpack import Unpacker

DOWNLOADED = "context"  # what BuildKit calls a file that is a context
_HEAD_BYTES = 1024
_MAX_DOCKERFILE_BYTES = 64 << 20


# -- a stream


def take_stream(request: BuildRequest, root_fd: int) -> bytes | None:
    """Unpack an archive, or return the Dockerfile that the stream is instead."""
    stream = request.context_stream
    if stream is None:
        raise ContextError("build context -: there is no standard input")
    if request.dockerfile == "-":
        raise ContextError("standard input cannot be both the build context and the Dockerfile")
    head = _read_head(stream)
    if is_archive(head):
        _unpack(itertools.chain([head], chunks_of(stream)), "standard input", root_fd)
        return None
    if request.dockerfile is not None:
        raise ContextError(
            "ambiguous Dockerfile source: standard input is no archive, and -f names another",
            hint="give a directory or an archive as the context",
        )
    data = head + stream.read(_MAX_DOCKERFILE_BYTES + 1)
    if len(data) > _MAX_DOCKERFILE_BYTES:
        raise ContextError("the Dockerfile on standard input is larger than 64 MiB")
    return data


def _read_head(stream: BinaryIO) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    return head


def is_archive(head: bytes) -> bool:
    """Tell from its first bytes whether a stream is a tar, compressed or not."""
    return detect(head) != "none" or (len(head) >= 512 and is_header(head[:512]))


def _unpack(chunks: Iterator[bytes], name: str, root_fd: int) -> None:
    try:
        reader = TarReader(decompressed(chunks, name=name))
        Unpacker(root_fd, PLAIN_ARCHIVE).run(reader)
    except BadArchive as error:
        raise ContextError(f"build context {name}: {error}", hint=error.hint) from error


# -- addresses


def clone(
    repository: GitRef,
    shown: str,
    scratch: str,
    progress: Progress,
    cancel: Cancel,
    secrets: Secrets,
) -> None:
    """Check out a repository: git's own files below `git`, its files below `tree`."""
    step = progress.begin(f"[internal] load git source {shown}")
    git = Git(cancel, secrets.value, partial(step.output, 2), secrets.key_agent)
    try:
        commit = git.find(repository)
        step.message(f"{commit.name} {commit.ref}".rstrip())
        for name in ("git", "tree"):
            os.mkdir(os.path.join(scratch, name), 0o755)
        places = [os.path.join(scratch, name) for name in ("git", "tree")]
        git.check_out(repository, commit, *places)
    except GitFailure as error:
        failure = ContextError(f"build context {shown}: {error}", hint=error.hint)
        step.failed(failure)
        raise failure from error
    except BaseException as error:
        step.failed(error)
        raise
    step.done()


def download(
    op: DownloadOp, root_fd: int, store: Store, progress: Progress, secrets: Secrets
) -> bytes | None:
    """Fetch a context; unpack it, or return the Dockerfile that it is instead."""
    shown = without_password(op.url)
    step = progress.begin(f"[internal] load remote build context {shown}")
    try:
        path = fetched_path(op, store, secrets, step)
        with open(path, "rb") as file:
            head = _read_head(file)
            file.seek(0)
            if is_archive(head):
                _unpack(chunks_of(file), shown, root_fd)
                data = None
            else:
                data = file.read(_MAX_DOCKERFILE_BYTES)
                _write(data, root_fd)
    except BaseException as error:
        step.failed(error)
        raise
    step.done()
    return data


def fetch_dockerfile(op: DownloadOp, store: Store, progress: Progress, secrets: Secrets) -> bytes:
    """Return the Dockerfile at an address. Raises ContextError."""
    step = progress.begin(f"[internal] load remote Dockerfile {without_password(op.url)}")
    try:
        path = fetched_path(op, store, secrets, step)
        with open(path, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES)
    except BaseException as error:
        step.failed(error)
        raise
    step.done()
    return data


def fetched_path(op: DownloadOp, store: Store, secrets: Secrets, step: Step) -> str:
    """Return the path of a blob that holds what is at an address. Raises ContextError."""
    try:
        fetched, _ = fetch_file(op, store, secrets)
    except RegistryError as error:
        raise ContextError(str(error), hint=error.hint) from error
    step.message(f"{fetched.digest} {fetched.size_bytes}B")
    return store.content.path(fetched.digest)


def _write(data: bytes, root_fd: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(DOWNLOADED, flags, 0o600, dir_fd=root_fd), "wb") as file:
        file.write(data)
