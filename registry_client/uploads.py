"""Blobs to a registry: asked for, mounted from a neighbour, sent, gone on with after a loss.

The bytes go from the blob's file to the network in pieces. Addresses that the registry gives are
used as they are. Source: distribution-spec, "Pushing blobs"; docker distribution `api.md` for the
query of an upload's progress.
"""

import os
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import requests

from registry_client import blobs
from registry_client.client import Call, scope
from registry_client.errors import BadStatus, NotFound, RegistryError
from registry_client.events import Outcome
from registry_client.failures import TryAgain
from registry_client.manifests import Repository
from registry_client.transport import release, target_of
from store.digest import Digest
from values.classes import dataclass

_PIECE_BYTES = 1 << 18
_RENEWED_BY_BYTES = 1 << 20  # so much progress counts as a new beginning
_CREATED = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.OK)
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that is to be at a repository. what: begins every error about it.

    source: another repository of the same registry that may have it, or empty.
    """

    repository: Repository
    digest: Digest
    what: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Upload(Wanted):
    """A blob to be sent. size_bytes, file: its bytes, open."""

    size_bytes: int = 0
    file: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes of a blob from an offset on, as the body of a request."""

    upload: Upload
    start: int
    on_bytes: Callable[[int], object]

    def __len__(self) -> int:
        return self.upload.size_bytes - self.start

    def __iter__(self) -> Iterator[bytes]:
        at, end = self.start, self.upload.size_bytes
        assert self.upload.file is not None
        fd = self.upload.file.fileno()
        while at < end:
            piece = os.pread(fd, min(_PIECE_BYTES, end - at), at)
            if not piece:
                raise RegistryError(f"{self.upload.what}: its file is too short")
            at += len(piece)
            yield piece
            self.on_bytes(at)


def place(wanted: Wanted) -> tuple[Outcome | None, str | None]:
    """Let a blob be at a repository without sending it: it is there, or a neighbour has it.

    Returns how, None when it has to be sent, and then the address of an upload, if one was begun.
    """
    if blobs.exists(wanted.repository, wanted.digest, wanted.what):
        return Outcome.EXISTS, None
    if not wanted.source:
        return None, None
    is_mounted, location = _mount(wanted)
    return (Outcome.MOUNTED if is_mounted else None), location


def send(
    upload: Upload,
    on_bytes: Callable[[int], object] = lambda _done: None,
    on_retry: Callable[[str], object] = lambda _cause: None,
) -> Outcome:
    """Bring a blob to a repository; return how it got there.

    on_bytes: called with the number of bytes sent so far, on_retry with the cause of each new
    attempt. Raises Unauthorized, BadStatus, Unreachable, ….
    """
    outcome, location = place(upload)
    if outcome is not None:
        return outcome
    patience = upload.repository.client.patience
    failures = start = 0
    while True:
        try:
            if location is None:
                location, start = _begin(upload), 0
            _send_from(upload, location, start, on_bytes)
        except (TryAgain, NotFound) as failure:
            if location is None and isinstance(failure, NotFound):
                raise  # there is no such repository, and none is made
            again = failure if isinstance(failure, TryAgain) else TryAgain(failure)
            on_retry(str(again.error))
            patience.wait(failures, again)
            started = start
            location, start = _resumed(upload, location)
            failures = 0 if start - started >= _RENEWED_BY_BYTES else failures + 1
        else:
            return Outcome.PUSHED


def _call(upload: Wanted, method: str, path: str, **more: object) -> Call:
    scopes = upload.repository.scopes
    return Call(method, path, upload.what, scopes, **more)  # type: ignore[arg-type]


def _begin(upload: Upload) -> str:
    """Open an upload and return its address."""
    path = f"/v2/{upload.repository.name}/blobs/uploads/"
    call = _call(upload, "POST", path, body=b"", accepted=(HTTPStatus.ACCEPTED,))
    return _location(upload, upload.repository.client.ask_once(call))


def _mount(upload: Wanted) -> tuple[bool, str | None]:
    """Ask for a blob of another repository: whether it is there now, else an upload's address."""
    repository = upload.repository
    query = f"mount={quote(upload.digest)}&from={quote(upload.source)}"
    scopes = tuple(sorted({*repository.scopes, scope(upload.source, "pull")}))
    accepted = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
    path = f"/v2/{repository.name}/blobs/uploads/?{query}"
    try:
        response = repository.client.ask(Call("POST", path, upload.what, scopes, {}, b"", accepted))
    except BadStatus:
        return False, None  # perhaps we may not read there; sending is still possible
    if response.status_code == HTTPStatus.CREATED:
        release(response)
        return True, None
    return False, _location(upload, response)


def _location(upload: Wanted, response: requests.Response) -> str:
    release(response)
    location = response.headers.get("Location")
    if not location:
        raise BadStatus(
            f"{upload.what}: the registry names no address to send it to", response.status_code
        )
    return target_of(response.url, location, upload.what)


def _send_from(
    upload: Upload, location: str, start: int, on_bytes: Callable[[int], object]
) -> None:
    """Send what is missing and close the upload."""
    part = _Part(upload, start, on_bytes)
    headers = {"Content-Type": "application/octet-stream"}
    if start:
        # The rest of a broken upload goes as a chunk of its own.
        span = {"Content-Range": f"{start}-{upload.size_bytes - 1}"}
        call = _call(
            upload,
            "PATCH",
            location,
            headers=headers | span,
            body=part,
            accepted=(HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT),
        )
        location = _location(upload, upload.repository.client.ask_once(call))
        body: bytes | _Part = b""
    else:
        body = part if len(part) else b""
    joint = "&" if urlsplit(location).query else "?"
    call = _call(
        upload,
        "PUT",
        f"{location}{joint}digest={quote(upload.digest)}",
        headers=headers,
        body=body,
        accepted=_CREATED,
    )
    release(upload.repository.client.ask_once(call))


def _resumed(upload: Upload, location: str | None) -> tuple[str | None, int]:
    """Return where a broken upload goes on: its address and offset, None to begin anew."""
    if location is None:
        return None, 0
    call = _call(upload, "GET", location, accepted=(HTTPStatus.NO_CONTENT,))
    try:
        response = upload.repository.client.ask_once(call)
    except (TryAgain, RegistryError):
        return None, 0
    release(response)
    found = _RANGE.match(response.headers.get("Range", ""))
    there = int(found[1]) + 1 if found else 0
    # docker's registry says 0-0 for nothing: one byte more or less is not worth a guess.
    if not 1 < there < upload.size_bytes:
        return None, 0
    return _location(upload, response) if response.headers.get("Location") else location, there
