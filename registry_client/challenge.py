"""The WWW-Authenticate header: what a registry asks for before it answers.

Pure text. Source: RFC 9110, 11.6.1; distribution `auth/challenge/authchallenge.go`.
"""

import re
from collections.abc import Iterator, Mapping

from values.classes import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,*\s*({_TOKEN})(?=\s|,|\Z)")
# After a name comes "=" and a value; a lone token is the next scheme (or base64, which nobody asks
# registries for).
_PARAMETER = re.compile(rf'\s*,*\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in. scheme: in lower case. parameters: names in lower case."""

    scheme: str
    parameters: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return a parameter, empty where it is not given."""
        return self.parameters.get(name, "")


def parse(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a header, or of several joined by commas; what is malformed ends it.

    Never raises: a registry that sends nonsense asks for nothing we know.
    """
    return tuple(_challenges(header))


def _challenges(header: str) -> Iterator[Challenge]:
    at = 0
    while (scheme := _SCHEME.match(header, at)) is not None:
        at = scheme.end()
        parameters: dict[str, str] = {}
        while (found := _PARAMETER.match(header, at)) is not None:
            quoted = found[2]
            value = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(found[1].lower(), value)
            at = found.end()
        yield Challenge(scheme[1].lower(), parameters)
