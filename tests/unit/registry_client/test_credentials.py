"""docker's config.json, helpers and podman's files."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from registry_client.credentials import Credentials, CredentialStore
from registry_client.errors import CredentialsError

SECRET = "s3cr3t"
HELPER = """\
#!/bin/sh
# A credential helper that keeps everything in files.
folder={folder}
mkdir -p "$folder"
case $1 in
get)
    read -r server
    name=$(printf %s "$server" | tr -c a-z0-9 _)
    if [ -f "$folder/$name" ]; then cat "$folder/$name"; else
        echo "credentials not found in native keychain"; exit 1; fi ;;
store)
    data=$(cat)
    server=$(printf %s "$data" | sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/')
    name=$(printf %s "$server" | tr -c a-z0-9 _)
    printf %s "$data" > "$folder/$name" ;;
erase)
    read -r server
    rm "$folder/$(printf %s "$server" | tr -c a-z0-9 _)" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    return folder


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put docker-credential-test on PATH; return the folder of what it keeps."""
    programs, kept = tmp_path / "bin", tmp_path / "kept"
    programs.mkdir()
    program = programs / "docker-credential-test"
    program.write_text(HELPER.format(folder=kept))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return kept


def write(docker: Path, **config: object) -> CredentialStore:
    (docker / "config.json").write_text(json.dumps(config))
    return CredentialStore()


def auth(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


# --- files


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("example.org", "example.org"),
        ("example.org:5000", "example.org:5000"),
        ("https://example.org", "example.org"),
        ("https://example.org/v1/", "example.org"),
        ("example.org/v2/", "example.org"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
    ],
)
def test_keys(key: str, registry: str, docker: Path) -> None:
    store = write(docker, auths={"other.org": auth("x", "y"), key: auth("user", SECRET)})
    assert store.find(registry, "some/repo") == Credentials("user", SECRET)
    assert store.find("another.org") is None
    assert store.find(f"{registry}.evil.org") is None


def test_the_longest_key_wins(docker: Path) -> None:
    store = write(
        docker,
        auths={
            "example.org": auth("all", "1"),
            "example.org/team": auth("team", "2"),
            "example.org/team/app": auth("app", "3"),
        },
    )

    def user(repository: str) -> str:
        found = store.find("example.org", repository)
        assert found is not None
        return found.username

    assert user("x") == "all"
    assert user("team/x") == "team"
    assert user("team/app") == "app"
    assert user("team/application") == "team"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, Credentials("u", "p")),
        (auth("u", "p:with:colons"), Credentials("u", "p:with:colons")),
        (auth("u", "") | {"identitytoken": "t"}, Credentials("u", identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
        ({}, None),
        ({"auth": ""}, None),
        ("nonsense", None),
    ],
)
def test_entries(entry: object, expected: Credentials | None, docker: Path) -> None:
    assert write(docker, auths={"example.org": entry}).find("example.org") == expected


def test_without_a_file(docker: Path) -> None:
    store = CredentialStore()
    assert store.find("example.org") is None
    assert not store.forget("example.org")
    assert not (docker / "config.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"example.org": {"auth": "%%%"}}}'])
def test_a_broken_file(text: str, docker: Path) -> None:
    (docker / "config.json").write_text(text)
    with pytest.raises(CredentialsError, match=r"config\.json"):
        CredentialStore().find("example.org")


def test_podman_files(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(docker, auths={"both.org": auth("docker", "1")})
    entries = {"both.org": auth("podman", "2"), "mine.org/team": auth("team", "3")}
    path = tmp_path / "run/containers/auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": entries}))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert store.find("both.org") == Credentials("docker", "1")
    assert store.find("mine.org", "team/app") == Credentials("team", "3")
    assert store.find("mine.org", "other") is None
    named = tmp_path / "named.json"
    named.write_text(json.dumps({"auths": {"mine.org": auth("named", "4")}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert store.find("mine.org", "team/app") == Credentials("named", "4")


# --- keeping


def test_keep_and_forget(docker: Path) -> None:
    store = write(docker, psFormat="x", auths={"other.org": auth("o", "o")})
    path = store.keep("example.org", Credentials("user", SECRET))
    assert path == str(docker / "config.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    config = json.loads(Path(path).read_text())
    assert config["psFormat"] == "x"
    assert config["auths"] == {"other.org": auth("o", "o"), "example.org": auth("user", SECRET)}
    assert store.find("example.org") == Credentials("user", SECRET)
    assert store.forget("example.org")
    assert not store.forget("example.org")
    assert store.find("example.org") is None
    assert store.find("other.org") == Credentials("o", "o")
    assert [p.name for p in docker.iterdir()] == ["config.json"]


def test_keep_an_identity_token(docker: Path) -> None:
    store = CredentialStore()
    store.keep("docker.io", Credentials("user", identity_token="t"))
    config = json.loads((docker / "config.json").read_text())
    expected = {"https://index.docker.io/v1/": auth("user", "") | {"identitytoken": "t"}}
    assert config["auths"] == expected
    assert store.find("docker.io") == Credentials("user", identity_token="t")


def test_a_linked_file_stays_a_link(docker: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    (docker / "config.json").symlink_to(real)
    CredentialStore().keep("example.org", Credentials("user", SECRET))
    assert (docker / "config.json").is_symlink()
    assert "example.org" in real.read_text()


def test_the_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new/docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    CredentialStore().keep("example.org", Credentials("user", SECRET))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# --- helpers


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_a_helper(setting: str, docker: Path, helper: Path) -> None:
    value = "test" if setting == "credsStore" else {"example.org": "test"}
    store = write(docker, **{setting: value})
    assert store.find("example.org") is None
    assert store.keep("example.org", Credentials("user", SECRET)) is None
    assert SECRET not in (docker / "config.json").read_text()
    assert store.find("example.org") == Credentials("user", SECRET)
    assert store.forget("example.org")
    assert list(helper.iterdir()) == []
    assert store.find("example.org") is None


def test_a_helper_for_one_registry_only(docker: Path, helper: Path) -> None:
    store = write(docker, credHelpers={"example.org": "test"})
    assert store.keep("other.org", Credentials("user", SECRET)) is not None
    assert not helper.exists()


def test_a_helper_keeps_identity_tokens(docker: Path, helper: Path) -> None:
    store = write(docker, credsStore="test")
    store.keep("docker.io", Credentials("user", identity_token="t"))
    assert store.find("docker.io") == Credentials(identity_token="t")


def test_what_the_helper_lacks_may_be_in_the_file(docker: Path, helper: Path) -> None:
    store = write(docker, credsStore="test", auths={"example.org": auth("user", SECRET)})
    assert store.find("example.org") == Credentials("user", SECRET)


def test_a_helper_that_is_not_there(docker: Path) -> None:
    store = write(docker, credsStore="no-such-helper")
    with pytest.raises(CredentialsError, match="docker-credential-no-such-helper") as caught:
        store.find("example.org")
    assert "credsStore" in str(caught.value.hint)


@pytest.mark.parametrize("script", ["echo '{'", 'echo \'{"Username": 1, "Secret": 2}\'', "exit 3"])
def test_a_helper_that_fails(script: str, docker: Path, helper: Path) -> None:
    program = Path(os.environ["PATH"].partition(":")[0], "docker-credential-test")
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {SECRET} >&2\n{script}\n")
    store = write(docker, credsStore="test")
    with pytest.raises(CredentialsError) as caught:
        store.find("example.org")
    assert SECRET not in str(caught.value)


def test_a_helper_is_no_path(docker: Path) -> None:
    with pytest.raises(CredentialsError, match="slash"):
        write(docker, credsStore="../evil").find("example.org")
