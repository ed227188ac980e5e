"""Logging in to a registry and out: credentials are proven before they are kept."""

from registry_client.client import Access, Call, Client
from registry_client.credentials import HUB, Credentials, CredentialStore
from registry_client.errors import RegistryError, Unauthorized
from registry_client.transport import release
from store.errors import InvalidReference
from store.reference import Reference
from values.classes import dataclass, replace

_HUB_NAMES = ("", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login. path: the file that holds the secret as plain text, None where a helper has it."""

    registry: str
    path: str | None


def registry_of(server: str) -> str:
    """Return the registry that a person means: a host with or without scheme and path.

    Raises RegistryError.
    """
    host = server.partition("://")[2] if "://" in server else server
    host = host.partition("/")[0]
    if "@" in host:
        raise RegistryError("login: the server's name holds an @: user and password go elsewhere")
    if host in _HUB_NAMES or host == HUB:
        return HUB
    try:
        # A name without dots is no registry in a reference, but a host all the same.
        named = host if host == "localhost" or set(host) & set(".:") else f"{host}:443"
        Reference.parse(f"{named}/x")
    except InvalidReference as error:
        raise RegistryError(f"login: {host!r} is no registry") from error
    return host


def log_in(server: str, given: Credentials, access: Access, store: CredentialStore) -> LoggedIn:
    """Show `given` to a registry, and keep it when it is let in.

    Raises Unauthorized for credentials that are refused, Unreachable, CredentialsError, ….
    """
    registry = registry_of(server)
    what = f"login {registry}"
    with Client(registry, replace(access, find=lambda _registry, _repository: given)) as client:
        client.base(what)
        challenge = client.authority.challenge
        proven = given
        if challenge is not None and challenge.scheme == "bearer":
            token = client.authority.identity_token(challenge, what)
            if token:
                proven = Credentials(given.username, identity_token=token)
        elif challenge is not None:
            try:
                release(client.ask(Call("GET", "/v2/", what, ())))
            except Unauthorized as error:
                raise Unauthorized(
                    f"{what}: unauthorized: incorrect username or password", error.status
                ) from error
    return LoggedIn(registry, store.keep(registry, proven))


def log_out(server: str, store: CredentialStore) -> tuple[str, bool]:
    """Forget what is known for a registry; return its name and whether anything was.

    Raises CredentialsError.
    """
    registry = registry_of(server)
    return registry, store.forget(registry)
