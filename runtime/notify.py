"""systemd's notifications: that a container's service is ready reaches who waits for it.

The host's socket, which NOTIFY_SOCKET names, is not shown to a container: it gets one of its own,
and of what arrives there the readiness alone is passed on, with the pid that the host knows.
Source: sd_notify(3); runc, notify_socket.go.
"""

import _socket
import os
import select

from runtime.launch.filesystem import open_source
from runtime.rootfs import mount_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import LaunchPlan

_FOLDER = "notify"
_SOCKET = "notify.sock"
_INSIDE = "/run/notify"
_LONGEST = 4096  # bytes of a notification


def show(plan: "LaunchPlan", folder: str) -> None:
    """Make the directory of the socket below the container's `folder`, and have it mounted."""
    path = os.path.join(folder, _FOLDER)
    os.mkdir(path, 0o755)
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mount = mount_of({"destination": _INSIDE, "type": "bind", "source": path, "options": options})
    open_source(mount)
    plan["mounts"].append(mount)
    plan["env"].append(f"NOTIFY_SOCKET={_INSIDE}/{_SOCKET}")


class Listener:
    """The container's socket, once its command may be started.

    fd: readable when a notification has come.
    """

    def __init__(self, folder: str, host: str) -> None:
        """folder: of the container. host: the host's socket, as NOTIFY_SOCKET names it."""
        self._host = host
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        directory = os.open(os.path.join(folder, _FOLDER), os.O_PATH | os.O_CLOEXEC)
        try:
            # The path of a socket may be no longer than 107 bytes.
            path = f"/proc/self/fd/{directory}/{_SOCKET}"
            self._socket.bind(path)
            os.chmod(path, 0o777)
        finally:
            os.close(directory)
        self.fd = self._socket.fileno()

    def take(self, pid: int) -> bool:
        """Take one notification; one that says that the service is ready is passed on: True.

        pid: of the container's first process.
        """
        lines = self._socket.recv(_LONGEST).split(b"\n")
        if not any(line.startswith(b"READY=") for line in lines):
            return False
        host = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        name = f"\0{self._host[1:]}" if self._host.startswith("@") else self._host
        host.sendto(b"READY=1\nMAINPID=%d\n" % pid, name)
        host.close()
        return True

    def close(self) -> None:
        """Take nothing any more."""
        self._socket.close()

    def wait(self, pid: int, pidfd: int) -> None:
        """Return when the service is ready, or the process gone."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if (self.fd in ready and self.take(pid)) or pidfd in ready:
                self.close()
                return


def listener_of(folder: str) -> "Listener | None":
    """Return the socket of the container whose folder it is, where somebody waits for it."""
    host = os.environ.get("NOTIFY_SOCKET", "")
    if not host or not os.path.isdir(os.path.join(folder, _FOLDER)):
        return None
    return Listener(folder, host)
