"""What rules are given and what they give back."""

from collections.abc import Mapping

from builder.stages import StageList
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of the rule that found it. line: where, from 1."""

    message: str
    line: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A file, and the global scope that its FROMs see.

    scope: with the values given by --build-arg. default_scope: as if none had been given. syntax:
    the frontend that the directive or the build argument BUILDKIT_SYNTAX asks for.
    """

    stages: StageList
    scope: Mapping[str, str]
    default_scope: Mapping[str, str]
    syntax: str | None = None

    @property
    def escape(self) -> str:
        """The file's escape character."""
        return self.stages.dockerfile.directives.escape

    def global_names(self) -> tuple[str, ...]:
        """Return the names that FROM may use: declared, with or without a value, or predefined."""
        declared = (name for node in self.stages.global_args for name, _ in node.pairs)
        return tuple(dict.fromkeys((*declared, *self.scope)))
