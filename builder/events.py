"""The progress of a build as one stream of typed events.

Events come from several threads, one at a time (the emitter serialises them). A step is one
vertex of the graph or one phase of the build; its `step` number is given at its start, from 1,
and never used twice in a build.
"""

from collections.abc import Callable

from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Step `step` began, or was found cached. `name` is what people see.

    Examples of names: `[build 2/4] RUN make`, `[internal] load build definition`.
    """

    step: int
    name: str


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
    """A line about what the step is doing, as `naming to docker.io/library/x:latest`."""

    step: int
    text: str


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
    """Something that a person may want to know: a lint rule, its message, a line or None."""

    rule: str
    message: str
    line: int | None


Event = (
    StepStarted
    | StepCached
    | StepOutput
    | StepMessage
    | StepDone
    | StepFailed
    | StepCanceled
    | BuildWarning
)
OnEvent = Callable[[Event], None]
