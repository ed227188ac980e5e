"""Plain HTTP(S) GET, for ADD and for build contexts at an address.

Owns revalidation, redirects, retries, the size limit and the proof that all bytes came. Knows
nothing of registries. The bytes are the server's: no netrc, no cookies, no Content-Encoding undone.
"""

import base64
import contextlib
import email.utils
import hashlib
import importlib.metadata
import random
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests

from registry_client.errors import (
    BadStatus,
    DigestMismatch,
    InvalidURL,
    NotFound,
    RateLimited,
    RegistryError,
    TooLarge,
    Truncated,
    Unauthorized,
    Unreachable,
)
from store.digest import Digest

MAX_REDIRECTS = 10
_CHUNK_BYTES = 1 << 18
_MAX_WAIT_S = 30.0
_REDIRECTS = (301, 302, 303, 307, 308)
# The headers of the caller that go to another server too. Any other may be a credential.
_HARMLESS = frozenset({"accept", "accept-language", "range"})


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
    timeout_s: float


class _TryAgain(Exception):
    """A failure that may pass. error: what is raised if it does not; wait_s: the server's wish."""

    def __init__(self, error: RegistryError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


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
) -> Downloaded:
    """Write what `url` gives to `dest`, from where it stands.

    dest: seekable, for a retry starts over; after an error it may hold a part.
    timeout_s: the longest silence, not the longest download.
    retries: how often a lost connection, 429 or 5xx is tried again, after `backoff_s`, twice that,
    and so on, or after what Retry-After asks for.
    headers: sent to the server of `url`; not to another one that it redirects to.
    etag, last_modified: of what the caller has; if it is still that, nothing is written.
    expected: sha256 digest the bytes must have.
    Raises RegistryError; the narrower ones say which part failed.
    """
    target, credentials = _without_credentials(url)
    conditions = {"If-None-Match": etag} if etag else {}
    if last_modified is not None:
        utc = last_modified.astimezone(UTC)
        conditions["If-Modified-Since"] = email.utils.format_datetime(utc, usegmt=True)
    wish = _Wish(target, {**credentials, **(headers or {})}, conditions, max_bytes, timeout_s)
    start = dest.tell()
    for attempt in range(retries + 1):
        dest.seek(start)
        dest.truncate()
        try:
            downloaded = _attempt(wish, dest)
        except _TryAgain as again:
            if attempt == retries:
                raise again.error from again.__cause__
            time.sleep(_wait_s(again, backoff_s * 2**attempt))
        else:
            _check(downloaded, target, expected)
            return downloaded
    raise ValueError(f"retries is {retries}, less than 0")


def shown(url: str) -> str:
    """Return `url` as it may be printed: without user, password and query (signed addresses)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?...' if parts.query else ''}"


def _wait_s(again: _TryAgain, backoff_s: float) -> float:
    if again.wait_s is not None:
        return min(again.wait_s, _MAX_WAIT_S)
    # Spread out, so that many clients do not come back in one wave.
    return min(backoff_s, _MAX_WAIT_S) * random.uniform(0.5, 1.0)


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


def _attempt(wish: _Wish, dest: BinaryIO) -> Downloaded:
    with requests.Session() as session, _translated(wish.url):
        response = _follow(session, wish)
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
                last_modified=_http_date(response.headers.get("Last-Modified")),
                not_modified=not_modified,
            )


def _follow(session: requests.Session, wish: _Wish) -> requests.Response:
    """Return the first answer that is no redirect; its body is not read yet."""
    url, own = wish.url, wish.headers
    for _ in range(MAX_REDIRECTS + 1):
        response = _get(session, url, {**own, **wish.conditions}, wish.timeout_s)
        location = response.headers.get("Location")
        if response.status_code not in _REDIRECTS or not location:
            return response
        response.close()
        # http.client reads headers as Latin-1, servers write UTF-8. A location's own user is not
        # sent: the server that redirects does not choose it.
        location = location.encode("latin-1", "replace").decode("utf-8", "replace")
        target, _ = _without_credentials(urljoin(url, location))
        if not _same_server(url, target):
            own = {name: value for name, value in own.items() if name.lower() in _HARMLESS}
        url = target
    raise Unreachable(f"download {shown(wish.url)}: more than {MAX_REDIRECTS} redirects")


def _same_server(one: str, other: str) -> bool:
    """Tell whether credentials for `one` may go to `other`: same host and port, TLS not lost."""
    old, new = urlsplit(one), urlsplit(other)
    if old.hostname != new.hostname:
        return False
    ports = {"http": 80, "https": 443}
    before = (old.scheme, old.port or ports[old.scheme])
    after = (new.scheme, new.port or ports[new.scheme])
    return before == after or (before, after) == (("http", 80), ("https", 443))


def _get(
    session: requests.Session, url: str, headers: Mapping[str, str], timeout_s: float
) -> requests.Response:
    fixed = {
        "User-Agent": f"pybuild/{_version()}",
        "Accept": "*/*",
        # What is stored must be what the address holds, not one way of sending it.
        "Accept-Encoding": "identity",
    }
    # Prepared without the session: it would look the host up in ~/.netrc.
    request = requests.Request("GET", url, headers={**fixed, **headers}).prepare()
    # Proxies and certificate bundles of the environment hold, address by address.
    environment = session.merge_environment_settings(request.url or url, {}, True, None, None)
    return session.send(request, allow_redirects=False, timeout=timeout_s, **environment)


def _version() -> str:
    try:
        return importlib.metadata.version("pybuild")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _raise_for_status(response: requests.Response, wish: _Wish) -> None:
    status = response.status_code
    if status == HTTPStatus.OK or (status == HTTPStatus.NOT_MODIFIED and wish.conditions):
        return
    try:
        phrase = HTTPStatus(status).phrase.lower()
    except ValueError:
        phrase = "unknown status"
    message = f"download {shown(wish.url)}: {status} {phrase}"
    if response.url != requests.utils.requote_uri(wish.url):
        message += f" (redirected to {shown(response.url)})"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise NotFound(message, status)
    if status in (401, 403, 407):
        raise Unauthorized(message, status, hint="the server wants credentials for this address")
    wait_s = _retry_after_s(response.headers.get("Retry-After"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        hint = "the server limits requests: try again later"
        raise _TryAgain(RateLimited(message, status, hint=hint), wait_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TryAgain(BadStatus(message, status), wait_s)
    raise BadStatus(message, status)


def _receive(response: requests.Response, wish: _Wish, dest: BinaryIO) -> tuple[int, Digest]:
    """Write the body to `dest`; return its size and digest."""
    announced = _content_length(response)
    _check_size(announced or 0, wish)
    # Without this header requests has no reason to decode: `identity` is only a wish, and some
    # servers answer it with gzip. iter_content, unlike raw.read, translates urllib3's exceptions.
    response.raw.headers.pop("Content-Encoding", None)
    size_bytes = 0
    sha256 = hashlib.sha256()
    for chunk in response.iter_content(_CHUNK_BYTES):
        size_bytes += len(chunk)
        _check_size(size_bytes, wish)
        sha256.update(chunk)
        dest.write(chunk)
    if announced is not None and size_bytes < announced:
        message = f"download {shown(wish.url)}: got {size_bytes} of {announced} bytes"
        raise _TryAgain(Truncated(message))
    return size_bytes, Digest(f"sha256:{sha256.hexdigest()}")


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    # With chunks their own ends count, see RFC 9112, 6.3.
    chunked = "Transfer-Encoding" in response.headers
    return int(length) if length.isascii() and length.isdecimal() and not chunked else None


def _check_size(size_bytes: int, wish: _Wish) -> None:
    if wish.max_bytes is not None and size_bytes > wish.max_bytes:
        raise TooLarge(
            f"download {shown(wish.url)}: larger than the limit of {wish.max_bytes} bytes",
            limit_bytes=wish.max_bytes,
        )


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the exceptions of requests into ours."""
    message = f"download {shown(url)}"
    try:
        yield
    except requests.exceptions.SSLError as error:
        hint = "REQUESTS_CA_BUNDLE names the file with the certificates to trust"
        raise Unreachable(f"{message}: {_cause(error)}", hint=hint) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _TryAgain(Truncated(f"{message}: {_cause(error)}")) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        unreachable = Unreachable(f"{message}: {_cause(error)}")
        inner = _innermost(error)
        if isinstance(inner, socket.gaierror) and inner.errno == socket.EAI_NONAME:
            raise unreachable from error  # no such host: that does not pass
        raise _TryAgain(unreachable) from error
    except (requests.RequestException, UnicodeError) as error:
        raise InvalidURL(f"{message}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Return the reason in a few words: requests says it in several lines."""
    inner = _innermost(error)
    if isinstance(inner, TimeoutError) or isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {inner.verify_message}"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[:1].lower() + inner.strerror[1:]
    return str(inner).partition("\n")[0] or type(inner).__name__


def _innermost(error: BaseException) -> BaseException:
    """Return the error of the system or of TLS that requests and urllib3 have wrapped."""
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        if isinstance(inner, OSError) and not isinstance(inner, requests.RequestException):
            break
        inner = _next_cause(inner)
    return seen[-1]


def _next_cause(error: BaseException) -> BaseException | None:
    arguments = [argument for argument in error.args if isinstance(argument, BaseException)]
    candidates = [getattr(error, "reason", None), *arguments, error.__cause__, error.__context__]
    return next((found for found in candidates if isinstance(found, BaseException)), None)


def _retry_after_s(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdecimal():
        return float(value)
    date = _http_date(value)
    return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
