"""Where the files of a build come from: its main context as a directory, whatever it was given as.

A directory of the caller's is used where it is. What comes as a stream or from an address is
unpacked into scratch space of the store, which goes when the build ends, or with the next garbage
collection where the build was killed.
Source: docker buildx build, "Build context"; BuildKit's dockerui for what it leaves open.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from builder import gitref
from builder.context import SourceTree
from builder.errors import ContextError
from builder.gitref import GitRef, InvalidGitAddress, without_password
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress
from builder.vertex import DownloadOp
from runtime.cancel import Cancel
from store.compression import decompressed, detect
from store.errors import BadArchive
from store.root import Store
from store.tarreader import TarReader, chunks_of, is_header
from store.unpack import Unpacker

if TYPE_CHECKING:
    from builder.site import Step

DOWNLOADED = "context"  # what BuildKit calls a file that is a context
_HEAD_BYTES = 1024
_KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"  # a build argument
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_MAX_DOCKERFILE_BYTES = 64 << 20
_URL_SCHEMES = ("http://", "https://")


def is_url(text: str) -> bool:
    """Tell whether `text` is an http address."""
    return text.startswith(_URL_SCHEMES)


def git_context(text: str) -> GitRef | None:
    """Return what a context means as a git repository, None where it is none.

    Raises ContextError.
    """
    if os.path.isdir(text):
        return None
    try:
        return gitref.parse_context(text)
    except InvalidGitAddress as error:
        raise ContextError(f"build context {text}: {error}") from error


@contextmanager
def opened_source(
    store: Store, request: BuildRequest, progress: Progress, cancel: Cancel, secrets: Secrets
) -> Iterator[SourceTree]:
    """Give the main context of a build. Raises ContextError."""
    text = request.context
    repository = git_context(text)
    if repository is not None and dict(request.build_args).get(_KEEP_GIT_DIR) in _TRUE:
        repository = replace(repository, keep_git_dir=True)
    given = None
    if request.dockerfile is not None and is_url(request.dockerfile):
        given = _fetch_dockerfile(request.dockerfile, store, progress, secrets)
    if text != "-" and repository is None and not is_url(text):
        yield SourceTree(_directory(text), os.path.abspath(text), dockerfile=given)
        return
    scratch = store.folder.scratch_directory()
    try:
        shown = without_password(text)
        if text == "-":
            dockerfile = _take_stream(request, scratch.fd)
        elif repository is not None:
            dockerfile = None
            _clone(repository, shown, scratch.path, progress, cancel, secrets)
        else:
            dockerfile = _download(request, shown, scratch.fd, store, progress, secrets)
        path = os.path.join(scratch.path, "tree") if repository is not None else scratch.path
        found = dockerfile if given is None else given
        yield SourceTree(path, shown, is_local=False, dockerfile=found)
    finally:
        store.remove_tree(scratch.path)
        os.close(scratch.fd)


def _directory(path: str) -> str:
    if not os.path.isdir(path):
        cause = "not a directory" if os.path.exists(path) else "no such directory"
        raise ContextError(
            f"build context {path}: {cause}", hint="give the directory that holds the files"
        )
    return path


# -- a stream


def _take_stream(request: BuildRequest, root_fd: int) -> bytes | None:
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
    from store.contents import Policy

    try:
        reader = TarReader(decompressed(chunks, name=name))
        Unpacker(root_fd, Policy(whiteouts=False)).run(reader)
    except BadArchive as error:
        raise ContextError(f"build context {name}: {error}", hint=error.hint) from error


# -- addresses


def _clone(
    repository: GitRef,
    shown: str,
    scratch: str,
    progress: Progress,
    cancel: Cancel,
    secrets: Secrets,
) -> None:
    # subprocess takes 10 ms to import.
    from builder.gitcheckout import Git, GitFailure

    step = progress.begin(f"[internal] load git source {shown}")
    git = Git(cancel, secrets.value, partial(step.output, 2))
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


def _download(
    request: BuildRequest,
    shown: str,
    root_fd: int,
    store: Store,
    progress: Progress,
    secrets: Secrets,
) -> bytes | None:
    """Fetch a context; unpack it, or return the Dockerfile that it is instead."""
    step = progress.begin(f"[internal] load remote build context {shown}")
    try:
        path = fetched_path(request.context, store, secrets, step)
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


def _fetch_dockerfile(url: str, store: Store, progress: Progress, secrets: Secrets) -> bytes:
    step = progress.begin(f"[internal] load remote Dockerfile {without_password(url)}")
    try:
        path = fetched_path(url, store, secrets, step)
        with open(path, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES)
    except BaseException as error:
        step.failed(error)
        raise
    step.done()
    return data


def fetched_path(url: str, store: Store, secrets: Secrets, step: "Step") -> str:
    """Return the path of a blob that holds what is at an address. Raises ContextError."""
    # requests takes 100 ms to import.
    from builder.ops.remote import fetch_file
    from registry_client.errors import RegistryError

    try:
        fetched, _ = fetch_file(DownloadOp(url), store, secrets)
    except RegistryError as error:
        raise ContextError(str(error), hint=error.hint) from error
    step.message(f"{fetched.digest} {fetched.size_bytes}B")
    return store.content.path(fetched.digest)


def _write(data: bytes, root_fd: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(DOWNLOADED, flags, 0o600, dir_fd=root_fd), "wb") as file:
        file.write(data)
