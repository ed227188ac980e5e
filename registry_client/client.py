"""One registry: where it answers, with or without TLS, and authorised requests to it.

Knows the protocol's frame (ping, challenges, errors, retries), not its documents.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from registry_client import challenge
from registry_client.answers import refusal
from registry_client.authority import Authority, Scopes
from registry_client.credentials import HUB, Credentials, CredentialStore
from registry_client.errors import BadStatus, RegistryError, Unreachable, Untrusted
from registry_client.failures import TryAgain
from registry_client.transport import Body, Patience, Request, Transport, release
from registry_client.trust import Trust, is_local
from values.classes import dataclass, field, replace

_HUB_HOST = "registry-1.docker.io"
_READING = ("GET", "HEAD")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Access:
    """What a transfer needs to reach registries, whichever they are.

    find: gives the credentials for a registry and repository; by default the user's own.
    """

    trust: Trust = field(default_factory=Trust.from_environment)
    patience: Patience = field(default_factory=Patience)
    find: Callable[[str, str], Credentials | None] = field(
        default_factory=lambda: CredentialStore().find
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the protocol.

    path: below the registry's address, or a whole address that the registry gave. what: begins
    every error about it. scopes: the rights it needs. accepted: statuses that are success.
    """

    method: str
    path: str
    what: str
    scopes: Scopes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body | None = field(default=None, repr=False)
    accepted: Iterable[int] = (HTTPStatus.OK,)


def scope(repository: str, *actions: str) -> str:
    """Return the name of the right to do something with a repository."""
    return f"repository:{repository}:{','.join(actions)}"


class Client:
    """A connection to one registry, for one repository's credentials. Used by several threads."""

    def __init__(self, registry: str, access: Access, repository: str = "") -> None:
        self.registry = registry
        self.host = _HUB_HOST if registry == HUB else registry
        self.patience = access.patience
        self.transport = Transport(access.trust)
        self.authority = Authority(
            registry, self.transport, lambda: access.find(registry, repository), access.patience
        )
        self._base: str | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.transport.close()

    def ask(self, call: Call) -> requests.Response:
        """Return the answer to a call, its body not read yet; tried again where that may help.

        Raises NotFound, Unauthorized, RateLimited, BadStatus, Unreachable, CredentialsError, ….
        """
        return self.patience.retried(lambda: self.ask_once(call))

    def retried(self, attempt: Callable[[], _Result]) -> _Result:
        """Return what `attempt`, which may use `ask_once`, returns."""
        return self.patience.retried(attempt)

    def ask_once(self, call: Call) -> requests.Response:
        """Return the answer to a call as `ask`, but raise TryAgain for what may pass."""
        request = self._request(call)
        sent = self.authority.header(call.scopes, call.what)
        response = self._send(request, sent)
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._is_ours(response):
            asked = challenge.parse(response.headers.get("WWW-Authenticate", ""))
            if self.authority.challenged(asked, call.scopes, sent):
                release(response)
                header = self.authority.header(call.scopes, call.what)
                response = self._send(request, header)
        if response.status_code in call.accepted:
            return response
        try:
            error = refusal(response, call.what, self.registry)
        finally:
            release(response)
        if not self._is_ours(response) and response.status_code in (401, 403):
            # The address that the registry had signed for us is out of date: it makes another.
            raise TryAgain(error if isinstance(error, RegistryError) else error.error)
        raise error

    def _is_ours(self, response: requests.Response) -> bool:
        return self._is_here(response.url)

    def _is_here(self, url: str) -> bool:
        return urlsplit(url).netloc.lower() == self.host.lower()

    def _request(self, call: Call) -> Request:
        base = self.base(call.what)
        url = call.path if "://" in call.path else base + call.path
        if self._is_here(url) and url.startswith("http://") and base.startswith("https://"):
            # Registries behind a proxy give addresses without TLS, not knowing that there is any.
            url = f"https://{url.removeprefix('http://')}"
        return Request(call.method, url, call.what, call.headers, call.body)

    def _send(self, request: Request, authorization: str | None) -> requests.Response:
        if authorization is not None and self._is_here(request.url):
            headers = {**request.headers, "Authorization": authorization}
            request = replace(request, headers=headers)
        if request.method in _READING:
            return self.transport.follow(request, self.patience.timeout_s)
        return self.transport.send(request, self.patience.timeout_s)

    # -- where it answers

    def base(self, what: str) -> str:
        """Return scheme and host of the registry, found out by its ping at the first call.

        Raises Unreachable, BadStatus.
        """
        with self._lock:
            if self._base is None:
                self._base = self._found_base(what)
            return self._base

    def _found_base(self, what: str) -> str:
        attempt = 0
        while True:
            failures: list[RegistryError | TryAgain] = []
            for scheme in self._schemes():
                try:
                    return self._pinged(scheme, what)
                except (RegistryError, TryAgain) as failure:
                    failures.append(failure)
                    if not _is_wrong_scheme(failure):
                        break
            telling = (f for f in failures if not _is_wrong_scheme(f))
            chosen = next(telling, failures[0])
            if not isinstance(chosen, TryAgain) or chosen.is_absent:
                raise self._explained(chosen)
            self.patience.wait(attempt, chosen)
            attempt += 1

    def _schemes(self) -> tuple[str, ...]:
        if is_local(self.host):
            # A TLS server says at once that this is no TLS; the other way round looks the same as
            # a wrong certificate to some.
            return ("https", "http") if self.host.endswith(":443") else ("http", "https")
        if self.transport.trust.is_insecure(self.host):
            return ("https", "http")
        return ("https",)

    def _pinged(self, scheme: str, what: str) -> str:
        base = f"{scheme}://{self.host}"
        ping = Request("GET", f"{base}/v2/", f"{what}: registry {self.host}")
        response = self.transport.send(ping, self.patience.timeout_s)
        try:
            if response.status_code == HTTPStatus.UNAUTHORIZED:
                asked = challenge.parse(response.headers.get("WWW-Authenticate", ""))
                self.authority.challenged(asked, (), None)
            elif response.status_code != HTTPStatus.OK:
                raise self._no_registry(response, what)
        finally:
            release(response)
        self.authority.is_plain = scheme == "http"
        return base

    def _no_registry(self, response: requests.Response, what: str) -> RegistryError | TryAgain:
        error = refusal(response, f"{what}: registry {self.host}", self.registry)
        status = response.status_code
        if isinstance(error, TryAgain) or status == HTTPStatus.FORBIDDEN:
            return error
        message = f"{what}: {self.host} is no registry: GET /v2/ gives {status}"
        return BadStatus(message, status)

    def _explained(self, failure: RegistryError | TryAgain) -> RegistryError:
        """Return the error to raise, with what to do about a registry that is not reached."""
        error = failure.error if isinstance(failure, TryAgain) else failure
        if isinstance(error, Untrusted):
            error.hint = (
                f"put the certificate of its CA into /etc/docker/certs.d/{self.host}/ca.crt or "
                "name it with --ca; --tls-verify=false trusts any"
            )
        elif isinstance(error, Unreachable) and error.hint is None:
            error.hint = "check the name of the registry, and that it is running"
        return error


def _is_wrong_scheme(failure: RegistryError | TryAgain) -> bool:
    """Tell whether a ping's failure may be one of its scheme: TLS spoken where there is none."""
    if isinstance(failure, TryAgain):
        return not isinstance(failure.error, BadStatus)
    if isinstance(failure, BadStatus):
        # What TLS servers answer to plain HTTP, and plain ones that send to TLS.
        return failure.status <= HTTPStatus.BAD_REQUEST
    return isinstance(failure, Unreachable) and not isinstance(failure, Untrusted)
