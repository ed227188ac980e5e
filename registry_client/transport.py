"""One HTTP exchange, and what every exchange needs: trust, proxies, redirects, patience.

Here requests is talked to; its exceptions become ours in registry_client.failures. What is sent is
what the caller says: no netrc, no cookies, no Content-Encoding undone. Knows nothing of registries.
"""

import contextlib
import importlib.metadata
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import requests.utils

from registry_client.errors import InvalidURL, Truncated, Unreachable
from registry_client.failures import TryAgain, translated
from registry_client.trust import Trust, is_local
from values.classes import dataclass, field

MAX_REDIRECTS = 10
CHUNK_BYTES = 1 << 18
_CONNECT_TIMEOUT_S = 30.0
_MAX_WAIT_S = 30.0
_CONNECTIONS = 16
_SMALL_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
# The headers of the caller that go to another server too. Any other may be a credential.
_HARMLESS = frozenset(
    {"accept", "accept-language", "if-modified-since", "if-none-match", "if-range", "range"}
)

_Result = TypeVar("_Result")


class Body(Protocol):
    """What can be sent without being in memory: a size known before, the bytes in pieces."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One request. url: without user and fragment. what: begins every error about it."""

    method: str
    url: str
    what: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Body | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on trying.

    timeout_s: the longest silence, not the longest transfer. retries: how often a lost connection,
    429 or 5xx is tried again, after `backoff_s`, twice that, and so on, or after what Retry-After
    asks for. deadline: nothing is waited for beyond it (time.monotonic()).
    """

    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 0.5
    deadline: float | None = None

    def wait(self, attempt: int, again: TryAgain) -> None:
        """Sleep before the attempt after `attempt` (from 0), or raise what `again` stands for."""
        # Spread out, so that many clients do not come back in one wave.
        seconds = self.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
        if again.wait_s is not None:
            seconds = again.wait_s
        seconds = min(seconds, _MAX_WAIT_S)
        if attempt >= self.retries or self.left_s() < seconds:
            raise again.error from again.__cause__
        time.sleep(seconds)

    def left_s(self) -> float:
        """Return how long it is until the deadline; below 0 behind it."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def retried(
        self, attempt: Callable[[], _Result], before: Callable[[], object] = lambda: None
    ) -> _Result:
        """Return what `attempt` returns, called again while it raises TryAgain.

        before: called before every attempt but the first, for what has to be undone.
        """
        for number in range(self.retries + 1):
            if number:
                before()
            try:
                return attempt()
            except TryAgain as again:
                self.wait(number, again)
        raise ValueError(f"retries is {self.retries}, less than 0")


class Transport:
    """Connections to servers, kept open and shared by threads; a context manager."""

    def __init__(self, trust: Trust | None = None) -> None:
        self.trust = trust or Trust()
        self._adapter = _Adapter(self.trust)
        self._agent = f"pybuild/{_version()}"

    def __enter__(self) -> "Transport":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._adapter.close()

    def send(self, request: Request, timeout_s: float) -> requests.Response:
        """Send a request and return the answer, whatever its status, its body not read yet.

        Redirects are answers. Raises TryAgain, Unreachable, InvalidURL.
        """
        fixed = {
            "User-Agent": self._agent,
            "Accept": "*/*",
            # What is stored must be what the address holds, not one way of sending it.
            "Accept-Encoding": "identity",
        }
        with translated(request.what):
            # Prepared without a session: that would look the host up in ~/.netrc.
            prepared = requests.Request(
                request.method,
                request.url,
                headers={**fixed, **request.headers},
                data=request.body,
            ).prepare()
            url = prepared.url or request.url
            response = self._adapter.send(
                prepared,
                stream=True,
                timeout=(_CONNECT_TIMEOUT_S, timeout_s),
                verify=not self.trust.is_insecure(urlsplit(url).netloc),
                proxies=_proxies(url),
            )
        # Without this header requests has no reason to decode: `identity` is only a wish, and some
        # servers answer it with gzip.
        response.raw.headers.pop("Content-Encoding", None)
        return response

    def follow(self, request: Request, timeout_s: float) -> requests.Response:
        """Send a request and return the first answer that is no redirect, its body not read yet.

        Only harmless headers go to another server. Raises as `send`, and Unreachable for more than
        MAX_REDIRECTS redirects.
        """
        url, headers = request.url, request.headers
        for _ in range(MAX_REDIRECTS + 1):
            here = Request(request.method, url, request.what, headers, request.body)
            response = self.send(here, timeout_s)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            target = target_of(url, location, request.what)
            if not same_server(url, target):
                headers = {k: value for k, value in headers.items() if k.lower() in _HARMLESS}
            url = target
        raise Unreachable(f"{request.what}: more than {MAX_REDIRECTS} redirects")


def _proxies(url: str) -> dict[str, str]:
    # As Go's tools, whatever NO_PROXY says: a proxy has another localhost.
    return {} if is_local(urlsplit(url).netloc) else requests.utils.get_environ_proxies(url)


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' connections, with a TLS context for each server."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        super().__init__(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        parts = urlsplit(request.url or "")
        if parts.scheme == "https":
            with self._lock:
                if parts.netloc not in self._contexts:
                    self._contexts[parts.netloc] = self._trust.context(parts.netloc)
                pool["ssl_context"] = self._contexts[parts.netloc]
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the context as it is: requests would add the certificates of certifi."""


def shown(url: str) -> str:
    """Return `url` as it may be printed: without user, password and query (signed addresses)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?...' if parts.query else ''}"


def target_of(url: str, location: str, what: str) -> str:
    """Return the address that `location` means on a page at `url`, without user and fragment."""
    # http.client reads headers as Latin-1, servers write UTF-8.
    location = location.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        parts = urlsplit(urljoin(url, location))
        usable = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), None
    if not usable:
        raise InvalidURL(f"{what}: redirected to {shown(location)}: not an http or https address")
    # A location's own user is not sent: the server that redirects does not choose it.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def same_server(one: str, other: str) -> bool:
    """Tell whether credentials for `one` may go to `other`: same host and port, TLS not lost."""
    old, new = urlsplit(one), urlsplit(other)
    if old.hostname != new.hostname:
        return False
    before = (old.scheme, old.port or _PORTS[old.scheme])
    after = (new.scheme, new.port or _PORTS[new.scheme])
    return before == after or (before, after) == (("http", 80), ("https", 443))


def pieces(
    response: requests.Response, what: str, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """Yield the body. Raises TryAgain when it ends early, as far as its framing tells."""
    announced = content_length(response)
    size_bytes = 0
    with translated(what):
        # iter_content, unlike raw.read, turns urllib3's exceptions into those of requests.
        for chunk in response.iter_content(chunk_bytes):
            size_bytes += len(chunk)
            yield chunk
    if announced is not None and size_bytes < announced:
        raise TryAgain(Truncated(f"{what}: got {size_bytes} of {announced} bytes"))


def release(response: requests.Response) -> None:
    """Let the next request have the connection, unless much of the body is left to read.

    Closing alone would end it, and with TLS each request would begin with a handshake.
    """
    small = (content_length(response) or 0) <= _SMALL_BYTES
    framed = "Content-Length" in response.headers and "Transfer-Encoding" not in response.headers
    if response.request.method == "HEAD" or (small and framed):
        # RuntimeError: it has been read.
        with contextlib.suppress(requests.RequestException, RuntimeError):
            response.content  # noqa: B018 - for its effect
    response.close()


def content_length(response: requests.Response) -> int | None:
    """Return the announced size of the body in bytes, None where none is."""
    length = response.headers.get("Content-Length", "")
    # With chunks their own ends count, see RFC 9112, 6.3.
    chunked = "Transfer-Encoding" in response.headers
    return int(length) if length.isascii() and length.isdecimal() and not chunked else None


def _version() -> str:
    try:
        return importlib.metadata.version("pybuild")
    except importlib.metadata.PackageNotFoundError:
        return "0"
