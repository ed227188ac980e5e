"""A container between the calls of the OCI command line: its folder, its state, its end.

`<root>/<id>/` holds state.json, the config.json it was made from, and `start`, a fifo that is
there until the container is started. The folder itself is locked while a verb changes something.
What a process killed at any moment leaves behind is found by what was written before it was made.
"""

import errno
import fcntl
import os
import select
import time

from runtime import jsontext
from runtime.errors import ContainerExists, NoSuchContainer, RuntimeFailure, WrongState
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.mount import RENAME_EXCHANGE, renameat2
from runtime.linux.process import pidfd_open, pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"
STATE = "state.json"
CONFIG = "config.json"
START = "start"
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_DEATH_S = 10.0  # that a killed process may take


def check_id(container_id: str) -> None:
    """Raise RuntimeFailure for what is no container ID. Source: runc, validateID."""
    if not container_id or not _ID_CHARACTERS.issuperset(container_id):
        raise RuntimeFailure(
            f"invalid container ID {container_id!r}: letters, digits and _+-. only"
        )
    if container_id in (".", "..", ".cache") or len(container_id) > 1024:
        raise RuntimeFailure(f"invalid container ID {container_id!r}")


def now() -> str:
    """Return the time as RFC 3339, UTC, with nanoseconds."""
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09d}Z"


def start_time(pid: int) -> "tuple[int, str]":
    """Return (start time in clock ticks, state letter) of a process; (0, "") of none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0, ""
    return int(fields[19]), fields[0].decode()


class Container:
    """One container of the folder `root`.

    record: what state.json says: ociVersion, id, pid, starttime, created, bundle, rootfs, owner,
    annotations, cgroups (controller → folder), ready (whether its creation came to its end), scope
    (unit and socket of the systemd that manages the cgroups, where one does).
    """

    def __init__(self, root: str, container_id: str) -> None:
        check_id(container_id)
        self.id = container_id
        self.folder = os.path.join(root, container_id)
        self.record: dict[str, Any] = {}
        self._lock = -1

    @classmethod
    def load(cls, root: str, container_id: str, *, lock: bool = False) -> "Container":
        """Return a container that exists. Raises NoSuchContainer, RuntimeFailure.

        lock: wait until no other verb changes it, and keep others from doing so.
        """
        container = cls(root, container_id)
        if lock:
            container.lock()
        container.read()
        return container

    def make(self) -> None:
        """Make the folder, locked. Raises ContainerExists."""
        root = os.path.dirname(self.folder)
        try:
            os.makedirs(root, 0o700, exist_ok=True)
            os.mkdir(self.folder, 0o711)
        except FileExistsError:
            if os.path.isdir(root):
                raise ContainerExists(f"container with id exists: {self.id}") from None
            raise RuntimeFailure(f"--root {root}: not a directory") from None
        except OSError as error:
            raise RuntimeFailure(f"--root {root}: {str(error.strerror).lower()}") from error
        self.lock()

    def lock(self) -> None:
        """Take the container for a verb that changes it. Raises NoSuchContainer."""
        try:
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchContainer(f"container does not exist: {self.id}") from None
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if not os.path.isdir(self.folder):
            raise NoSuchContainer(f"container does not exist: {self.id}")

    def unlock(self) -> None:
        """Let others change it."""
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1

    def let_go_of_lock(self) -> None:
        """Close a lock that was inherited, which stays its maker's."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read(self) -> None:
        """Read state.json. Raises NoSuchContainer, RuntimeFailure."""
        try:
            with open(os.path.join(self.folder, STATE), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            if os.path.isdir(self.folder):
                raise WrongState(
                    f"container {self.id} has no state: its creation was interrupted",
                    hint="delete --force removes it",
                ) from None
            raise NoSuchContainer(f"container does not exist: {self.id}") from None
        try:
            record = jsontext.loads(data)
        except ValueError as error:
            raise RuntimeFailure(f"read state of container {self.id}: {error}") from error
        if not isinstance(record, dict):
            raise RuntimeFailure(f"read state of container {self.id}: no JSON object")
        self.record = record

    def write(self) -> None:
        """Write state.json in one step."""
        path = os.path.join(self.folder, STATE)
        with open(f"{path}.new", "wb") as file:
            file.write(jsontext.dumps(self.record))
        try:
            # A rename over a file makes some file systems write the new one to the disk first.
            renameat2(f"{path}.new", path, RENAME_EXCHANGE)
            os.unlink(f"{path}.new")
        except OSError:  # there was none yet, or the file system has no exchange
            os.rename(f"{path}.new", path)

    def spec(self) -> "dict[str, Any]":
        """Return the config.json that the container was made from."""
        with open(os.path.join(self.folder, CONFIG), "rb") as file:
            spec = jsontext.loads(file.read())
        assert isinstance(spec, dict)
        return spec

    @property
    def pid(self) -> int:
        """The init's, 0 where there was none yet."""
        return int(self.record.get("pid", 0))

    def is_alive(self) -> bool:
        """Tell whether the init is there: the same process, and no zombie."""
        if not self.pid:
            return False
        started, letter = start_time(self.pid)
        return letter not in ("", "Z", "X") and started == self.record.get("starttime")

    def status(self) -> str:
        """Return the runtime-spec's word: creating, created, running, paused or stopped."""
        if not self.record.get("ready"):
            return "creating" if self.is_alive() else "stopped"
        if not self.is_alive():
            return "stopped"
        if os.path.exists(os.path.join(self.folder, START)):
            return "created"
        from runtime.freezer import is_frozen

        return "paused" if is_frozen(self.cgroups) else "running"

    @property
    def cgroups(self) -> "dict[str, str]":
        """Controller (`unified` for v2) → folder of the container's cgroup."""
        return dict(self.record.get("cgroups", {}))

    def state(self, status: str) -> "dict[str, Any]":
        """Return the runtime-spec's state of the container."""
        record = self.record
        return {
            "ociVersion": record["ociVersion"],
            "id": self.id,
            "pid": self.pid if status != "stopped" else 0,
            "status": status,
            "bundle": record["bundle"],
            "annotations": record.get("annotations", {}),
        }

    def description(self, owner: str) -> "dict[str, Any]":
        """Return what `state` and `list` print: runc's fields, in its order."""
        state = self.state(self.status())
        annotations = state.pop("annotations")
        mine = {key: self.record[key] for key in ("rootfs", "created")}
        return {**state, **mine, "annotations": annotations, "owner": owner}

    def signal(self, number: int) -> None:
        """Signal the init. Raises WrongState where it is gone."""
        try:
            pidfd = pidfd_open(self.pid)
        except OSError as error:
            raise WrongState("container not running") from error
        try:
            # Asked after the descriptor was had, so the number cannot be another process's.
            if not self.is_alive():
                raise WrongState("container not running")
            pidfd_send_signal(pidfd, number)
        except ProcessLookupError as error:
            raise WrongState("container not running") from error
        finally:
            os.close(pidfd)

    def kill_init(self) -> None:
        """Kill the init and wait for its death; a dead one is fine."""
        if not self.is_alive():
            return
        with tolerate(OSError, WrongState):
            pidfd = pidfd_open(self.pid)
            try:
                self.signal(c.SIGKILL)
                self.let_die()
                await_death(pidfd, f"container {self.id}")
            finally:
                os.close(pidfd)

    def let_die(self) -> None:
        """Let processes that were killed while v1's freezer held them run into their death."""
        from runtime.freezer import thaw_quietly

        thaw_quietly({name: path for name, path in self.cgroups.items() if name == "freezer"})

    def remove_folder(self) -> None:
        """Remove what the container has below the root; the last step of its end."""
        # The state first: what is left without one is known to be nothing but files.
        for name in sorted(os.listdir(self.folder), key=lambda name: name != STATE):
            path = os.path.join(self.folder, name)
            try:
                os.unlink(path)
            except IsADirectoryError:
                for inner in os.listdir(path):
                    os.unlink(os.path.join(path, inner))
                os.rmdir(path)
        os.rmdir(self.folder)


def await_death(pidfd: int, what: str) -> None:
    """Wait until the process `pidfd` is dead. Raises RuntimeFailure when it takes too long."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(int(_DEATH_S * 1000)):
        raise RuntimeFailure(f"kill {what}: {os.strerror(errno.ETIMEDOUT)}")
