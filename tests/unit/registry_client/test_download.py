"""Downloads from a server of our own, that also breaks the protocol where a real one might."""

import gzip
import hashlib
import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry_client.download import MAX_REDIRECTS, download, shown
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

BODY = bytes(range(256)) * 300
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
ETAG = '"v1"'
DATE = "Sat, 01 Mar 2025 10:20:30 GMT"
WHEN = datetime(2025, 3, 1, 10, 20, 30, tzinfo=UTC)


class Handler(BaseHTTPRequestHandler):
    """Answers by the routes of its server."""

    protocol_version = "HTTP/1.1"
    server: "Site"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((path, dict(self.headers.items())))
        self.close_connection = True
        self.server.routes[path](self)

    def answer(self, status: int, body: bytes = b"", **headers: Any) -> None:
        """Send an answer; a header of None is left out, `_` in its name reads `-`."""
        given = {"Content_Length": len(body), **headers}
        self.send_response(status)
        for name, value in given.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


Route = Callable[[Handler], None]


class Site(ThreadingHTTPServer):
    """A server with a page for every route; it remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Route] = {"/file": lambda page: page.answer(200, BODY)}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.failures: list[BaseException] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that stops reading is no failure: size limits and time-outs do that.
        if error is not None and not isinstance(error, ConnectionError):
            self.failures.append(error)

    def headers_at(self, path: str) -> dict[str, str]:
        (headers,) = [headers for at, headers in self.seen if at == path]
        return headers


def serve() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()
    assert not site.failures


site = pytest.fixture(serve, name="site")
other = pytest.fixture(serve, name="other")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


def get(url: str, **more: Any) -> tuple[Any, bytes]:
    dest = io.BytesIO()
    arguments = {"timeout_s": 5.0, "retries": 2, "backoff_s": 0.001, **more}
    downloaded = download(url, dest, **arguments)
    return downloaded, dest.getvalue()


def redirect(to: str, status: int = 302) -> Route:
    return lambda page: page.answer(status, b"moved", Location=to)


def in_turn(*routes: Route) -> Route:
    """Answer the first time with the first route, and so on; the last one stays."""
    left = list(routes)
    return lambda page: (left.pop(0) if len(left) > 1 else left[0])(page)


# --- what comes back


def test_a_file(site: Site) -> None:
    site.routes["/dir/my%20file.bin"] = lambda page: page.answer(
        200, BODY, ETag=ETAG, Last_Modified=DATE
    )
    downloaded, body = get(f"{site.address}/dir/my%20file.bin?token=1#part")
    assert body == BODY
    assert downloaded.url == f"{site.address}/dir/my%20file.bin?token=1"
    assert downloaded.file_name == "my file.bin"
    assert (downloaded.size_bytes, downloaded.digest) == (len(BODY), DIGEST)
    assert (downloaded.etag, downloaded.last_modified) == (ETAG, WHEN)
    assert downloaded.not_modified is False


def test_headers_we_send(site: Site) -> None:
    get(f"{site.address}/file", headers={"X-Own": "1"})
    headers = site.headers_at("/file")
    assert headers["User-Agent"].startswith("pybuild/")
    assert headers["Accept-Encoding"] == "identity"
    assert headers["X-Own"] == "1"
    assert "Authorization" not in headers and "Cookie" not in headers


@pytest.mark.parametrize("path", ["", "/", "/dir/"])
def test_an_address_without_a_file_name(path: str, site: Site) -> None:
    site.routes[path or "/"] = lambda page: page.answer(200, b"x")
    assert get(site.address + path)[0].file_name is None


def test_writing_starts_where_the_destination_stands(site: Site) -> None:
    dest = io.BytesIO(b"head, then old bytes")
    dest.seek(4)
    downloaded = download(f"{site.address}/file", dest)
    assert dest.getvalue() == b"head" + BODY
    assert downloaded.digest == DIGEST


@pytest.mark.parametrize("length", [0, 1])
def test_small_bodies(length: int, site: Site) -> None:
    site.routes["/small"] = lambda page: page.answer(200, BODY[:length])
    downloaded, body = get(f"{site.address}/small")
    assert (downloaded.size_bytes, body) == (length, BODY[:length])


def test_a_compressed_file_stays_as_it_is(site: Site) -> None:
    """Even if the server calls its compression a way of sending (Content-Encoding)."""
    packed = gzip.compress(BODY)
    site.routes["/x.tar.gz"] = lambda page: page.answer(200, packed, Content_Encoding="gzip")
    downloaded, body = get(f"{site.address}/x.tar.gz")
    assert body == packed
    assert downloaded.size_bytes == len(packed)


def test_a_wrong_content_encoding_does_no_harm(site: Site) -> None:
    site.routes["/x"] = lambda page: page.answer(200, BODY, Content_Encoding="gzip")
    assert get(f"{site.address}/x")[1] == BODY


def chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> Route:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end
    return lambda page: page.answer(200, body, Content_Length=None, Transfer_Encoding="chunked")


def test_chunks(site: Site) -> None:
    site.routes["/chunked"] = chunks(BODY[:1000], BODY[1000:])
    assert get(f"{site.address}/chunked")[0].digest == DIGEST


def test_a_body_that_ends_with_the_connection(site: Site) -> None:
    site.routes["/open"] = lambda page: page.answer(200, BODY, Content_Length=None)
    assert get(f"{site.address}/open")[0].digest == DIGEST


@pytest.mark.parametrize("value", ["yesterday", "", "0"])
def test_dates_that_are_none(value: str, site: Site) -> None:
    site.routes["/x"] = lambda page: page.answer(200, b"x", Last_Modified=value)
    assert get(f"{site.address}/x")[0].last_modified is None


# --- revalidation


def test_not_modified(site: Site) -> None:
    site.routes["/file"] = lambda page: page.answer(304, ETag=ETAG, Content_Length=None)
    east = WHEN.astimezone(timezone(timedelta(hours=5)))
    downloaded, body = get(f"{site.address}/file", etag=ETAG, last_modified=east, expected=DIGEST)
    headers = site.headers_at("/file")
    assert (headers["If-None-Match"], headers["If-Modified-Since"]) == (ETAG, DATE)
    assert downloaded.not_modified is True
    assert (downloaded.size_bytes, downloaded.digest, body) == (0, None, b"")
    assert downloaded.etag == ETAG


def test_modified(site: Site) -> None:
    downloaded, body = get(f"{site.address}/file", etag='"old"')
    assert (downloaded.not_modified, body) == (False, BODY)


def test_not_modified_without_being_asked_is_an_error(site: Site) -> None:
    site.routes["/file"] = lambda page: page.answer(304, Content_Length=None)
    with pytest.raises(BadStatus, match="304"):
        get(f"{site.address}/file")


def test_conditions_follow_redirects(site: Site, other: Site) -> None:
    site.routes["/a"] = redirect(f"{other.address}/file")
    get(f"{site.address}/a", etag=ETAG)
    assert other.headers_at("/file")["If-None-Match"] == ETAG


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, site: Site) -> None:
    site.routes["/a/b"] = redirect("../c?x=1", status)
    site.routes["/c"] = redirect("/file", status)
    downloaded, body = get(f"{site.address}/a/b")
    assert body == BODY
    assert downloaded.url == f"{site.address}/file"
    assert downloaded.file_name == "b"  # of the address that the Dockerfile names


def test_a_redirect_to_a_name_in_utf8(site: Site) -> None:
    site.routes["/a"] = lambda page: page.answer(
        302,
        Location="/stra\xc3\x9fe",  # the bytes of UTF-8, as headers carry them
    )
    site.routes["/stra%C3%9Fe"] = lambda page: page.answer(200, BODY)
    assert get(f"{site.address}/a")[1] == BODY


def test_the_limit_of_redirects(site: Site) -> None:
    for number in range(MAX_REDIRECTS):
        site.routes[f"/{number}"] = redirect(f"/{number + 1}")
    site.routes[f"/{MAX_REDIRECTS}"] = lambda page: page.answer(200, BODY)
    assert get(f"{site.address}/0")[1] == BODY
    site.routes[f"/{MAX_REDIRECTS}"] = redirect("/0")
    with pytest.raises(Unreachable, match="more than 10 redirects"):
        get(f"{site.address}/0")


def test_a_redirect_without_a_place_is_an_error(site: Site) -> None:
    site.routes["/a"] = lambda page: page.answer(302)
    with pytest.raises(BadStatus, match="302 found"):
        get(f"{site.address}/a")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://h:0/"])
def test_redirects_lead_to_http_only(place: str, site: Site) -> None:
    site.routes["/a"] = redirect(place)
    with pytest.raises(InvalidURL):
        get(f"{site.address}/a")


SECRETS = {"Authorization": "Bearer t0ken", "Cookie": "a=b", "Private-Token": "x", "Accept": "x/y"}


def test_credentials_follow_on_the_same_server(site: Site) -> None:
    site.routes["/a"] = redirect(f"{site.address}/file")
    get(f"{site.address}/a", headers=SECRETS)
    assert site.headers_at("/file").items() >= SECRETS.items()


def test_credentials_stay_off_another_server(site: Site, other: Site) -> None:
    """And do not come back when it redirects to the first."""
    site.routes["/a"] = redirect(f"{other.address}/b")
    other.routes["/b"] = redirect(f"{site.address}/file")
    get(f"{site.address}/a", headers=SECRETS)
    assert site.headers_at("/a").items() >= SECRETS.items()
    for headers in (other.headers_at("/b"), site.headers_at("/file")):
        assert headers["Accept"] == "x/y"
        assert not headers.keys() & {"Authorization", "Cookie", "Private-Token"}


def test_another_name_of_the_same_machine_is_another_server(site: Site) -> None:
    site.routes["/a"] = redirect(f"http://localhost:{site.server_port}/file")
    get(f"{site.address}/a", headers=SECRETS)
    assert "Authorization" not in site.headers_at("/file")


def test_the_user_of_an_address_is_sent_and_never_shown(site: Site, other: Site) -> None:
    site.routes["/a"] = redirect(f"{other.address}/b")
    other.routes["/b"] = lambda page: page.answer(404)
    url = site.address.replace("//", "//us%40er:pass%3Aword@")
    with pytest.raises(NotFound) as caught:
        get(f"{url}/a")
    assert site.headers_at("/a")["Authorization"] == "Basic dXNAZXI6cGFzczp3b3Jk"
    assert "Authorization" not in other.headers_at("/b")
    for leak in ("word", "us%40er", "dXNA"):
        assert leak not in str(caught.value)


def test_a_user_in_a_redirect_is_not_sent(site: Site) -> None:
    site.routes["/a"] = redirect(site.address.replace("//", "//eve:x@") + "/file")
    get(f"{site.address}/a")
    assert "Authorization" not in site.headers_at("/file")


def test_netrc_is_not_read(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    site.routes["/a"] = redirect("/file")
    get(f"{site.address}/a")
    assert all("Authorization" not in headers for _, headers in site.seen)


def test_cookies_are_not_kept(site: Site) -> None:
    site.routes["/a"] = lambda page: page.answer(302, Location="/file", Set_Cookie="a=b; Path=/")
    get(f"{site.address}/a")
    assert "Cookie" not in site.headers_at("/file")


def test_a_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", site.address)
    site.routes["http://files.invalid/x"] = lambda page: page.answer(200, BODY)
    assert get("http://files.invalid/x")[1] == BODY


# --- failures that pass


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(status: int, site: Site) -> None:
    site.routes["/x"] = in_turn(
        lambda page: page.answer(status, b"busy"),
        lambda page: page.answer(status, b"busy", Retry_After="0"),
        lambda page: page.answer(200, BODY),
    )
    assert get(f"{site.address}/x")[1] == BODY
    assert len(site.seen) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimited), (500, BadStatus), (503, BadStatus)]
)
def test_retries_end(status: int, error: type[BadStatus], site: Site) -> None:
    site.routes["/x"] = lambda page: page.answer(status, Retry_After="0")
    with pytest.raises(error, match=f"/x: {status} ") as caught:
        get(f"{site.address}/x")
    assert caught.value.status == status
    assert len(site.seen) == 3


def test_a_date_to_retry_after(site: Site) -> None:
    site.routes["/x"] = in_turn(
        lambda page: page.answer(503, Retry_After=DATE), lambda page: page.answer(200, BODY)
    )
    # The date is long past: no wait, in spite of the back-off.
    assert get(f"{site.address}/x", backoff_s=1000.0)[1] == BODY


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, BadStatus) for status in (204, 206, 400, 418, 499)),
        *((status, Unauthorized) for status in (401, 403, 407)),
        *((status, NotFound) for status in (404, 410)),
    ],
)
def test_refusals_are_final(status: int, error: type[BadStatus], site: Site) -> None:
    site.routes["/x"] = lambda page: page.answer(status)
    with pytest.raises(error, match=f"/x: {status} ") as caught:
        get(f"{site.address}/x")
    assert caught.value.status == status
    assert len(site.seen) == 1


def half(page: Handler) -> None:
    page.answer(200, BODY[:1000], Content_Length=len(BODY))


def test_a_short_body_is_fetched_again(site: Site) -> None:
    site.routes["/x"] = in_turn(half, lambda page: page.answer(200, BODY))
    downloaded, body = get(f"{site.address}/x")
    assert (downloaded.size_bytes, downloaded.digest) == (len(BODY), DIGEST)
    assert body == BODY


def test_a_shorter_second_body_leaves_nothing_of_the_first(site: Site) -> None:
    site.routes["/x"] = in_turn(half, lambda page: page.answer(200, b"x"))
    assert get(f"{site.address}/x")[1] == b"x"


@pytest.mark.parametrize(
    "broken",
    [half, chunks(BODY, end=b""), chunks(BODY, end=b"zz\r\n"), chunks(end=b"fff\r\nshort")],
    ids=["length", "no last chunk", "bad chunk", "short chunk"],
)
def test_short_bodies_are_errors(broken: Route, site: Site) -> None:
    site.routes["/x"] = broken
    with pytest.raises(Truncated) as caught:
        get(f"{site.address}/x")
    cause = "the connection ended before all bytes came"
    assert str(caught.value) == f"download {site.address}/x: {cause}"
    assert len(site.seen) == 3


def test_what_is_no_http(site: Site) -> None:
    def talk(page: Handler) -> None:
        page.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    site.routes["/x"] = talk
    with pytest.raises(Unreachable, match="what answers there speaks no HTTP"):
        get(f"{site.address}/x")


def hang_up(page: Handler) -> None:
    page.connection.shutdown(socket.SHUT_RDWR)


def test_a_lost_connection_is_made_again(site: Site) -> None:
    site.routes["/x"] = in_turn(hang_up, lambda page: page.answer(200, BODY))
    assert get(f"{site.address}/x")[1] == BODY


def test_a_refused_connection(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        get(f"http://127.0.0.1:{port}/x")
    assert str(caught.value) == f"download http://127.0.0.1:{port}/x: connection refused"


def test_a_silent_server(site: Site) -> None:
    release = threading.Event()

    def silent(page: Handler) -> None:
        release.wait(10)
        page.answer(200)

    def silent_after_a_while(page: Handler) -> None:
        page.answer(200, BODY[:10], Content_Length=len(BODY))
        page.wfile.flush()
        release.wait(10)

    site.routes |= {"/silent": silent, "/half": silent_after_a_while}
    try:
        for path in ("/silent", "/half"):
            with pytest.raises(Unreachable) as caught:
                get(site.address + path, timeout_s=0.05, retries=1)
            assert str(caught.value) == f"download {site.address}{path}: timed out"
    finally:
        release.set()
    seen = [path for path, _ in site.seen]
    # A busy machine may be late with the first bytes of a half, which then counts as silent.
    assert (seen[:2], {*seen[2:]}, len(seen) >= 4) == (["/silent"] * 2, {"/half"}, True)


def test_tls_with_a_server_that_has_none(site: Site) -> None:
    with pytest.raises(Unreachable) as caught:
        get(site.address.replace("http:", "https:") + "/x")
    assert "http://" in str(caught.value.hint)
    assert "\n" not in str(caught.value)


# --- limits and digests


def test_the_size_limit(site: Site) -> None:
    assert get(f"{site.address}/file", max_bytes=len(BODY))[1] == BODY
    with pytest.raises(TooLarge) as caught:
        get(f"{site.address}/file", max_bytes=len(BODY) - 1)
    assert caught.value.limit_bytes == len(BODY) - 1


def test_the_size_limit_does_not_trust_the_server(site: Site) -> None:
    site.routes["/chunked"] = chunks(*[BODY] * 20)
    dest = io.BytesIO()
    with pytest.raises(TooLarge):
        download(f"{site.address}/chunked", dest, max_bytes=100_000)
    assert len(dest.getvalue()) <= 100_000
    assert len(site.seen) == 1


def test_a_digest_that_is_right(site: Site) -> None:
    assert get(f"{site.address}/file", expected=DIGEST)[0].digest == DIGEST


def test_a_digest_that_is_wrong(site: Site) -> None:
    wrong = "sha256:" + "0" * 64
    with pytest.raises(DigestMismatch) as caught:
        get(f"{site.address}/file", expected=wrong)
    assert (caught.value.expected, caught.value.actual) == (wrong, DIGEST)
    assert caught.value.hint
    assert len(site.seen) == 1


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        *("", "host/x", "ftp://host/x", "file:///etc/passwd", "http://", "https:///x"),
        *("http://h:99999/x", "http://h:0/", "http://h:port/", "http://[::1/x"),
        *("http://a..b/", f"http://{'a' * 64}/", "http://*.b\n/"),
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        get(url)
    assert isinstance(caught.value, InvalidURL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://host/a/b", "https://host/a/b"),
        ("https://user:secret@host:8080/a", "https://host:8080/a"),
        ("https://token@host/a?X-Signature=abc#part", "https://host/a?..."),
        ("http://[broken", "an address that cannot be read"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, wanted: str) -> None:
    assert shown(url) == wanted


def test_a_destination_that_fails_is_not_the_servers_fault(site: Site) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        download(f"{site.address}/file", Full())
    assert not isinstance(caught.value, RegistryError)
    assert len(site.seen) == 1
