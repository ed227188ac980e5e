"""The progress of a build as one stream of typed events.

Events come from several threads, one at a time (the emitter serialises them). A step is one
vertex of the graph or one phase of the build; its `step` number is given at its start, from 1,
and never used twice in a build.
"""

from collections.abc import Callable

from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """A build has its row in the journal."""

    build_id: str


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A vertex of the graph that will be a step. digest: its vertex's; inputs: those of others."""

    digest: str
    inputs: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What the target needs is known: these steps will come, unless one of them fails."""

    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Step `step` began, or was found cached. `name` is what people see.

    digest: of a planned step its own; a phase of the build has none.
    Examples of names: `[build 2/4] RUN make`, `[internal] load build definition`.
    """

    step: int
    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class StepCached:
    """The step's result came from the cache; nothing ran. It ends the step."""

    step: int


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that the step's process wrote to `fd` 1 or 2, `seconds` after the step's start."""

    step: int
    fd: int
    data: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class StepMessage:
    """A line about what the step is doing, as `naming to docker.io/library/x:latest`.

    done: it is not only begun.
    """

    step: int
    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class StepTransfer:
    """So much of `what` (a layer, a file) has come or gone; less than before after a retry.

    total_bytes: 0 where it is not known.
    """

    step: int
    what: str
    done_bytes: int
    total_bytes: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class StepDone:
    """The step ended well after `seconds`."""

    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step failed after `seconds`; `error` is one line."""

    step: int
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepCanceled:
    """The step was stopped because another failed or because someone asked."""

    step: int


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """Something that a person may want to know: a lint rule, its message, a line or None.

    detail: what the rule says in general. url: of a page about it.
    """

    rule: str
    message: str
    line: int | None
    detail: str = ""
    url: str = ""


Event = (
    BuildStarted
    | Planned
    | StepStarted
    | StepCached
    | StepOutput
    | StepMessage
    | StepTransfer
    | StepDone
    | StepFailed
    | StepCanceled
    | BuildWarning
)
OnEvent = Callable[[Event], None]
