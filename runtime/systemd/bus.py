"""A connection to systemd's manager: over a bus, or systemd's own socket where there is none.

Source: D-Bus Specification, "Authentication Protocol"; org.freedesktop.systemd1(5).
"""

import _socket
import os
import time

from runtime.errors import RuntimeFailure
from runtime.systemd import message as m
from store.usernamespace import in_first_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATIENCE_S = 30.0  # as runc has it
HINT = "without systemd use the cgroupfs manager: podman --cgroup-manager cgroupfs, dockerd "
HINT += "--exec-opt native.cgroupdriver=cgroupfs, no --systemd-cgroup"
_BUS = "org.freedesktop.DBus"
_BUS_PATH = "/org/freedesktop/DBus"
_SYSTEMD = "org.freedesktop.systemd1"
_SYSTEMD_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_JOBS = f"type='signal',path='{_SYSTEMD_PATH}',interface='{_MANAGER}',member='JobRemoved'"
_PRIVATE = "systemd/private"


class NoSystemd(RuntimeFailure):
    """No systemd can be asked."""


class Refused(RuntimeFailure):
    """An error reply. name: of the error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def is_user() -> bool:
    """Tell whether the user's own systemd is meant.

    Source: runc, shouldUseRootlessCgroupManager.
    """
    if os.geteuid() != 0:
        return True
    return not in_first_user_namespace() and os.environ.get("USER", "") not in ("", "root")


def addresses() -> "list[str]":
    """Return the sockets at which systemd may be asked, the likeliest first; `@` for abstract."""
    if is_user():
        variable, folder = "DBUS_SESSION_BUS_ADDRESS", os.environ.get("XDG_RUNTIME_DIR", "")
        usual = [f"{folder}/bus", f"{folder}/{_PRIVATE}"] if folder else []
    else:
        variable = "DBUS_SYSTEM_BUS_ADDRESS"
        usual = ["/run/dbus/system_bus_socket", f"/run/{_PRIVATE}"]
    return paths_of(os.environ.get(variable, "")) or usual


def paths_of(address: str) -> "list[str]":
    """Return the unix sockets of a D-Bus address.

    Source: D-Bus Specification, "Server Addresses".
    """
    found = []
    for one in address.split(";"):
        transport, _, options = one.partition(":")
        if transport != "unix":
            continue
        for option in options.split(","):
            key, _, value = option.partition("=")
            if key in ("path", "abstract"):
                found.append(("@" if key == "abstract" else "") + _unescaped(value))
    return found


def _unescaped(text: str) -> str:
    first, *rest = text.split("%")
    try:
        parts = [bytes([int(part[:2], 16)]) + os.fsencode(part[2:]) for part in rest]
    except ValueError:
        return text
    return os.fsdecode(os.fsencode(first) + b"".join(parts))


class Bus:
    """One connection. Each call raises Refused for an error reply, NoSystemd where nobody answers.

    address: the socket. control_group: systemd's own cgroup, empty for the root.
    """

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        """Connect. Raises OSError where nobody listens, NoSystemd where it is not systemd."""
        self.address = address
        self._patience_s = patience_s
        self._deadline = 0.0
        self._is_private = address.endswith(_PRIVATE)
        self._serial = 0
        self._rest = b""
        self._jobs: dict[str, str] = {}
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._set_deadline()
            self._socket.connect(f"\0{address[1:]}" if address[:1] == "@" else address)
            self._authenticate()
            try:
                self.control_group: str = self._get("ControlGroup")
            except Refused as error:
                raise self._trouble(str(error)) from error
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def call(self, member: str, signature: str = "", *values: object) -> "list[Any]":
        """Call a method of systemd's manager and return what it answers."""
        return self._call(_SYSTEMD, _SYSTEMD_PATH, f"{_MANAGER}.{member}", signature, values)

    def _get(self, name: str) -> "Any":
        method = "org.freedesktop.DBus.Properties.Get"
        return self._call(_SYSTEMD, _SYSTEMD_PATH, method, "ss", (_MANAGER, name))[0]

    def listen_to_jobs(self) -> None:
        """From now on take notice of the ends of jobs. To be called before a job begins."""
        if not self._is_private:  # which tells everything anyway
            self._call(_BUS, _BUS_PATH, f"{_BUS}.AddMatch", "s", (_JOBS,))

    def await_job(self, job: str) -> str:
        """Return how a job ended: `done`, or what else systemd says."""
        self._set_deadline()
        while job not in self._jobs:
            self._take_notice(self._receive())
        return self._jobs[job]

    def _authenticate(self) -> None:
        # No name: the peer takes the one that the kernel knows, ours as seen from outside of our
        # user namespace. All at once: nobody sends before he has read the whole of it.
        self._send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        answers: list[bytes] = []
        while not answers or answers[-1][:2] != b"OK":
            while b"\r\n" not in self._rest:
                self._read()
            line, _, self._rest = self._rest.partition(b"\r\n")
            answers.append(line)
            if (line[:2] != b"OK" and line != b"DATA") or len(answers) > 2:
                raise self._trouble(f"does not let us in: {line[:80].decode(errors='replace')}")
        if not self._is_private:
            self._call(_BUS, _BUS_PATH, f"{_BUS}.Hello", "", ())

    def _call(
        self,
        destination: str,
        path: str,
        method: str,
        signature: str,
        values: "tuple[object, ...]",
    ) -> "list[Any]":
        self._set_deadline()
        self._serial += 1
        serial = self._serial
        target = "" if self._is_private else destination
        self._send(m.call(serial, target, path, method, signature, values))
        while True:
            answer = self._receive()
            if answer.reply_to != serial or answer.kind not in (m.REPLY, m.ERROR):
                self._take_notice(answer)
                continue
            said = self._values(answer)
            if answer.kind == m.REPLY:
                return said
            text = str(said[0]) if said else answer.name
            raise Refused(answer.name, text)

    def _take_notice(self, signal: m.Message) -> None:
        if signal.kind == m.SIGNAL and signal.name == "JobRemoved":
            _, job, _, result = self._values(signal)
            self._jobs[job] = result

    def _values(self, answer: m.Message) -> "list[Any]":
        try:
            return answer.values()
        except m.Malformed as error:
            raise self._trouble(f"says what cannot be understood: {error}") from error

    def _receive(self) -> m.Message:
        try:
            while len(self._rest) < 16 or len(self._rest) < m.length(self._rest[:16]):
                self._read()
            size = m.length(self._rest[:16])
            data, self._rest = self._rest[:size], self._rest[size:]
            return m.parse(data)
        except m.Malformed as error:
            raise self._trouble(f"says what cannot be understood: {error}") from error

    def _set_deadline(self) -> None:
        self._deadline = time.monotonic() + self._patience_s
        self._socket.settimeout(self._patience_s)

    def _read(self) -> None:
        self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError as error:
            raise self._trouble(f"has not answered for {self._patience_s:g} s") from error
        except OSError as error:
            raise self._trouble(str(error.strerror).lower()) from error
        if not data:
            raise self._trouble("closed the connection")
        self._rest += data

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise self._trouble(f"has not listened for {self._patience_s:g} s") from error
        except OSError as error:
            raise self._trouble(str(error.strerror).lower()) from error

    def _trouble(self, text: str) -> NoSystemd:
        return NoSystemd(f"systemd at {self.address}: {text}")


def connect(address: str = "") -> Bus:
    """Return a connection to systemd, at `address` or wherever it is. Raises NoSystemd."""
    tried = []
    for path in [address] if address else addresses():
        try:
            return Bus(path)
        except OSError as error:
            tried.append(f"{path}: {str(error.strerror or error).lower()}")
        except NoSystemd as error:
            tried.append(str(error).removeprefix("systemd at "))
    where = "; ".join(tried) or "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"
    raise NoSystemd(f"no systemd to ask for a cgroup: {where}", hint=HINT)
