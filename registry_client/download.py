"""Plain HTTP(S) GET, for ADD and for build contexts at an address.

Owns revalidation, redirects, retries, the size limit and the proof that all bytes came. Knows
nothing of registries. The bytes are the server's: no netrc, no cookies, no Content-Encoding undone.
"""

import base64
import contextlib
import email.utils
import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

import requests

from registry_client.errors import (
    DigestMismatch,
    InvalidURL,
    RegistryError,
    TooLarge,
    TooSlow,
)
from registry_client.failures import http_date, phrase_of, status_error
from registry_client.transport import (
    CHUNK_BYTES,
    MAX_REDIRECTS,
    Patience,
    Request,
    Transport,
    content_length,
    pieces,
    shown,
)
from registry_client.trust import Trust
from store.digest import Digest
from values.classes import dataclass

__all__ = ["MAX_REDIRECTS", "Downloaded", "download", "shown"]

_SLOW_CHUNK_BYTES = 1 << 12


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What came.

    url: where it came from after all redirects, without credentials.
    file_name: last part of the path of the address that was asked, decoded; None if it has none.
    size_bytes, digest: of the bytes written; 0 and None when not modified.
    etag, last_modified: what the next download passes to be told "not modified".
    """

    url: str
    file_name: str | None
    size_bytes: int
    digest: Digest | None
    etag: str | None
    last_modified: datetime | None
    not_modified: bool


@dataclass(frozen=True, slots=True)
class _Wish:
    """One download as the caller asked for it."""

    url: str  # without credentials
    headers: Mapping[str, str]
    conditions: Mapping[str, str]  # If-None-Match, If-Modified-Since
    max_bytes: int | None
    patience: Patience

    @property
    def what(self) -> str:
        return f"download {shown(self.url)}"


def download(  # noqa: PLR0913 - keywords that do not depend on each other
    url: str,
    dest: BinaryIO,
    *,
    max_bytes: int | None = None,
    timeout_s: float = 60.0,
    retries: int = 4,
    backoff_s: float = 0.5,
    headers: Mapping[str, str] | None = None,
    etag: str | None = None,
    last_modified: datetime | None = None,
    expected: str | None = None,
    limit_s: float | None = None,
) -> Downloaded:
    """Write what `url` gives to `dest`, from where it stands.

    dest: seekable, for a retry starts over; after an error it may hold a part.
    timeout_s: the longest silence, not the longest download.
    retries: how often a lost connection, 429 or 5xx is tried again, after `backoff_s`, twice that,
    and so on, or after what Retry-After asks for.
    headers: sent to the server of `url`; not to another one that it redirects to.
    etag, last_modified: of what the caller has; if it is still that, nothing is written.
    expected: sha256 digest the bytes must have. limit_s: the longest that all of it may take.
    Raises RegistryError; the narrower ones say which part failed.
    """
    target, credentials = _without_credentials(url)
    conditions = {"If-None-Match": etag} if etag else {}
    if last_modified is not None:
        utc = last_modified.astimezone(UTC)
        conditions["If-Modified-Since"] = email.utils.format_datetime(utc, usegmt=True)
    deadline = None if limit_s is None else time.monotonic() + limit_s
    patience = Patience(timeout_s, retries, backoff_s, deadline)
    wish = _Wish(target, {**credentials, **(headers or {})}, conditions, max_bytes, patience)
    start = dest.tell()

    def attempt() -> Downloaded:
        dest.seek(start)
        dest.truncate()
        return _attempt(transport, wish, dest)

    with Transport(Trust.from_environment()) as transport:
        try:
            downloaded = patience.retried(attempt)
        except RegistryError as error:
            if patience.left_s() > 0:
                raise
            raise TooSlow(f"{wish.what}: took longer than {limit_s:g} s") from error
    _check(downloaded, target, expected)
    return downloaded


def _check(downloaded: Downloaded, url: str, expected: str | None) -> None:
    if expected is None or downloaded.digest in (None, expected):
        return
    raise DigestMismatch(
        f"download {shown(url)}: digest is {downloaded.digest}, expected {expected}",
        expected=expected,
        actual=str(downloaded.digest),
        hint="the file at this address has changed, or the checksum is wrong",
    )


def _without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Return `url` without user and fragment, and the header that stands for the user."""
    parts = _split(url)
    host = parts.netloc.rpartition("@")[2]
    bare = parts._replace(netloc=host, fragment="").geturl()
    if parts.username is None:
        return bare, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return bare, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidURL(f"download {shown(url)}: {error}") from error
    labels = (parts.hostname or "").removesuffix(".").split(".")
    named = all(0 < len(label) < 64 for label in labels)
    if parts.scheme not in ("http", "https") or not named or port == 0:
        raise InvalidURL(
            f"download {shown(url)}: not an http or https address", hint="write https://host/path"
        )
    return parts


def _attempt(transport: Transport, wish: _Wish, dest: BinaryIO) -> Downloaded:
    headers = {**wish.headers, **wish.conditions}
    request = Request("GET", wish.url, wish.what, headers)
    silence_s = max(0.001, min(wish.patience.timeout_s, wish.patience.left_s()))
    response = transport.follow(request, silence_s)
    with contextlib.closing(response):
        _raise_for_status(response, wish)
        not_modified = response.status_code == HTTPStatus.NOT_MODIFIED
        size_bytes, digest = (0, None) if not_modified else _receive(response, wish, dest)
        return Downloaded(
            url=response.url,
            file_name=unquote(urlsplit(wish.url).path).rpartition("/")[2] or None,
            size_bytes=size_bytes,
            digest=digest,
            etag=response.headers.get("ETag"),
            last_modified=http_date(response.headers.get("Last-Modified")),
            not_modified=not_modified,
        )


def _raise_for_status(response: requests.Response, wish: _Wish) -> None:
    status = response.status_code
    if status == HTTPStatus.OK or (status == HTTPStatus.NOT_MODIFIED and wish.conditions):
        return
    cause = f"{status} {phrase_of(status)}"
    if response.url != requests.utils.requote_uri(wish.url):
        cause += f" (redirected to {shown(response.url)})"
    hint = "the server wants credentials for this address" if status in (401, 403, 407) else None
    raise status_error(response, wish.what, cause=cause, hint=hint)


def _receive(response: requests.Response, wish: _Wish, dest: BinaryIO) -> tuple[int, Digest]:
    """Write the body to `dest`; return its size and digest."""
    _check_size(content_length(response) or 0, wish)
    size_bytes = 0
    sha256 = hashlib.sha256()
    # Slow bytes are counted in small pieces.
    chunk_bytes = CHUNK_BYTES if wish.patience.deadline is None else _SLOW_CHUNK_BYTES
    for chunk in pieces(response, wish.what, chunk_bytes):
        if wish.patience.left_s() < 0:
            raise TooSlow(f"{wish.what}: too slow")
        size_bytes += len(chunk)
        _check_size(size_bytes, wish)
        sha256.update(chunk)
        dest.write(chunk)
    return size_bytes, Digest(f"sha256:{sha256.hexdigest()}")


def _check_size(size_bytes: int, wish: _Wish) -> None:
    if wish.max_bytes is not None and size_bytes > wish.max_bytes:
        raise TooLarge(
            f"{wish.what}: larger than the limit of {wish.max_bytes} bytes",
            limit_bytes=wish.max_bytes,
        )
