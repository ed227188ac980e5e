"""What can go wrong in a build.

BuildError
├── NotSupportedYet        a form of the language or an option that is not built yet
├── InstructionError       something about one instruction; knows where it stands
│   ├── SourceNotFound     COPY or ADD of what is not there
│   ├── UnknownStage       --from, --target or FROM of what does not exist
│   ├── SecretLeaked       the value of a secret would become a part of the image
│   └── StepFailed         a RUN ended with a non-zero exit code
├── BaseImageNotFound
├── ContextError           the build context or the Dockerfile cannot be read
├── ExportError
├── BudgetExceeded         the build came to more than --budget allows
├── LintViolation          a warning where check=error=true makes errors of them
├── LayersLost             layers of cached results that can no longer be had; never seen outside
├── Canceled
├── TargetFailed           one of several targets failed; `cause` is why
└── StepsFailed            several steps failed; `errors` has them all
"""

from collections.abc import Mapping, Sequence

from grammar.errors import printable
from values.classes import dataclass

_MOST_LINES = 24


class BuildError(Exception):
    """Base of all errors of a build. `hint` says what to do; `details` is text to show before."""

    def __init__(self, message: str, *, hint: str | None = None, details: str | None = None):
        super().__init__(message)
        self.hint = hint
        self.details = details


class NotSupportedYet(BuildError):
    """A form of the language or an option that other builders know and this one not yet."""

    def __init__(self, what: str, *, hint: str | None = None):
        super().__init__(f"{what}: not supported yet", hint=hint)
        self.what = what


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instruction stands: the file's name, its lines (from 1) and the file's text."""

    dockerfile: str
    first_line: int
    last_line: int
    source: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.dockerfile}:{self.first_line}"

    def excerpt(self, around: int = 2) -> str:
        """Return the lines around the place, the instruction's own marked with `>>>`.

        Of a long instruction it is the begin, and of all lines what a terminal may have.
        """
        if not self.source:
            return ""
        first = max(1, self.first_line - around)
        last = min(len(self.source), self.last_line + around)
        end = min(last, first + _MOST_LINES - 1)
        rows = [
            f"{number:4} | {'>>>' if self.first_line <= number <= self.last_line else '   '} "
            f"{printable(self.source[number - 1])}".rstrip()
            for number in range(first, end + 1)
        ]
        rows += [f"     | … {last - end} more lines"] * (end < last)
        rule = "-" * 20
        return "\n".join([str(self), rule, *rows, rule])


class InstructionError(BuildError):
    """An error of one instruction at `place`."""

    def __init__(
        self,
        place: Place,
        message: str,
        *,
        hint: str | None = None,
    ):
        super().__init__(f"{place}: {message}", hint=hint, details=place.excerpt() or None)
        self.place = place


class SourceNotFound(InstructionError):
    """COPY or ADD names a path that its source does not have."""


class UnknownStage(InstructionError):
    """`--from`, `--target` or FROM names a stage that does not exist."""


class StepFailed(InstructionError):
    """A RUN's process ended with `exit_code`.

    how: it ended, in words. step_name: as progress shows it. output: the last lines that it wrote,
    empty for nothing. log_path: the file with all of them. entry: where what it left is
    kept, what to enter: the beginning of the build's id, and the step's number; else "". facts:
    what the journal says of the process.
    """

    def __init__(  # noqa: PLR0913 - keywords that do not depend on each other
        self,
        place: Place,
        message: str,
        *,
        exit_code: int,
        log_path: str | None,
        how: str = "",
        step_name: str = "",
        output: str = "",
        entry: str = "",
    ):
        hint = f"the whole log is in {log_path}" if log_path else None
        super().__init__(place, message, hint=hint)
        self.exit_code = exit_code
        self.how = how or f"exit code: {exit_code}"
        self.log_path = log_path
        self.step_name = step_name
        self.entry = entry
        self.facts: Mapping[str, object] = {}
        self.output = output


class SecretLeaked(InstructionError):
    """The value of a secret would become a part of the image. `ids`: of the secrets."""

    def __init__(self, place: Place, message: str, *, ids: Sequence[str], hint: str):
        super().__init__(place, message, hint=hint)
        self.ids = tuple(ids)


class BaseImageNotFound(InstructionError):
    """FROM or `--from` names an image that the store does not have."""


class ContextError(BuildError):
    """The build context or the Dockerfile cannot be read."""


class ContextChanged(BuildError):
    """A file of the context changed between being digested and being copied."""

    def __init__(self, path: str):
        super().__init__(
            f"copy {path}: the file keeps changing while it is being copied",
            hint="build from a copy, or keep other programs from writing to the context",
        )
        self.path = path


class ExportError(BuildError):
    """The finished image cannot be written to an output."""


class BudgetExceeded(BuildError):
    """The build came to more than it may; nothing was written. `exceeded` has each limit."""

    def __init__(self, exceeded: Sequence[str]):
        super().__init__(
            f"budget exceeded: {'; '.join(exceeded)}",
            hint="nothing was tagged or exported; the steps are in the cache",
        )
        self.exceeded = tuple(exceeded)


class LintViolation(BuildError):
    """Lint rules are violated, and `check=error=true` says that this is an error."""


class LayersLost(BuildError):
    """Layers that a cache gave the names of cannot be had; the build starts again without them."""

    def __init__(self, diff_ids: Sequence[str], cause: str):
        super().__init__(f"layer {', '.join(diff_ids)}: {cause}")
        self.diff_ids = tuple(diff_ids)


class Canceled(BuildError):
    """The build was stopped on request."""

    def __init__(self) -> None:
        super().__init__("build canceled")


class StepsFailed(BuildError):
    """Several steps failed; `errors` has each of them."""

    def __init__(self, errors: Sequence[BuildError]):
        super().__init__(
            "; ".join(str(error) for error in errors),
            hint=next((error.hint for error in errors if error.hint), None),
            details="\n".join(error.details for error in errors if error.details) or None,
        )
        self.errors = tuple(errors)


class TargetFailed(BuildError):
    """What failed was wanted for `targets`, of several that are built together."""

    def __init__(self, targets: Sequence[str], cause: Exception):
        one = len(targets) == 1
        super().__init__(
            f"target{'' if one else 's'} {', '.join(targets)}: {cause}",
            hint=getattr(cause, "hint", None),
            details=getattr(cause, "details", None),
        )
        self.targets = tuple(targets)
        self.cause = cause

    @property
    def output(self) -> str:
        """The last lines that a step wrote, empty where no step failed."""
        return str(getattr(self.cause, "output", ""))

    @property
    def step_name(self) -> str:
        """The step that failed as progress shows it, empty where none did."""
        return str(getattr(self.cause, "step_name", ""))

    @property
    def entry(self) -> str:
        """What to enter where what a failed step left is kept, else empty."""
        return str(getattr(self.cause, "entry", ""))
