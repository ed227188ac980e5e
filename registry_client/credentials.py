"""Who we are to a registry: docker's config.json, credential helpers, podman's auth.json.

Owns finding, keeping and forgetting credentials. A secret is never part of a repr, an error or a
program's arguments. Source: docker/cli `cli/config/`, docker-credential-helpers protocol,
containers-auth.json(5).
"""

import base64
import binascii
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from registry_client.errors import CredentialsError
from values.classes import dataclass, field

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
_HUB_KEYS = (HUB_KEY, "index.docker.io", HUB, "registry-1.docker.io")
_TOKEN_USER = "<token>"  # a helper's sign that the secret is an identity token
_HELPER_TIMEOUT_S = 60
_NONE_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry is shown. Empty fields are not there.

    identity_token: to be exchanged for access tokens. registry_token: an access token itself.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def key_of(registry: str) -> str:
    """Return the name under which docker keeps a registry's credentials."""
    return HUB_KEY if registry == HUB else registry


class CredentialStore:
    """The credentials of one user.

    folder: docker's, with config.json; by default $DOCKER_CONFIG or ~/.docker.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.path = os.path.join(folder or docker_folder(), "config.json")

    def find(self, registry: str, repository: str = "") -> Credentials | None:
        """Return what is known for a repository of a registry, or None.

        docker's file and helpers come first, then podman's files. Raises CredentialsError for a
        file that cannot be read and for a helper that fails.
        """
        config = _read(self.path)
        helper = _helper_for(config, registry)
        if helper:
            found = _from_helper(helper, key_of(registry))
            if found is not None:
                return found
        found = _from_auths(config, registry, repository, self.path)
        for path in _podman_files():
            if found is not None:
                break
            found = _from_auths(_read(path), registry, repository, path)
        return found

    def keep(self, registry: str, credentials: Credentials) -> str | None:
        """Keep credentials for a registry.

        Returns the file that they lie in as plain text, None where a helper has them. Raises
        CredentialsError.
        """
        config = _read(self.path)
        helper = _helper_for(config, registry)
        key = key_of(registry)
        if helper:
            token = credentials.identity_token
            secret = {"Secret": token or credentials.password}
            user = {"Username": _TOKEN_USER if token else credentials.username}
            _call(helper, "store", json.dumps({"ServerURL": key} | user | secret))
            return None
        auths = config.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise CredentialsError(f"read {self.path}: auths is not a map")
        auths[key] = _entry(credentials)
        _write(self.path, config)
        return self.path

    def forget(self, registry: str) -> bool:
        """Forget the credentials of a registry and return whether there were any.

        Raises CredentialsError.
        """
        config = _read(self.path)
        helper = _helper_for(config, registry)
        known = False
        if helper:
            known = _from_helper(helper, key_of(registry)) is not None
            if known:
                _call(helper, "erase", key_of(registry))
        auths = config.get("auths")
        keys = [key for key in auths if _names(key) == registry] if isinstance(auths, dict) else []
        if keys and isinstance(auths, dict):
            for key in keys:
                del auths[key]
            _write(self.path, config)
        return known or bool(keys)


def docker_folder() -> str:
    """Return the folder of docker's config.json."""
    return os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")


def _podman_files() -> Iterator[str]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        yield named
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield os.path.join(runtime, "containers", "auth.json")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    yield os.path.join(config, "containers", "auth.json")


# -- files


_Config = dict[str, object]


def _read(path: str) -> _Config:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialsError(f"read {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        value = json.loads(data) if data.strip() else {}
    except ValueError:
        # Not chained: the error's text may hold a piece of the file.
        raise CredentialsError(f"read {path}: it is not valid JSON") from None
    if not isinstance(value, dict):
        raise CredentialsError(f"read {path}: it is not a JSON object")
    return value


def _write(path: str, config: _Config) -> None:
    """Replace the file, readable by its owner alone; a link to it stays a link."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=".config.json.", dir=folder)  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(config, file, indent="\t", ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise CredentialsError(f"write {path}: {(error.strerror or str(error)).lower()}") from error


def _entry(credentials: Credentials) -> dict[str, str]:
    if credentials.identity_token:
        pair = f"{credentials.username}:".encode()
        token = {"identitytoken": credentials.identity_token}
    else:
        pair = f"{credentials.username}:{credentials.password}".encode()
        token = {}
    return {"auth": base64.b64encode(pair).decode()} | token


def _from_auths(
    config: Mapping[str, object], registry: str, repository: str, path: str
) -> Credentials | None:
    """Return the entry whose key names the longest part of `registry/repository`."""
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    wanted = f"{registry}/{repository}" if repository else registry
    fitting = [
        key for key in auths if isinstance(key, str) and f"{wanted}/".startswith(f"{_names(key)}/")
    ]
    for key in sorted(fitting, key=lambda key: len(_names(key)), reverse=True):
        found = _credentials(auths[key], path)
        if found is not None:
            return found
    return None


def _names(key: str) -> str:
    """Return the registry, or registry/repository, that a key of `auths` means."""
    if key in _HUB_KEYS:
        return HUB
    if "://" in key:
        # Keys of old dockers are addresses: the path is that of an API version.
        return urlsplit(key).netloc
    name = key.rstrip("/")
    first, _, rest = name.partition("/")
    if rest in ("v1", "v2"):
        return first
    return f"{HUB}/{rest}" if first in _HUB_KEYS else name


def _credentials(entry: object, path: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    texts = {name: text for name, text in entry.items() if isinstance(text, str) and text}
    username, password = texts.get("username", ""), texts.get("password", "")
    if "auth" in texts:
        try:
            decoded = base64.b64decode(texts["auth"].strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsError(f"read {path}: an auth entry is no base64 text") from None
        username, _, password = decoded.rstrip("\0").partition(":")
    found = Credentials(
        username, password, texts.get("identitytoken", ""), texts.get("registrytoken", "")
    )
    return None if found == Credentials() else found


# -- helpers


def _helper_for(config: Mapping[str, object], registry: str) -> str | None:
    """Return the name of the program that keeps the credentials of `registry`, or None."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict):
        for key in (registry, key_of(registry), *(_HUB_KEYS if registry == HUB else ())):
            if isinstance(helpers.get(key), str):
                return str(helpers[key]) or None
    store = config.get("credsStore")
    return store if isinstance(store, str) and store else None


def _from_helper(helper: str, key: str) -> Credentials | None:
    answer = _call(helper, "get", key)
    if answer is None:
        return None
    try:
        value = json.loads(answer)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"docker-credential-{helper} get: its answer is malformed") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsError(f"docker-credential-{helper} get: its answer is malformed")
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None


def _call(helper: str, verb: str, message: str) -> str | None:
    """Run a helper and return its answer, None for `credentials not found`."""
    program = f"docker-credential-{helper}"
    what = f"{program} {verb}"
    if "/" in helper:
        raise CredentialsError(f"{what}: a helper's name holds no slash")
    try:
        done = subprocess.run(
            [program, verb],
            input=message.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise CredentialsError(
            f"{what}: no such program on PATH",
            hint="install it, or take credsStore and credHelpers out of docker's config.json",
        ) from error
    except OSError as error:
        raise CredentialsError(f"{what}: {(error.strerror or str(error)).lower()}") from error
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"{what}: no answer in {_HELPER_TIMEOUT_S} s") from None
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode == 0:
        return output
    if _NONE_FOUND in output:
        return None
    # What it printed may hold what it was given: only its exit code is told.
    raise CredentialsError(f"{what}: exit {done.returncode}")
