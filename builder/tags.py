"""The names that a build gives its image."""

from builder.errors import BuildError
from store.errors import InvalidReference
from store.reference import Reference


def parse_tag(tag: str) -> Reference:
    """Return a `-t` value as a reference. Raises BuildError."""
    try:
        return Reference.parse_new(tag)
    except InvalidReference as error:
        raise BuildError(f"invalid tag: {error}", hint=error.hint) from error
