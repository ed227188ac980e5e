"""Key agents for steps: a socket in the container, and the caller's agent behind it.

A step may list keys and have something signed; whatever else it asks for is refused here, so that
a Dockerfile cannot add, remove or lock keys. The caller's own socket is never in a container.
Source: draft-miller-ssh-agent, "Protocol Messages".
"""

import contextlib
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from builder.errors import BuildError
from builder.request import SshSource
from values.classes import dataclass, field

_FAILURE = b"\x00\x00\x00\x01\x05"  # SSH_AGENT_FAILURE
_ALLOWED = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_LONGEST_MESSAGE = 1 << 18
_LONGEST_KEY_BYTES = 1 << 16


@dataclass(slots=True)
class SshAgents:
    """The agents that a build may show to its steps; closing it ends those that it started."""

    sources: tuple[SshSource, ...]
    _started: dict[str, "KeyAgent"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise BuildError for a source that cannot work, before anything runs."""
        for source in self.sources:
            paths = paths_of(source)
            if not all(paths):
                raise BuildError(
                    f"ssh agent {source.id}: no socket and no key",
                    hint="set SSH_AUTH_SOCK, or name a socket or key: --ssh id=PATH",
                )
            for path in paths:
                if not os.path.exists(path):
                    raise BuildError(f"ssh agent {source.id}: {path}: no such file")
            if len(paths) > 1 and any(map(is_socket, paths)):
                raise BuildError(
                    f"ssh agent {source.id}: a socket stands alone, keys may be several"
                )

    def socket_path(self, id_: str) -> str | None:
        """Return the socket of the agent `id_`, None where the build was given none.

        Keys in files get an agent of their own, started when it is first needed.
        Raises BuildError when it cannot be started.
        """
        source = next((item for item in reversed(self.sources) if item.id == id_), None)
        if source is None:
            return None
        paths = paths_of(source)
        if is_socket(paths[0]):
            return paths[0]
        with self._lock:
            if id_ not in self._started:
                self._started[id_] = start_agent(id_, paths)
            return self._started[id_].path

    def close(self) -> None:
        """End the agents that were started."""
        for agent in self._started.values():
            agent.close()
        self._started.clear()


def paths_of(source: SshSource) -> tuple[str, ...]:
    """Return a source's socket or keys; without any it is the caller's agent."""
    return source.paths or (os.environ.get("SSH_AUTH_SOCK", ""),)


def keys_of(sources: Sequence[SshSource]) -> dict[str, bytes]:
    """Return the private keys that lie in files: `ssh:ID`, and `ssh:ID:2` for a second one.

    What cannot be read is left out: `check` tells of it.
    """
    found = {}
    for source in sources:
        for number, path in enumerate(source.paths, 1):
            with contextlib.suppress(OSError):
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        name = f"ssh:{source.id}" + (f":{number}" if number > 1 else "")
                        found[name] = file.read(_LONGEST_KEY_BYTES)
    return found


def is_socket(path: str) -> bool:
    """Tell whether a socket is at `path`."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


# The agent ends when the command that it was given ends, and cat ends when our end of its input
# is closed, however that comes about.
_HOLDER = ["ssh-agent", "sh", "-c", 'echo "$SSH_AGENT_PID $SSH_AUTH_SOCK"; exec cat']


@dataclass(slots=True)
class KeyAgent:
    """An `ssh-agent` of ours. path: of its socket. pid: its own; holder: the command it watches."""

    holder: "subprocess.Popen[bytes]"
    pid: int
    path: str

    def close(self) -> None:
        """End the agent."""
        # It would look for its command's end every ten seconds only.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.holder.communicate()


def start_agent(id_: str, keys: tuple[str, ...]) -> KeyAgent:
    """Start an agent that holds keys from files. Raises BuildError."""
    pipe = subprocess.PIPE
    try:
        holder = subprocess.Popen(_HOLDER, stdin=pipe, stdout=pipe, start_new_session=True)
    except OSError as error:
        raise BuildError(
            f"ssh agent {id_}: ssh-agent: {(error.strerror or str(error)).lower()}",
            hint="keys in files need ssh-agent and ssh-add (openssh-client)",
        ) from error
    assert holder.stdout is not None
    pid, _, path = os.fsdecode(holder.stdout.readline()).strip().partition(" ")
    if not pid.isdigit():
        holder.communicate()
        raise BuildError(f"ssh agent {id_}: ssh-agent did not start")
    agent = KeyAgent(holder, int(pid), path)
    try:
        for key in keys:
            add_key(id_, agent, key)
    except BaseException:
        agent.close()
        raise
    return agent


def add_key(id_: str, agent: KeyAgent, key: str) -> None:
    """Give a key in a file to an agent. Raises BuildError."""
    # Without a terminal ssh-add refuses a key with a passphrase instead of asking for it.
    done = subprocess.run(
        ["ssh-add", "-q", key],
        env={**os.environ, "SSH_AUTH_SOCK": agent.path, "SSH_ASKPASS_REQUIRE": "never"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(
            f"ssh agent {id_}: {key}: {said[-1] if said else 'ssh-add refused it'}",
            hint="a key with a passphrase: add it to an agent, and give the agent's socket",
        )


class AgentSocket:
    """A socket at `path` with an agent behind it, open inside a `with` block.

    upstream: path of the real agent's socket. owner: mode, user and group of ours.
    """

    def __init__(self, path: str, upstream: str, owner: tuple[int, int, int]) -> None:
        self.path = path
        self._upstream = upstream
        self._owner = owner
        self._threads: list[threading.Thread] = []
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> "AgentSocket":
        mode, uid, gid = self._owner
        # The store's path may be longer than a socket's name may be.
        folder = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._server.bind(f"/proc/self/fd/{folder}/{os.path.basename(self.path)}")
        finally:
            os.close(folder)
        os.chown(self.path, uid, gid)
        os.chmod(self.path, mode & 0o777)
        self._server.listen(16)
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._stop_write)
        for thread in self._threads:
            thread.join()
        self._server.close()
        os.close(self._stop_read)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="ssh-agent")
        self._threads.append(thread)
        thread.start()

    def _ready(self, connection: socket.socket) -> bool:
        """Wait until there is something to read; False when all is over."""
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.register(self._stop_read, select.POLLIN)
        return all(fd != self._stop_read for fd, _ in poller.poll())

    def _accept(self) -> None:
        while self._ready(self._server):
            connection, _ = self._server.accept()
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        """Answer one client until it goes away."""
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with connection, agent, contextlib.suppress(OSError, EOFError):
            agent.connect(self._upstream)
            while True:
                request = self._message(connection)
                if request[4] in _ALLOWED:
                    agent.sendall(request)
                    connection.sendall(self._message(agent))
                else:
                    connection.sendall(_FAILURE)

    def _message(self, connection: socket.socket) -> bytes:
        """Read one message with its length before it. Raises EOFError at the end."""
        head = self._exactly(connection, 4)
        (length,) = struct.unpack(">I", head)
        if not 0 < length <= _LONGEST_MESSAGE:
            raise EOFError
        return head + self._exactly(connection, length)

    def _exactly(self, connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = connection.recv(count - len(data)) if self._ready(connection) else b""
            if not part:
                raise EOFError
            data += part
        return data
