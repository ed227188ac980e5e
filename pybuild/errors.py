"""Errors of the faces and of the Engine.

    PybuildError
    ├── UsageError          the command line makes no sense            exit 2
    ├── NotSupported        docker has it, this version does not       exit 1
    ├── NotPrivileged       the kernel would refuse                    exit 1, 125 from run
    ├── CommandFailed       some of several objects failed             exit 1
    └── ContainerError      a container cannot be made or found        exit 1, 125 from run
        └── ImageMissing    the image to run is not in the store

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


class ContainerError(PybuildError):
    """A container cannot be made, found or removed."""


class ImageMissing(ContainerError):
    """The image to run is not in the store."""
