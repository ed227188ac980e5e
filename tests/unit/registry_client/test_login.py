"""Login and logout: nothing is kept that was not let in."""

from dataclasses import replace

import pytest

from registry_client.credentials import Credentials, CredentialStore
from registry_client.errors import RegistryError, Unauthorized, Unreachable
from registry_client.login import log_in, log_out, registry_of

GIVEN = Credentials("user", "s3cr3t")


@pytest.mark.parametrize(
    ("server", "registry"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("example.org", "example.org"),
        ("https://example.org:5000/v2/", "example.org:5000"),
        ("http://localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("myhost", "myhost"),
    ],
)
def test_registry_of(server: str, registry: str) -> None:
    assert registry_of(server) == registry


@pytest.mark.parametrize("server", ["user:pw@example.org", "a b", "-x.org", "example.org:port"])
def test_what_is_no_registry(server: str) -> None:
    with pytest.raises(RegistryError) as caught:
        registry_of(server)
    assert "pw" not in str(caught.value)


def test_basic(registry, access) -> None:
    registry.basic = ("user", "s3cr3t")
    store = CredentialStore()
    logged_in = log_in(registry.host, GIVEN, access, store)
    assert logged_in.registry == registry.host
    assert logged_in.path == store.path
    assert store.find(registry.host) == GIVEN


def test_a_token(registry, access) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", "s3cr3t")
    store = CredentialStore()
    log_in(registry.host, GIVEN, access, store)
    assert store.find(registry.host) == GIVEN
    (query,) = registry.token_queries
    assert "scope" not in query
    assert query["offline_token"] == ["true"]


def test_an_identity_token_is_kept_instead_of_the_password(registry, access) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", "s3cr3t")
    registry.identity_token = "refresh-me"
    store = CredentialStore()
    log_in(registry.host, GIVEN, access, store)
    assert store.find(registry.host) == Credentials("user", identity_token="refresh-me")
    with open(store.path) as file:
        assert "s3cr3t" not in file.read()


def test_a_registry_that_asks_nobody(registry, access) -> None:
    log_in(registry.host, GIVEN, access, CredentialStore())


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_wrong_password_is_not_kept(kind, registry, access) -> None:
    if kind == "basic":
        registry.basic = ("user", "other")
    else:
        registry.realm, registry.account = f"{registry.address}/token", ("user", "other")
    store = CredentialStore()
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        log_in(registry.host, GIVEN, access, store)
    assert store.find(registry.host) is None


def test_what_was_known_before_is_not_used(registry, access) -> None:
    registry.basic = ("user", "s3cr3t")
    known = replace(access, find=lambda *_: GIVEN)
    with pytest.raises(Unauthorized):
        log_in(registry.host, Credentials("user", "wrong"), known, CredentialStore())


def test_nobody_there(access) -> None:
    with pytest.raises(Unreachable, match=r"^login 127.0.0.1:1: "):
        log_in("127.0.0.1:1", GIVEN, access, CredentialStore())


def test_log_out() -> None:
    store = CredentialStore()
    store.keep("docker.io", GIVEN)
    assert log_out("", store) == ("docker.io", True)
    assert log_out("docker.io", store) == ("docker.io", False)
