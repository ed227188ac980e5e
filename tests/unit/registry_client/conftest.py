"""The fake registry, and a client without patience."""

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakeregistry import (
    FakeImage,
    digest_of,
    index_of,
    layer_tar,
    redirects,
    reset_after,
    sends,
    serve,
    short,
    status,
)

from registry_client.client import Access
from registry_client.credentials import Credentials
from registry_client.transport import Patience
from registry_client.trust import Trust
from store.root import Store

PATIENCE = Patience(timeout_s=5.0, retries=3, backoff_s=0.001)

registry = pytest.fixture(serve, name="registry")
elsewhere = pytest.fixture(serve, name="elsewhere")


class Faults:
    """The faults, for tests to take."""

    status = staticmethod(status)
    short = staticmethod(short)
    reset_after = staticmethod(reset_after)
    sends = staticmethod(sends)
    redirects = staticmethod(redirects)


@pytest.fixture
def faults() -> type[Faults]:
    return Faults


# --- the other side


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's proxies and credentials out of the tests."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    certificates = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", *certificates):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def access() -> Access:
    """Return access without patience for anything, and without credentials."""
    return Access(Trust(), PATIENCE, lambda _registry, _repository: None)


@pytest.fixture
def access_as() -> Callable[..., Access]:
    """Return a function: access_as(username="u", password="p") is access with credentials."""

    def make(**credentials: str) -> Access:
        found = Credentials(**credentials)
        return Access(Trust(), PATIENCE, lambda _registry, _repository: found)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def contents(root: Path) -> dict[str, Any]:
    """Return everything in a store that is not a lock or a cache of the process."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith("locks"):
            continue
        with contextlib.suppress(OSError):
            found[name] = path.read_bytes() if path.is_file() else path.is_dir()
    return found


class Make:
    """What tests make images with."""

    image = FakeImage
    tar = staticmethod(layer_tar)
    index = staticmethod(index_of)
    digest = staticmethod(digest_of)
    contents = staticmethod(contents)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def image() -> FakeImage:
    """Return an image of two layers, too big for one read."""
    big = bytes(range(256)) * 2000 + hashlib.sha256(b"x").digest() * 30000
    return FakeImage(
        [layer_tar({"hello": b"hello\n", "big": big}), layer_tar({"second": b"2" * 5000})],
        compress=lambda data: gzip.compress(data, compresslevel=0, mtime=0),
    )
