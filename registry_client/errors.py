"""What can go wrong between us and a server.

RegistryError
├── InvalidURL        not an address that can be asked
├── Unreachable       no answer: name, connection, TLS, time; or too many redirects
│   └── Untrusted     the server's certificate is not trusted
├── TrustError        certificates that cannot be read
├── BadStatus         an answer that is no success
│   ├── NotFound      404, 410
│   ├── Unauthorized  401, 403, 407
│   └── RateLimited   429, after the last retry
├── Truncated         the body ended before its announced length
├── TooLarge          the body is larger than the caller allows
├── TooSlow           the download took longer than the caller allows
├── DigestMismatch    the bytes are not the expected ones
├── BadManifest       a manifest, index or config that cannot be used
├── NoSuchPlatform    an image that is not there for the wanted platform
├── CredentialsError  credentials that cannot be read, kept or got from their helper
└── TransferStopped   another part of the same transfer failed

Addresses in messages and attributes are without credentials: see `registry_client.download.shown`.
"""


class RegistryError(Exception):
    """A transfer from or to a server failed.

    hint: what to do about it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidURL(RegistryError):
    """The address is not one that can be asked."""


class Unreachable(RegistryError):
    """The server gave no answer."""


class Untrusted(Unreachable):
    """The server's certificate is not trusted."""


class TrustError(RegistryError):
    """Certificates that were named cannot be read."""


class BadStatus(RegistryError):
    """The server answered with something else than success.

    status: the HTTP status.
    """

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NotFound(BadStatus):
    """The server has no such thing."""


class Unauthorized(BadStatus):
    """The server wants credentials, or others than it got."""


class RateLimited(BadStatus):
    """The server wants fewer requests."""


class Truncated(RegistryError):
    """The body ended before its announced length."""


class TooSlow(RegistryError):
    """The download took longer than the caller allows."""


class TooLarge(RegistryError):
    """The body is larger than the caller allows.

    limit_bytes: the caller's limit.
    """

    def __init__(self, message: str, limit_bytes: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit_bytes = limit_bytes


class DigestMismatch(RegistryError):
    """The bytes that came are not the expected ones.

    expected, actual: digests.
    """

    def __init__(
        self, message: str, expected: str, actual: str, *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.expected = expected
        self.actual = actual


class BadManifest(RegistryError):
    """A manifest, index or config is malformed, of an unsupported kind, or contradicts another."""


class NoSuchPlatform(RegistryError):
    """The image is not there for the wanted platform."""


class CredentialsError(RegistryError):
    """Credentials cannot be read, kept or got from their helper."""


class TransferStopped(RegistryError):
    """A part of a transfer gave up because another part failed."""
