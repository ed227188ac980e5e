"""What registries say when they refuse, as errors of ours; and bodies that must stay small."""

import contextlib
import json
from http import HTTPStatus

import requests

from registry_client.errors import RegistryError, TooLarge
from registry_client.failures import TryAgain, phrase_of, status_error, translated
from registry_client.transport import pieces

_LONGEST_ERROR = 1 << 16
_LONGEST_CAUSE = 300
DOCUMENT_LIMIT_BYTES = 16 << 20


def limited_body(
    response: requests.Response, what: str, limit_bytes: int = DOCUMENT_LIMIT_BYTES
) -> bytes:
    """Return a body that is to be small. Raises TooLarge, TryAgain."""
    parts: list[bytes] = []
    size_bytes = 0
    for chunk in pieces(response, what):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise TooLarge(f"{what}: larger than the limit of {limit_bytes} bytes", limit_bytes)
        parts.append(chunk)
    return b"".join(parts)


def refusal(response: requests.Response, what: str, registry: str) -> RegistryError | TryAgain:
    """Return what an answer that is no success is to be raised as, in the registry's words."""
    status = response.status_code
    code, message = _first_error(response, what)
    cause = message or code.lower().replace("_", " ") or f"{status} {phrase_of(status)}"
    if status == HTTPStatus.UNAUTHORIZED and not message:  # HEAD's answers have no words
        cause = "authentication required"
    hint = None
    if status in (401, 403):
        hint = f"pybuild login {registry} takes credentials"
    return status_error(response, what, cause=cause, hint=hint)


def printable(text: str) -> str:
    """Return a server's text as one short line without control characters."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:_LONGEST_CAUSE]


def _first_error(response: requests.Response, what: str) -> tuple[str, str]:
    """Return code and message of the first error in the body, empty where there is none."""
    data = b""
    with contextlib.suppress(TryAgain, RegistryError), translated(what):
        data = limited_body(response, what, _LONGEST_ERROR)
    try:
        error = json.loads(data)["errors"][0]
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""
    message = printable(message)
    return printable(code), message[:1].lower() + message[1:]
