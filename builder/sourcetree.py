"""Where the files of a build come from: its main context as a directory, whatever it was given as.

A directory of the caller's is used where it is. What comes as a stream or from an address is
unpacked into scratch space of the store, which goes when the build ends, or with the next garbage
collection where the build was killed.
Source: docker buildx build, "Build context"; BuildKit's dockerui for what it leaves open.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import gitref
from builder.definition import SourceTree
from builder.errors import ContextError
from builder.gitref import GitRef, InvalidGitAddress, without_password
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress
from builder.vertex import DownloadOp
from runtime.cancel import Cancel
from store.root import Store
from values.classes import replace

if TYPE_CHECKING:
    from builder.locked import Locked

_KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"  # a build argument
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
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
    store: Store,
    request: BuildRequest,
    progress: Progress,
    cancel: Cancel,
    secrets: Secrets,
    locked: "Locked | None" = None,
) -> Iterator[SourceTree]:
    """Give the main context of a build; with a lock the one that it names. Raises ContextError."""
    text = request.context
    repository = git_context(text)
    if repository is not None and dict(request.build_args).get(_KEEP_GIT_DIR) in _TRUE:
        repository = replace(repository, keep_git_dir=True)
    if repository is not None and locked is not None:
        repository = locked.context(repository)
    given = None
    if request.dockerfile is not None and is_url(request.dockerfile):
        from builder import sourcefetch  # see its docstring

        wanted = download_of(request.dockerfile, locked)
        given = sourcefetch.fetch_dockerfile(wanted, store, progress, secrets)
    if text != "-" and repository is None and not is_url(text):
        yield SourceTree(_directory(text), os.path.abspath(text), dockerfile=given)
        return
    from builder import sourcefetch

    scratch = store.folder.scratch_directory()
    try:
        shown = without_password(text)
        if text == "-":
            dockerfile = sourcefetch.take_stream(request, scratch.fd)
        elif repository is not None:
            dockerfile = None
            sourcefetch.clone(repository, shown, scratch.path, progress, cancel, secrets)
        else:
            wanted = download_of(text, locked)
            dockerfile = sourcefetch.download(wanted, scratch.fd, store, progress, secrets)
        path = os.path.join(scratch.path, "tree") if repository is not None else scratch.path
        found = dockerfile if given is None else given
        yield SourceTree(path, shown, is_local=False, dockerfile=found)
    finally:
        store.remove_tree(scratch.path)
        os.close(scratch.fd)


def download_of(url: str, locked: "Locked | None") -> DownloadOp:
    """Return what is to be fetched from an address; with a lock it is what that says."""
    return DownloadOp(url, None if locked is None else locked.checksum(url))


def _directory(path: str) -> str:
    if not os.path.isdir(path):
        cause = "not a directory" if os.path.exists(path) else "no such directory"
        raise ContextError(
            f"build context {path}: {cause}", hint="give the directory that holds the files"
        )
    return path
