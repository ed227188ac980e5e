"""One process in a fresh container, synchronously: what RUN and foreground runs are made of.

`execute` may be called from any thread. It starts a launcher (a bare interpreter), hands it a
plan, passes on output and signals, and returns when nothing of the container is left.
"""

import contextlib
import errno
import functools
import itertools
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

from runtime import defaults, hostfiles
from runtime.errors import (
    Cancelled,
    CommandNotExecutable,
    CommandNotFound,
    InvalidSpec,
    LaunchFailed,
    MountFailed,
    NotPrivileged,
    RuntimeFailure,
    UserNotFound,
    WorkingDirectoryFailed,
)
from runtime.launch.channel import receive
from runtime.launcher import Launcher
from runtime.linux import constants as c
from runtime.plan import LaunchPlan, MountPlan, launch_plan, mount_of, mount_plan, root_plan
from runtime.spec import Device, Namespace, Resources, Rlimit, Spec
from store.mount import OverlayMount

OnOutput = Callable[[int, bytes], None]
_CHUNK = 1 << 16
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path, or a path inside another snapshot, shown in the container.

    source: absolute host path, or a snapshot's mount. subpath: below that snapshot's root.
    read_only: also for what is mounted below it (`recursive`).
    """

    source: str | OverlayMount
    target: str
    read_only: bool = False
    subpath: str = ""
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory. size_bytes: 0 is half of the host's memory."""

    target: str
    size_bytes: int = 0
    mode: int = 0o1777
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file of given content that exists in memory only: secrets, here-documents."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Execution:
    """A process and the container around it.

    user: as USER writes it (`name|uid[:group]`), resolved in the container's own account files.
    binds: mounted in the order of their targets' depth, after the usual file systems.
    extra_hosts: (name, address) lines of /etc/hosts.
    lock_fds: inherited by the launcher, so held until the container is gone.
    create_cwd: make a missing working directory, as `docker run` does.
    privileged: all capabilities, no seccomp, no masks, all devices.
    stdin: descriptor to read from; None is an empty input.
    """

    mount: OverlayMount
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    network: Literal["host", "none"] = "host"
    tty: bool = False
    window: tuple[int, int] = (0, 0)
    stdin: int | None = None
    read_only: bool = False
    binds: tuple[Bind | Tmpfs | FileMount, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    lock_fds: tuple[int, ...] = ()
    seccomp: bool | dict[str, object] = True
    capabilities: tuple[str, ...] = defaults.CAPABILITIES
    privileged: bool = False
    no_new_privileges: bool = False
    create_cwd: bool = False
    additional_groups: tuple[int, ...] = ()
    limits: tuple[Rlimit, ...] = ()
    resources: Resources = field(default_factory=lambda: Resources())
    sysctl: tuple[tuple[str, str], ...] = ()
    shm_bytes: int = 64 << 20
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the process ended.

    code: 0 to 255, 128 + n when signal n killed it. signal: that n, or None.
    peak_memory_bytes: of the cgroup, where one counts it, else of the biggest process.
    """

    code: int
    signal: int | None
    peak_memory_bytes: int | None
    cpu_seconds: float
    out_of_memory: bool = False


class Cancel:
    """A switch, once set for good, that kills containers; may be set from any thread.

    fd: becomes readable when it is set.
    """

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._set = False

    def set(self) -> None:
        """Kill every container that was started with this switch."""
        with self._lock:
            if not self._set:
                self._set = True
                os.close(self._write)  # the other end reads as ended from now on

    def is_set(self) -> bool:
        """Tell whether `set` was called."""
        return self._set

    def close(self) -> None:
        """Give the descriptors back."""
        self.set()
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def __enter__(self) -> "Cancel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spec_of(execution: Execution) -> Spec:
    """Return the OCI description of `execution`, but for its own binds and generated files."""
    kinds: list[Literal["pid", "mount", "ipc", "uts", "cgroup", "network"]] = [
        *("pid", "mount", "ipc", "uts", "cgroup"),
    ]
    if execution.network == "none":
        kinds.append("network")
    privileged = execution.privileged
    names = list(defaults.ALL_CAPABILITIES if privileged else execution.capabilities)
    namespaces: list[Namespace] = [{"type": kind} for kind in kinds]
    resources = Resources(**execution.resources)
    if not privileged:
        resources.setdefault("devices", defaults.device_rules())
    spec: Spec = {
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": execution.read_only},
        "process": {
            "args": list(execution.args),
            "cwd": execution.cwd or "/",
            "env": list(execution.env),
            "terminal": execution.tty,
            "user": {"uid": 0, "gid": 0, "additionalGids": list(execution.additional_groups)},
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "noNewPrivileges": execution.no_new_privileges,
            "rlimits": list(execution.limits),
        },
        "hostname": execution.hostname,
        "domainname": execution.domainname,
        "mounts": defaults.mounts(shm_bytes=execution.shm_bytes, privileged=privileged),
        "linux": {
            "namespaces": namespaces,
            "devices": _host_devices() if privileged else defaults.devices(),
            "resources": resources,
            "maskedPaths": [] if privileged else list(defaults.MASKED_PATHS),
            "readonlyPaths": [] if privileged else list(defaults.READ_ONLY_PATHS),
            "sysctl": dict(execution.sysctl),
        },
    }
    if execution.oom_score_adj is not None:
        spec["process"]["oomScoreAdj"] = execution.oom_score_adj
    return spec


@functools.cache
def _filter(capabilities: tuple[str, ...]) -> bytes:
    from runtime.linux.seccomp import filter_for

    return filter_for(defaults.seccomp_profile(), capabilities)


def _seccomp(execution: Execution) -> bytes:
    if execution.privileged or not execution.seccomp:
        return b""
    if execution.seccomp is True:
        return _filter(execution.capabilities)
    from runtime.linux.seccomp import filter_for

    return filter_for(execution.seccomp, execution.capabilities)


def _host_devices() -> list[Device]:
    """Return every device node of the host's /dev, as a privileged container gets them."""
    found: list[Device] = []
    with os.scandir("/dev") as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            status = entry.stat(follow_symlinks=False)
            if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
                continue
            if entry.name in ("console", "ptmx"):
                continue  # the container's own
            found.append(
                {
                    "path": entry.path,
                    "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
                    "major": os.major(status.st_rdev),
                    "minor": os.minor(status.st_rdev),
                    "fileMode": stat.S_IMODE(status.st_mode),
                    "uid": status.st_uid,
                    "gid": status.st_gid,
                }
            )
    return found


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _generated(execution: Execution) -> list[FileMount]:
    own_network = execution.network == "none"
    resolv = hostfiles.resolv_conf(
        _text_of("/etc/resolv.conf"),
        _text_of("/run/systemd/resolve/resolv.conf"),
        own_network=own_network,
        servers=execution.dns,
    )
    hosts = hostfiles.hosts(execution.hostname, "", execution.extra_hosts)
    texts = [("resolv.conf", resolv), ("hosts", hosts), ("hostname", f"{execution.hostname}\n")]
    return [
        FileMount(f"/etc/{name}", os.fsencode(text), 0o644, read_only=False)
        for name, text in texts
        if name != "hostname" or execution.hostname
    ]


def _own_mount(bind: Bind | Tmpfs | FileMount) -> MountPlan:
    if isinstance(bind, Tmpfs):
        size = [f"size={bind.size_bytes}"] if bind.size_bytes else []
        options = ["nosuid", "nodev", "noexec", f"mode={bind.mode:o}", *size, *bind.options]
        return mount_of({"destination": bind.target, "type": "tmpfs", "options": options})
    if isinstance(bind, FileMount):
        plan = mount_plan("file", bind.target)
        plan["data"], plan["owner"] = bind.data, (bind.mode, bind.uid, bind.gid)
    elif isinstance(bind.source, OverlayMount):
        plan = mount_plan("overlay", bind.target)
        plan["source"], plan["overlay"] = bind.subpath, root_plan(bind.source)
    else:
        plan = mount_plan("bind", bind.target)
        plan["source"], plan["recursive"] = bind.source, bind.recursive
    if bind.read_only:
        plan["attributes"] = c.MOUNT_ATTR_RDONLY
    return plan


def _depth(bind: Bind | Tmpfs | FileMount) -> int:
    return len([part for part in bind.target.split("/") if part])


def plan_of(execution: Execution) -> LaunchPlan:
    """Return what the launcher is told to do for `execution`. Raises InvalidSpec."""
    name = f"{os.getpid()}-{time.monotonic_ns()}-{next(_counter)}"
    root = root_plan(execution.mount, read_only=execution.read_only)
    plan = launch_plan(spec_of(execution), root, name=name, user=execution.user or "0")
    plan["links"] = list(defaults.DEV_LINKS)
    binds = sorted([*_generated(execution), *execution.binds], key=_depth)
    for bind in binds:
        if not bind.target.startswith("/") or not _depth(bind):
            raise InvalidSpec(f"mount {bind.target!r}: the target must be a path below /")
    plan["mounts"] += [_own_mount(bind) for bind in binds]
    plan["create_cwd"] = execution.create_cwd
    plan["window"] = execution.window
    plan["seccomp"] = _seccomp(execution)
    return plan


def execute(
    execution: Execution,
    *,
    on_output: OnOutput | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    cancel: Cancel | None = None,
) -> ExitStatus:
    """Run `execution` to its end and return how it ended; nothing of it is left then.

    on_output: called in this thread with (1 or 2, bytes) as output arrives; without it the
    container writes to `stdout` and `stderr`, descriptors, by default our own.
    cancel: kills the container when set; its end is then reported as that of any killed process,
    or as Cancelled when the command had not started.
    Raises a RuntimeFailure when the command could not be started.
    """
    with Running(execution, on_output, stdout, stderr) as running:
        return running.wait(cancel)


class Running:
    """A container being run: its launcher and the pipes from it."""

    def __init__(
        self,
        execution: Execution,
        on_output: OnOutput | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self._on_output = on_output
        self._outputs: dict[int, int] = {}  # our end of a pipe → 1 or 2
        self._end: tuple[object, ...] | None = None
        self.pid: int | None = None  # of the command, as the host sees it
        plan = plan_of(execution)
        with contextlib.ExitStack() as stack:
            write_ends = {1: 1 if stdout is None else stdout, 2: 2 if stderr is None else stderr}
            if on_output is not None:
                for number in (1, 2):
                    read_end, write_ends[number] = os.pipe2(os.O_CLOEXEC)
                    self._outputs[read_end] = number
                    stack.callback(os.close, write_ends[number])
            stdin = execution.stdin
            if stdin is None:
                stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, stdin)
            stdio = (stdin, write_ends[1], write_ends[2])
            try:
                self.launcher = Launcher(plan, stdio, execution.lock_fds)
            except BaseException:
                self._close_outputs()
                raise

    def _close_outputs(self) -> None:
        for fd in self._outputs:
            os.close(fd)
        self._outputs.clear()

    def forward(self, signal_number: int) -> None:
        """Signal the command."""
        self.launcher.forward(signal_number)

    def wait(self, cancel: Cancel | None = None) -> ExitStatus:
        """Pass output on until the container is gone; return how its process ended."""
        poller = select.poll()
        report = self.launcher.report
        for fd in (report, *self._outputs):
            poller.register(fd, select.POLLIN)
        cancelled = False
        if cancel is not None:
            poller.register(cancel.fd, select.POLLIN)
        while report >= 0 or self._outputs:
            for fd, _ in poller.poll():
                if fd in self._outputs:
                    if not self._pass_on(fd):
                        poller.unregister(fd)
                        del self._outputs[fd]
                        os.close(fd)
                elif fd == report:
                    if not self._hear():
                        poller.unregister(fd)
                        report = -1
                else:
                    cancelled = True
                    poller.unregister(fd)
                    self.launcher.kill()
        self.launcher.wait()
        return self._conclude(cancelled)

    def _pass_on(self, fd: int) -> bool:
        data = os.read(fd, _CHUNK)
        if data and self._on_output is not None:
            self._on_output(self._outputs[fd], data)
        return bool(data)

    def _hear(self) -> bool:
        """Take one message of the launcher; False at the end of them."""
        try:
            message = receive(self.launcher.report)
        except EOFError:
            message = None
        if message is None:
            return False
        if message[0] == "started":
            self.pid = int(str(message[1]))
        else:
            self._end = message
        return True

    def _conclude(self, cancelled: bool) -> ExitStatus:
        if self._end is None:
            if cancelled:
                raise Cancelled("run: cancelled before the command started")
            raise LaunchFailed("run: the launcher died", hint="was it killed?")
        if self._end[0] == "failed":
            _, kind, text, code = self._end
            raise failure(str(kind), str(text), int(str(code)))
        return exit_status(self._end)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_outputs()
        self.launcher.__exit__()


def exit_status(message: tuple[object, ...]) -> ExitStatus:
    """Return the launcher's `exited` message as a value."""
    _, status, cpu_seconds, biggest, peak, counted, out_of_memory = message
    code = os.waitstatus_to_exitcode(cast(int, status))
    return ExitStatus(
        code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        peak_memory_bytes=cast("int | None", peak) or cast(int, biggest),
        cpu_seconds=cast("float | None", counted) or cast(float, cpu_seconds),
        out_of_memory=bool(out_of_memory),
    )


_FAILURES: dict[str, type[RuntimeFailure]] = {
    "mount": MountFailed,
    "user": UserNotFound,
    "workdir": WorkingDirectoryFailed,
    "not-found": CommandNotFound,
    "not-executable": CommandNotExecutable,
    "clone": LaunchFailed,
    "cgroup": LaunchFailed,
    "launch": LaunchFailed,
}
_HINTS = {
    "user": "the name must be in the image's /etc/passwd or /etc/group; numbers always work",
    "workdir": "WORKDIR makes the directory; or name another one",
    "cgroup": "limits need a writable cgroup tree of their controller",
}


def failure(kind: str, text: str, code: int) -> RuntimeFailure:
    """Return the exception for a launcher's or init's `failed` message."""
    if code in (errno.EPERM, errno.EACCES) and kind in ("clone", "mount") and os.geteuid() != 0:
        return NotPrivileged(text, hint="containers need root (CAP_SYS_ADMIN) on this host")
    return _FAILURES.get(kind, LaunchFailed)(text, hint=_HINTS.get(kind))
