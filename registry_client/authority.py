"""How requests to one registry are authorised: Basic, or Bearer tokens from the realm it names.

Owns the cache of access tokens. Source: distribution docs, "Token Authentication Specification" and
"OAuth2 Token Authentication".
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import requests

from registry_client.answers import limited_body, refusal
from registry_client.challenge import Challenge
from registry_client.credentials import Credentials
from registry_client.errors import RegistryError, Unauthorized
from registry_client.failures import TryAgain
from registry_client.transport import Patience, Request, Transport
from registry_client.trust import is_link_local, is_local
from values.classes import dataclass

CLIENT_ID = "pybuild"
_DEFAULT_LIFE_S = 60.0
_MARGIN_S = 10.0  # a token is not used in its last seconds
_SHORTEST_LIFE_S = 15.0

Scopes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    good_until: float  # by the monotonic clock


class Authority:
    """The right to ask one registry. Used by several threads.

    is_plain: the registry is asked without TLS, so its realm may be too.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        find: Callable[[], Credentials | None],
        patience: Patience,
    ) -> None:
        self.registry = registry
        self.is_plain = False
        self._transport = transport
        self._find = find
        self._patience = patience
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._found: list[Credentials | None] = []

    @property
    def credentials(self) -> Credentials | None:
        """Who we are there, looked up when first needed. Raises CredentialsError."""
        if not self._found:
            self._found.append(self._find())
        return self._found[0]

    def header(self, scopes: Scopes, what: str) -> str | None:
        """Return the Authorization header for a request, None where none was asked for.

        Raises Unauthorized, TryAgain, CredentialsError.
        """
        with self._lock:
            if self._challenge is None:
                return None
            credentials = self.credentials
            if credentials is not None and credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            if self._challenge.scheme == "basic":
                return credentials.basic if credentials is not None else None
            token = self._tokens.get(scopes)
            if token is None or token.good_until < time.monotonic():
                token = self._tokens[scopes] = self._fetch(self._challenge, scopes, what)
            return token.header

    def challenged(
        self, challenges: tuple[Challenge, ...], scopes: Scopes, sent: str | None
    ) -> bool:
        """Take note of a refusal; tell whether asking again may help.

        sent: the header that was refused.
        """
        known = {challenge.scheme: challenge for challenge in reversed(challenges)}
        chosen = known.get("bearer") or known.get("basic")
        with self._lock:
            if chosen is None:
                return False
            self._challenge = chosen
            if sent is None:
                return chosen.scheme == "bearer" or self.credentials is not None
            token = self._tokens.get(scopes)
            if token is not None and token.header == sent:
                del self._tokens[scopes]
            # A token may be replaced by a fresh one; a wrong password stays wrong.
            return chosen.scheme == "bearer" and sent.startswith("Bearer ")

    @property
    def challenge(self) -> Challenge | None:
        """What the registry asks for, None when it asks for nothing (or was not asked)."""
        return self._challenge

    def identity_token(self, challenge: Challenge, what: str) -> str:
        """Show the realm our credentials; return the token that stands for them, "" without one.

        Raises Unauthorized, TryAgain.
        """
        answer = self._ask(challenge, (), what, offline=True)
        if not (_text(answer, "token") or _text(answer, "access_token")):
            raise RegistryError(f"{what}: {_realm_host(challenge)} gave no token")
        return _text(answer, "refresh_token")

    def _fetch(self, challenge: Challenge, scopes: Scopes, what: str) -> _Token:
        answer = self._ask(challenge, scopes, what)
        token = _text(answer, "token") or _text(answer, "access_token")
        if not token:
            raise RegistryError(f"{what}: {_realm_host(challenge)} gave no token")
        life = answer.get("expires_in")
        life_s = float(life) if isinstance(life, int | float) else _DEFAULT_LIFE_S
        life_s = max(life_s, _SHORTEST_LIFE_S) - _MARGIN_S
        return _Token(f"Bearer {token}", time.monotonic() + life_s)

    def _ask(
        self, challenge: Challenge, scopes: Scopes, what: str, *, offline: bool = False
    ) -> dict[str, object]:
        realm = self._checked_realm(challenge, what)
        credentials = self.credentials
        query = [("service", challenge.get("service"))] if challenge.get("service") else []
        query += [("scope", scope) for scope in scopes]
        if credentials is not None and credentials.identity_token:
            form = [("grant_type", "refresh_token"), ("client_id", CLIENT_ID)]
            form += [("refresh_token", credentials.identity_token), *query]
            request = self._form(realm, _one_scope(form), what)
        else:
            extra = [("offline_token", "true"), ("client_id", CLIENT_ID)] if offline else []
            if credentials is not None:
                extra.append(("account", credentials.username))
            joint = "&" if urlsplit(realm).query else "?"
            url = f"{realm}{joint}{urlencode([*query, *extra])}"
            headers = {"Authorization": credentials.basic} if credentials is not None else {}
            request = Request("GET", url, what, headers)
        return self._patience.retried(lambda: self._answer(request))

    def _form(self, realm: str, form: list[tuple[str, str]], what: str) -> Request:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", realm, what, headers, urlencode(form).encode())

    def _answer(self, request: Request) -> dict[str, object]:
        if request.method == "GET":
            response = self._transport.follow(request, self._patience.timeout_s)
        else:
            response = self._transport.send(request, self._patience.timeout_s)
        with contextlib.closing(response):
            if response.status_code != 200:
                raise self._refused(response, request)
            try:
                value = json.loads(limited_body(response, request.what))
            except ValueError:
                # Not chained: the text would be a piece of the answer, which holds a token.
                value = None
        if not isinstance(value, dict):
            host = urlsplit(request.url).netloc
            raise RegistryError(f"{request.what}: the token server {host} answers no JSON object")
        return value

    def _refused(self, response: requests.Response, request: Request) -> RegistryError | TryAgain:
        if response.status_code in (400, 401, 403):
            if self.credentials is None:
                cause, hint = "authentication required", f"pybuild login {self.registry}"
            else:
                cause = "unauthorized: incorrect username or password"
                hint = f"pybuild login {self.registry} takes new credentials"
            return Unauthorized(f"{request.what}: {cause}", response.status_code, hint=hint)
        return refusal(response, request.what, self.registry)

    def _checked_realm(self, challenge: Challenge, what: str) -> str:
        """Return the realm's address. Raises Unauthorized for one that gets no credentials."""
        realm = challenge.get("realm")
        try:
            parts = urlsplit(realm)
            host, secure = parts.hostname, parts.scheme == "https"
        except ValueError:
            host, secure, parts = None, False, urlsplit("")
        if not host or parts.scheme not in ("http", "https"):
            raise Unauthorized(f"{what}: the registry names no address to get a token from", 401)
        if is_link_local(parts.netloc):
            raise Unauthorized(f"{what}: tokens from {host}: a link-local address is refused", 401)
        may_be_plain = self.is_plain or is_local(parts.netloc)
        if not secure and not may_be_plain and not self._transport.trust.is_insecure(parts.netloc):
            raise Unauthorized(f"{what}: tokens from {host}: plain HTTP is refused", 401)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _one_scope(form: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the form with its scopes in one field, parted by blanks, as OAuth2 has them."""
    scopes = " ".join(value for name, value in form if name == "scope")
    rest = [(name, value) for name, value in form if name != "scope"]
    return [*rest, ("scope", scopes)] if scopes else rest


def _text(answer: dict[str, object], name: str) -> str:
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def _realm_host(challenge: Challenge) -> str:
    return urlsplit(challenge.get("realm")).netloc
