"""What can go wrong in the runtime.

RuntimeFailure
├── NotPrivileged          the host does not let us make containers
├── MountFailed            a mount of the root file system, or one inside it
├── UserNotFound           USER names nobody in the image
├── WorkingDirectoryFailed the working directory is missing or unreachable
├── CommandNotFound        exit code 127
├── CommandNotExecutable   exit code 126
├── InvalidSpec            a container is described in a way that cannot be run
├── LaunchFailed           any other step between the caller and the command
├── ContainerExists        a container of that ID is there already
├── NoSuchContainer        there is no container of that ID
├── WrongState             a container is not in the state that a verb needs
├── InvalidNetwork         a network is asked for in a way that nobody can give
├── NetworkFailed          a container's network could not be made
└── Cancelled              the caller asked for the container's end before it started
"""


class RuntimeFailure(Exception):
    """A container could not be made or run.

    hint: what to do about it, or None.
    exit_code: what a command line that runs containers gives back for it.
    """

    exit_code = 125

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotPrivileged(RuntimeFailure):
    """The kernel refused what making containers needs."""


class MountFailed(RuntimeFailure):
    """A file system could not be mounted."""


class UserNotFound(RuntimeFailure):
    """The user or group is not in the image's own account files."""


class WorkingDirectoryFailed(RuntimeFailure):
    """The command's working directory does not exist or cannot be entered."""


class CommandNotFound(RuntimeFailure):
    """The command is not in the image."""

    exit_code = 127


class CommandNotExecutable(RuntimeFailure):
    """The command exists but cannot be executed."""

    exit_code = 126


class InvalidSpec(RuntimeFailure):
    """The description of the container makes no sense."""


class LaunchFailed(RuntimeFailure):
    """The container could not be started for a reason that is none of the others."""


class ContainerExists(RuntimeFailure):
    """A container of that ID is there already."""


class NoSuchContainer(RuntimeFailure):
    """There is no container of that ID."""


class WrongState(RuntimeFailure):
    """The container is not in a state in which the verb makes sense."""


class InvalidNetwork(RuntimeFailure):
    """A network, or ports of it, that cannot be given: a wrong word."""


class NetworkFailed(RuntimeFailure):
    """A container's network could not be made on this host."""


class Cancelled(RuntimeFailure):
    """The container was cancelled before its command started."""

    exit_code = 130
