"""Blobs at a registry: fetched in pieces, from where a lost connection ended.

Sizes are verified here, digests by whoever hashes the bytes on their way (`fetch` does it itself).
"""

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus

import requests

from registry_client.client import Call
from registry_client.errors import BadManifest, DigestMismatch, NotFound, TooLarge, Truncated
from registry_client.failures import TryAgain
from registry_client.manifests import Repository
from registry_client.transport import content_length, pieces, release
from store.digest import Digest, digest_of
from store.oci import Descriptor
from values.classes import dataclass

_SMALL_LIMIT_BYTES = 16 << 20
_RENEWED_BY_BYTES = 1 << 20  # so much progress counts as a new beginning
_WHOLE = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
_RANGED = (*_WHOLE, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob at a registry. what: begins every error about it."""

    repository: Repository
    descriptor: Descriptor
    what: str

    @property
    def path(self) -> str:
        """The blob's path at the registry."""
        return f"/v2/{self.repository.name}/blobs/{self.descriptor.digest}"


def exists(repository: Repository, digest: Digest, what: str) -> bool:
    """Tell whether a repository has a blob."""
    path = f"/v2/{repository.name}/blobs/{digest}"
    try:
        response = repository.client.ask(Call("HEAD", path, what, repository.scopes))
    except NotFound:
        return False
    release(response)
    return True


def fetch(blob: Blob) -> bytes:
    """Return a small blob, its digest verified. Raises DigestMismatch, TooLarge, …."""
    size_bytes = blob.descriptor.size_bytes
    if size_bytes > _SMALL_LIMIT_BYTES:
        raise TooLarge(
            f"{blob.what}: {size_bytes} bytes are more than the limit of {_SMALL_LIMIT_BYTES}",
            _SMALL_LIMIT_BYTES,
        )
    data = b"".join(stream(blob))
    if (actual := digest_of(data)) != blob.descriptor.digest:
        raise mismatch(blob, actual)
    return data


def mismatch(blob: Blob, actual: str) -> DigestMismatch:
    """Return the error for a blob whose bytes have another digest."""
    expected = blob.descriptor.digest
    message = f"{blob.what}: the bytes that came have digest {actual}, expected {expected}"
    return DigestMismatch(message, expected, actual)


def stream(
    blob: Blob,
    on_bytes: Callable[[int], object] = lambda _done: None,
    on_retry: Callable[[str], object] = lambda _cause: None,
) -> Iterator[bytes]:
    """Yield a blob's bytes, exactly as many as its descriptor says; the digest is not verified.

    on_bytes: called with the number of bytes so far, on_retry with the cause of each new attempt.
    Raises TooLarge, Truncated, BadManifest for another size, and what a call raises.
    """
    patience = blob.repository.client.patience
    done = failures = done_before = 0
    with_range = True
    while True:
        try:
            with contextlib.closing(_pieces_from(blob, done, with_range=with_range)) as chunks:
                for chunk in chunks:
                    done += len(chunk)
                    on_bytes(done)
                    yield chunk
        except _NoRange:
            with_range = False
        except TryAgain as again:
            if done - done_before >= _RENEWED_BY_BYTES:
                failures = 0
            done_before = done
            on_retry(str(again.error))
            patience.wait(failures, again)
            failures += 1
        else:
            return


class _NoRange(Exception):
    """The server does not give the rest of a blob."""


def _pieces_from(blob: Blob, start: int, *, with_range: bool) -> Generator[bytes, None, None]:
    """Yield the bytes from `start` to the end, by one request. Raises TryAgain, _NoRange."""
    ranged = with_range and start > 0
    headers = {"Range": f"bytes={start}-"} if ranged else {}
    scopes = blob.repository.scopes
    accepted = _RANGED if ranged else _WHOLE
    call = Call("GET", blob.path, blob.what, scopes, headers, None, accepted)
    response = blob.repository.client.ask_once(call)
    with contextlib.closing(response):
        begins = _begins_at(response, start if ranged else 0, blob)
        _check_announced(response, begins, blob)
        at = begins
        size_bytes = blob.descriptor.size_bytes
        for chunk in pieces(response, blob.what):
            at += len(chunk)
            if at > size_bytes:
                message = f"{blob.what}: more than the {size_bytes} bytes that the manifest says"
                raise TooLarge(message, size_bytes)
            # A server that does not know ranges begins anew: what was there is dropped.
            if at > start:
                yield chunk[max(0, start - (at - len(chunk))) :]
        if at < size_bytes:
            raise TryAgain(Truncated(f"{blob.what}: got {at} of {size_bytes} bytes"))


def _begins_at(response: requests.Response, start: int, blob: Blob) -> int:
    """Return the offset of the answer's first byte."""
    if response.status_code == HTTPStatus.OK:
        return 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code != HTTPStatus.PARTIAL_CONTENT or not found or int(found[1]) != start:
        if not start:
            raise Truncated(f"{blob.what}: the registry sends a part that was not asked for")
        raise _NoRange
    return start


def _check_announced(response: requests.Response, begins: int, blob: Blob) -> None:
    """Raise BadManifest when the answer is about a blob of another size."""
    announced = content_length(response)
    size_bytes = blob.descriptor.size_bytes
    if announced is not None and begins + announced != size_bytes:
        raise BadManifest(
            f"{blob.what}: the registry sends {begins + announced} bytes, the manifest says "
            f"{size_bytes}"
        )
