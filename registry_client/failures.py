"""What goes wrong in an HTTP exchange, as errors of ours: statuses, and exceptions of requests."""

import contextlib
import email.utils
import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus

import requests

from registry_client.errors import (
    BadStatus,
    InvalidURL,
    NotFound,
    RateLimited,
    RegistryError,
    Truncated,
    Unauthorized,
    Unreachable,
    Untrusted,
)

_ABSENT = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH)


class TryAgain(Exception):
    """A failure that may pass.

    error: what is raised if it does not. wait_s: the server's wish. is_absent: nobody is there.
    """

    def __init__(
        self, error: RegistryError, wait_s: float | None = None, *, is_absent: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        self.is_absent = is_absent


def status_error(
    response: requests.Response, message: str, *, cause: str | None = None, hint: str | None = None
) -> RegistryError | TryAgain:
    """Return what an answer without success is to be raised as.

    message: what failed. cause: instead of the status's own words.
    """
    status = response.status_code
    message = f"{message}: {cause or f'{status} {phrase_of(status)}'}"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return NotFound(message, status, hint=hint)
    if status in (401, 403, 407):
        return Unauthorized(message, status, hint=hint)
    wait_s = retry_after_s(response.headers.get("Retry-After"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        hint = hint or "the server limits requests: try again later"
        return TryAgain(RateLimited(message, status, hint=hint), wait_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return TryAgain(BadStatus(message, status, hint=hint), wait_s)
    return BadStatus(message, status, hint=hint)


def phrase_of(status: int) -> str:
    """Return the words for an HTTP status."""
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "unknown status"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the exceptions of requests into ours.

    They are not chained: requests puts whole addresses into its texts, with signatures, and a
    traceback would print them.
    """
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise _tls_error(what, error) from None
    except requests.exceptions.ChunkedEncodingError as error:
        lost = isinstance(_innermost(error), OSError)
        cause = _cause(error) if lost else "the connection ended before all bytes came"
        raise TryAgain(Truncated(f"{what}: {cause}")) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        unreachable = Unreachable(f"{what}: {_cause(error)}")
        inner = _innermost(error)
        if isinstance(inner, socket.gaierror) and inner.errno == socket.EAI_NONAME:
            raise unreachable from None  # no such host: that does not pass
        raise TryAgain(unreachable, is_absent=_is_absent(inner)) from None
    except (requests.RequestException, UnicodeError) as error:
        raise InvalidURL(f"{what}: {_cause(error)}") from None


def _is_absent(error: BaseException) -> bool:
    """Tell whether nobody listens there, or the way there is not known: it seldom passes soon."""
    return isinstance(error, socket.gaierror) or (
        isinstance(error, OSError) and error.errno in _ABSENT
    )


def _tls_error(what: str, error: Exception) -> Unreachable:
    inner = _innermost(error)
    message = f"{what}: {_cause(error)}"
    if isinstance(inner, ssl.SSLCertVerificationError):
        hint = "REQUESTS_CA_BUNDLE names the file with the certificates to trust"
        return Untrusted(message, hint=hint)
    if isinstance(inner, ssl.SSLError) and inner.reason == "WRONG_VERSION_NUMBER":
        hint = "the server speaks no TLS at this port; perhaps it is http:// there"
        return Unreachable(message, hint=hint)
    return Unreachable(message)


def _cause(error: Exception) -> str:
    """Return the reason in a few words: requests says it in several lines."""
    inner = _innermost(error)
    if isinstance(inner, TimeoutError) or isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {inner.verify_message}"
    if isinstance(inner, ssl.SSLError) and inner.reason:
        return f"TLS: {inner.reason.lower().replace('_', ' ')}"
    if isinstance(inner, http.client.BadStatusLine):
        return "what answers there speaks no HTTP"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[:1].lower() + inner.strerror[1:]
    text = str(inner).partition("\n")[0] or type(inner).__name__
    return text[:1].lower() + text[1:]


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


def retry_after_s(value: str | None) -> float | None:
    """Return what a Retry-After header asks for, in seconds from now."""
    if value is None:
        return None
    if value.isascii() and value.isdecimal():
        return float(value)
    date = http_date(value)
    return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def http_date(value: str | None) -> datetime | None:
    """Return the time that an HTTP header holds, None where it holds none."""
    if value is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
