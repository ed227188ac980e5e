"""Errors of the faces and of the Engine.

    PybuildError
    ├── UsageError          the command line makes no sense            exit 2
    ├── NotSupported        docker has it, this version does not       exit 1
    ├── NotPrivileged       the kernel would refuse                    exit 1, 125 from run
    ├── CommandFailed       some of several objects failed             exit 1
    ├── BakeError           a bake file cannot be followed             exit 1
    ├── ContainerError      a container cannot be made or found        exit 1, 125 from run
    │   └── ImageMissing    the image to run is not in the store
    └── BuildError          what pybuild.build raises
        ├── DockerfileError
        ├── StepFailed
        ├── SecretLeaked
        ├── BudgetExceeded
        ├── BuildCanceled
        ├── InvalidRequest       a UsageError too: a word of an option makes no sense
        └── BuildNotPrivileged   a NotPrivileged too

`str(error)` is one line: what failed, the object, the cause. `hint` says what to do about it.
"""


class PybuildError(Exception):
    """Base of everything this package raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PybuildError):
    """The command line makes no sense."""


class NotSupported(PybuildError):
    """Docker has it, this version does not."""


class NotPrivileged(PybuildError):
    """The kernel would refuse what is asked."""


class CommandFailed(PybuildError):
    """Some of the named objects failed; each was reported where it happened."""


class BakeError(PybuildError):
    """A bake file cannot be read, or makes no sense."""


class ContainerError(PybuildError):
    """A container cannot be made, found or removed."""


class ImageMissing(ContainerError):
    """The image to run is not in the store."""


class BuildError(PybuildError):
    """A build of the Python API failed; nothing was named or exported.

    dockerfile, line: of the instruction, empty and None where the error is of none. step: as
    progress shows it. exit_code, log_tail, log_path: of a process that failed: the last lines it
    wrote, the file with all of them. build_id: of the journal, None where it came to none.
    errors: several that failed side by side, this one the first of them; one: only this one.
    """

    def __init__(  # noqa: PLR0913  the facts of a failure
        self,
        message: str,
        *,
        hint: str | None = None,
        dockerfile: str = "",
        line: int | None = None,
        step: str = "",
        exit_code: int | None = None,
        log_tail: str = "",
        log_path: str | None = None,
        build_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.dockerfile = dockerfile
        self.line = line
        self.step = step
        self.exit_code = exit_code
        self.log_tail = log_tail
        self.log_path = log_path
        self.build_id = build_id
        self.errors: tuple[BuildError, ...] = (self,)


class DockerfileError(BuildError):
    """The Dockerfile is not one: `errors` has all that is wrong with it."""


class StepFailed(BuildError):
    """A RUN ended with an exit code other than 0."""


class SecretLeaked(BuildError):
    """The value of a secret would have become a part of the image."""


class BudgetExceeded(BuildError):
    """The build came to more than its budget."""


class BuildCanceled(BuildError):
    """The build was stopped."""


class InvalidRequest(BuildError, UsageError):
    """What was asked for makes no sense; nothing was begun."""


class BuildNotPrivileged(BuildError, NotPrivileged):
    """This process may not build; nothing was begun."""
