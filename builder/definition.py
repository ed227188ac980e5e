"""The texts that say what to build: finding and reading the Dockerfile and the ignore file.

Imports little: a build that finds everything unchanged reads these and nothing else.
Source: Dockerfile reference, ".dockerignore file".
"""

import os

from builder.errors import ContextError
from builder.request import BuildRequest
from builder.rootpath import Follow, resolve
from values.classes import dataclass

_MAX_DOCKERFILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SourceTree:
    """The main context of a build, see `sourcetree.opened_source`.

    path: its directory. shown: what records call it. is_local: it is the caller's own, so that
    ignore files count, all files count as root's, and digests are remembered.
    dockerfile: the Dockerfile, where it is not a file of this machine. follow: finds where a
    path with links leads in the directory.
    """

    path: str
    shown: str
    is_local: bool = True
    dockerfile: bytes | None = None
    follow: Follow = resolve


@dataclass(frozen=True, slots=True)
class DockerfileText:
    """A Dockerfile as read: what to call it, its bytes, where it lies (None for stdin)."""

    name: str
    data: bytes
    path: str | None


def read_dockerfile(request: BuildRequest, source: SourceTree) -> DockerfileText:
    """Return the Dockerfile that a request names. Raises ContextError."""
    if request.dockerfile == "-":
        return DockerfileText("Dockerfile", request.dockerfile_text or b"", None)
    if source.dockerfile is not None:
        return DockerfileText("Dockerfile", source.dockerfile, None)
    named = request.dockerfile
    if named is not None and (source.is_local or os.path.isabs(named)):
        inside = os.path.join(source.path, named)
        path = place = inside if not os.path.exists(named) and os.path.exists(inside) else named
    else:
        choices = [named] if named else ["Dockerfile", "dockerfile"]
        places = {name: path_inside(source.path, name, source.follow) for name in choices}
        name = next((name for name in choices if os.path.exists(places[name])), choices[0])
        path, place = os.path.join(source.path, name), places[name]
    shown = path if source.is_local else f"{named or 'Dockerfile'} of {source.shown}"
    data = read_small_file(place, "Dockerfile", shown)
    return DockerfileText(os.path.basename(path), data, path)


def path_inside(folder: str, name: str, follow: Follow = resolve) -> str:
    """Return where a file that nobody named is: no link in a context leads out of it.

    Raises ContextError for links without an end.
    """
    try:
        return os.path.join(folder, follow(folder, name))
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ContextError(f"read {os.path.join(folder, name)}: {cause}") from error


def read_small_file(path: str, what: str, shown: str | None = None) -> bytes:
    """Return the bytes of a regular file of at most 64 MiB. Raises ContextError.

    shown: what errors call it, the path by default.
    """
    shown = shown or path
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES + 1)
    except OSError as error:
        hint = "give another with -f FILE" if isinstance(error, FileNotFoundError) else None
        cause = (error.strerror or str(error)).lower()
        raise ContextError(f"read {what} {shown}: {cause}", hint=hint) from error
    if len(data) > _MAX_DOCKERFILE_BYTES:
        raise ContextError(f"read {what} {shown}: larger than 64 MiB")
    return data


def ignore_file_of(source: SourceTree, dockerfile: DockerfileText) -> str | None:
    """Return the path of the ignore file in force, None where there is none.

    `<Dockerfile>.dockerignore` beside the Dockerfile replaces the context's own. Only the
    caller's own files can be ignored: what comes from elsewhere was put together on purpose.
    """
    if not source.is_local:
        return None
    candidates = [path_inside(source.path, ".dockerignore", source.follow)]
    if dockerfile.path is not None:
        folder, name = os.path.split(f"{dockerfile.path}.dockerignore")
        candidates.insert(0, path_inside(folder, name, source.follow))
    return next((path for path in candidates if os.path.isfile(path)), None)
