"""Who we are to a registry, and how it is reached."""

import time
import traceback

import pytest

from registry_client.client import Access, Call, Client, scope
from registry_client.credentials import Credentials
from registry_client.errors import BadStatus, RegistryError, Unauthorized, Unreachable
from registry_client.pull import pull
from registry_client.push import push
from registry_client.trust import Trust
from store.oci import ImageConfig
from store.reference import Reference

SECRET = "s3cr3t-p4ssw0rd"


@pytest.fixture
def reference(registry, image) -> Reference:
    registry.add("app", "1", image)
    return Reference.parse(f"{registry.host}/app:1")


def ask(registry, access, path: str = "/v2/app/tags/list") -> None:
    with Client(registry.host, access) as client:
        client.ask(Call("GET", path, "ask", (scope("app", "pull"),))).close()


def authorizations(registry) -> list[str | None]:
    return [h.get("Authorization") for _, path, h in registry.seen if path != "/token"]


# --- basic


def test_basic(registry, store, reference, access_as) -> None:
    registry.basic = ("user", SECRET)
    pull(store, reference, access=access_as(username="user", password=SECRET))
    first, *rest = authorizations(registry)
    assert first is None  # the ping: nothing is shown before it is asked for
    assert all(value and value.startswith("Basic ") for value in rest)


def test_a_wrong_password(registry, store, reference, access_as) -> None:
    registry.basic = ("user", SECRET)
    with pytest.raises(Unauthorized):
        pull(store, reference, access=access_as(username="user", password="other"))


def test_nothing_is_shown_to_a_registry_that_asks_for_nothing(
    registry, store, reference, access_as
) -> None:
    pull(store, reference, access=access_as(username="user", password=SECRET))
    assert set(authorizations(registry)) == {None}


# --- tokens


def test_an_anonymous_token(registry, store, reference, access) -> None:
    registry.realm = f"{registry.address}/token"
    pull(store, reference, access=access)
    (query,) = registry.token_queries  # one for the manifest and all blobs
    assert query == {"service": ["fake"], "scope": ["repository:app:pull"]}
    assert set(authorizations(registry)) == {None, "Bearer token-1"}


def test_a_token_for_credentials(registry, store, reference, access_as) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", SECRET)
    pull(store, reference, access=access_as(username="user", password=SECRET))
    assert registry.token_queries[0]["account"] == ["user"]
    shown = [h for _, path, h in registry.seen if not path.startswith("/token")]
    assert not any(h.get("Authorization", "").startswith("Basic") for h in shown)


def test_a_wrong_password_for_a_token(registry, store, reference, access_as) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", SECRET)
    wrong = access_as(username="user", password=SECRET[::-1])
    with pytest.raises(Unauthorized, match="incorrect username or password") as caught:
        pull(store, reference, access=wrong)
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET[::-1] not in text


def test_no_credentials_for_a_token(registry, store, reference, access) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", SECRET)
    with pytest.raises(Unauthorized, match="authentication required") as caught:
        pull(store, reference, access=access)
    assert caught.value.hint == f"pybuild login {registry.host}"


def test_an_identity_token(registry, store, reference, access_as) -> None:
    registry.realm = f"{registry.address}/token"
    registry.account = ("user", SECRET)
    registry.identity_token = "refresh-me"
    pull(store, reference, access=access_as(identity_token="refresh-me"))
    (query,) = registry.token_queries
    assert query["grant_type"] == ["refresh_token"]
    assert query["scope"] == ["repository:app:pull"]
    assert ("POST", "/token") in [(verb, path) for verb, path, _ in registry.seen]


def test_a_registry_token(registry, store, reference, access_as) -> None:
    registry.realm = f"{registry.address}/token"
    registry.tokens.add("ready-made")
    pull(store, reference, access=access_as(registry_token="ready-made"))
    assert registry.token_queries == []


def test_scopes_of_a_push(registry, store, make, access) -> None:
    registry.realm = f"{registry.address}/token"
    diff_id = store.layers.unpack([make.tar({"a": b"a"})])
    for name in ("one", "two"):
        reference = Reference.parse(f"{registry.host}/{name}:1")
        config = ImageConfig("amd64", "linux", diff_ids=(diff_id,))
        store.images.add(config, references=[reference])
        push(store, reference, access=access)
    scopes = [set(query["scope"]) for query in registry.token_queries]
    assert scopes == [
        {"repository:one:pull,push"},
        {"repository:two:pull,push"},
        {"repository:two:pull,push", "repository:one:pull"},  # to mount
    ]


def test_a_token_that_expires_in_the_middle(
    registry, store, reference, image, access, faults, make
) -> None:
    registry.realm = f"{registry.address}/token"
    path = f"/v2/app/blobs/{make.digest(image.layers[0])}"

    def expire(page) -> None:
        faults.short(image.layers[0], 300_000)(page)
        registry.tokens.clear()

    registry.break_(path, expire)
    pull(store, reference, access=access)
    assert len(registry.token_queries) >= 2


def test_tokens_are_not_used_to_their_last_second(
    registry, store, reference, access, monkeypatch
) -> None:
    registry.realm = f"{registry.address}/token"
    registry.token_life_s = 20
    with Client(registry.host, access) as client:
        call = Call("GET", "/v2/app/tags/list", "ask", (scope("app", "pull"),))
        client.ask(call).close()
        client.ask(call).close()
        assert len(registry.token_queries) == 1
        now = time.monotonic()
        monkeypatch.setattr("registry_client.authority.time.monotonic", lambda: now + 15)
        client.ask(call).close()
        assert len(registry.token_queries) == 2


@pytest.mark.parametrize(
    ("realm", "text"),
    [
        ("http://169.254.169.254/token", "link-local"),
        ("http://[fe80::1]/token", "link-local"),
        ("", "no address"),
        ("ftp://host/token", "no address"),
        ("http://[", "no address"),
    ],
)
def test_realms_that_get_nothing(realm, text, registry, access_as) -> None:
    registry.realm = realm or " "
    with pytest.raises(Unauthorized, match=text):
        ask(registry, access_as(username="user", password=SECRET))


def test_a_token_server_that_is_busy(registry, store, reference, access, faults) -> None:
    registry.realm = f"{registry.address}/token"
    registry.break_("/token", faults.status(503), faults.status(429))
    pull(store, reference, access=access)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": 7}'])
def test_a_token_server_that_talks_nonsense(body, registry, access, faults) -> None:
    registry.realm = f"{registry.address}/token"
    registry.break_("/token", *[faults.sends(body)] * 9)
    with pytest.raises(RegistryError, match="token"):
        ask(registry, access)


# --- secrets stay secret


def test_secrets_are_in_no_repr() -> None:
    credentials = Credentials("user", SECRET, SECRET, SECRET)
    assert SECRET not in repr(credentials)
    assert SECRET not in repr(Access(Trust(), find=lambda *_: credentials))


def test_netrc_is_not_read(registry, store, reference, access, tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    pull(store, reference, access=access)
    assert set(authorizations(registry)) == {None}


# --- the ping


def test_no_registry_at_all(registry, access, faults) -> None:
    registry.break_("/v2/", *[faults.status(404)] * 9)
    with pytest.raises(BadStatus, match="is no registry: GET /v2/ gives 404"):
        ask(registry, access)


def test_plain_http_only_where_it_is_local(access) -> None:
    def schemes(host: str, trust: Trust | None = None) -> tuple[str, ...]:
        with Client(host, Access(trust or Trust())) as client:
            return client._schemes()

    for host in ("localhost", "localhost:5000", "127.0.0.1:80", "127.3.2.1", "[::1]:5000"):
        assert "http" in schemes(host)
    for host in ("example.org", "localhost.example.org", "128.0.0.1", "10.0.0.1:5000", "[::2]"):
        assert schemes(host) == ("https",)
        assert schemes(host, Trust(verify=False)) == ("https", "http")
        assert schemes(host, Trust(insecure=(host,))) == ("https", "http")
    assert schemes("10.1.2.3:5000", Trust(insecure=("10.0.0.0/8",))) == ("https", "http")
    assert schemes("11.1.2.3:5000", Trust(insecure=("10.0.0.0/8",))) == ("https",)


def test_docker_hub_has_a_host_of_its_own() -> None:
    with Client("docker.io", Access(Trust())) as client:
        assert client.host == "registry-1.docker.io"


def test_a_registry_that_never_answers_the_ping(registry, access, faults) -> None:
    def silent(page) -> None:
        page.reset()

    registry.break_("/v2/", *[silent] * 99)
    with pytest.raises(Unreachable, match=rf"registry {registry.host}"):
        ask(registry, access)
