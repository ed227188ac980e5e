"""One process in a fresh container, synchronously: what RUN and foreground runs are made of.

`execute` may be called from any thread. It starts a launcher (a bare interpreter), hands it a
plan, passes on output, and returns when nothing of the container is left.
"""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
import signal
import time
from collections.abc import Callable, Sequence

from runtime import defaults, hostfiles, terminal
from runtime.cancel import Cancel
from runtime.container import start_time
from runtime.errors import InvalidSpec, NotPrivileged, WrongState
from runtime.execution import Bind, Execution, FileMount, Tmpfs, spec_of
from runtime.launch.cgroupfiles import folders_of
from runtime.launcher import Launchers
from runtime.linux import constants as c
from runtime.linux.seccomp_cache import cached_filter
from runtime.planning import launch_plan
from runtime.process import process_plan
from runtime.rootfs import mount_of, mount_plan, root_plan
from runtime.rootless.mode import effective_capabilities
from runtime.running import ExitStatus, OnOutput, Running, Stdio
from runtime.terminal import ForwardedSignals
from store import manner
from store.mount import OverlayMount
from store.usernamespace import in_first_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import JoinPlan, LaunchPlan, MountPlan
    from runtime.running import RunningState

    # what is known of the container, and how many urgent signals came
    ForegroundState = tuple[RunningState, int]

__all__ = [
    "Bind",
    "Cancel",
    "Execution",
    "ExitStatus",
    "FileMount",
    "Tmpfs",
    "execute",
    "execute_in_foreground",
    "execute_inside",
    "plan_of",
    "resume_in_foreground",
]
_counter = itertools.count()


def container_name() -> str:
    """Return a name that no other container on this host has now."""
    return f"{os.getpid()}-{time.monotonic_ns()}-{next(_counter)}"


@functools.cache
def _default_filter(folder: str, capabilities: tuple[str, ...]) -> bytes:
    return _filter(folder, defaults.seccomp_profile(), capabilities)


def _filter(folder: str, profile: dict[str, Any], capabilities: tuple[str, ...]) -> bytes:
    if folder:
        return cached_filter(folder, profile, capabilities)
    from runtime.linux.seccomp import filter_for

    return filter_for(profile, capabilities)


def _seccomp(execution: Execution) -> bytes:
    if execution.privileged or not execution.seccomp:
        return b""
    if execution.seccomp is True:
        return _default_filter(execution.filters, execution.capabilities)
    return _filter(execution.filters, execution.seccomp, execution.capabilities)


def _emulating_filter(execution: Execution) -> bytes:
    """Return the filter with which owners and ids are emulated; empty where the disk has them."""
    if manner.current().all_owners:
        return b""
    from runtime.emulated.profile import with_notifications

    profile = None if execution.privileged or not execution.seccomp else execution.seccomp
    if profile is True:
        profile = defaults.seccomp_profile()
    return _filter(execution.filters, with_notifications(profile), execution.capabilities)


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _generated(execution: Execution) -> list[FileMount]:
    """Return the files below /etc that depend on the host, as mounts."""
    resolv = hostfiles.resolv_conf(
        _text_of("/etc/resolv.conf"),
        _text_of("/run/systemd/resolve/resolv.conf"),
        own_network=execution.network == "none" or bool(execution.network_namespace),
        servers=execution.dns,
        forwarder=execution.network_resolver,
    )
    hosts = hostfiles.hosts(execution.hostname, execution.network_address, execution.extra_hosts)
    texts = [("resolv.conf", resolv), ("hosts", hosts)]
    if execution.hostname:
        texts.append(("hostname", f"{execution.hostname}\n"))
    return [
        FileMount(f"/etc/{name}", os.fsencode(text), 0o644, read_only=False) for name, text in texts
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
        if plan["recursive"]:
            plan["below"] = c.MOUNT_ATTR_RDONLY, 0
        if isinstance(bind, FileMount):
            plan["attributes"] |= c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
            if not bind.mode & 0o111:
                plan["attributes"] |= c.MOUNT_ATTR_NOEXEC
    return plan


def _depth(bind: Bind | Tmpfs | FileMount) -> int:
    return len([part for part in bind.target.split("/") if part not in ("", ".")])


def plan_of(execution: Execution) -> LaunchPlan:
    """Return what the launcher is told to do for `execution`. Raises InvalidSpec."""
    root = root_plan(execution.mount, read_only=execution.read_only)
    spec, name = spec_of(execution), container_name()
    if execution.cgroup_parent:
        spec["linux"]["cgroupsPath"] = posixpath.join("/", execution.cgroup_parent, name)
    plan = launch_plan(spec, root, name=name, user=execution.user or "0")
    if execution.isolation != "chroot" and not in_first_user_namespace():
        from runtime.rootless.plans import adapt

        adapt(plan, manner.current())
    binds = sorted([*_generated(execution), *execution.binds], key=_depth)
    for bind in binds:
        if not bind.target.startswith("/") or not _depth(bind):
            raise InvalidSpec(f"mount {bind.target!r}: the target must be a path below /")
    if any(posixpath.normpath("/" + bind.target.lstrip("/")) == "/dev" for bind in binds):
        plan["devices"], plan["links"] = [], []  # a folder of the host's: nothing is made in it
    plan["mounts"] += [_own_mount(bind) for bind in binds]
    plan["additional_groups"] = list(execution.additional_groups)
    plan["create_cwd"], plan["own_cwd"] = execution.create_cwd, execution.own_cwd
    if execution.isolation == "chroot":
        from runtime.rootless.plans import without_walls

        without_walls(plan, effective_capabilities())
        return plan
    if execution.isolation == "shared":
        from runtime.rootless.plans import with_shared_processes

        with_shared_processes(plan)
    plan["seccomp"] = _seccomp(execution)
    plan["emulating_filter"] = _emulating_filter(execution)
    return plan


def execute(  # noqa: PLR0913  all that a caller may have to do with a run
    execution: Execution,
    *,
    on_output: OnOutput | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    cancel: Cancel | None = None,
    launchers: Launchers | None = None,
    on_started: Callable[[int], None] | None = None,
) -> ExitStatus:
    """Run `execution` to its end and return how it ended; nothing of it is left then.

    on_output: called in this thread with (1 or 2, bytes) as output arrives; without it the
    container writes to `stdout` and `stderr`, descriptors, by default our own.
    cancel: kills the container when set; its end is then reported as that of any killed process,
    or as Cancelled when the command had not started.
    launchers: where a launcher may be waiting already. on_started: called in this thread with the
    pid of the command when it is being executed.
    Raises a RuntimeFailure when the command could not be started.
    """
    stdio = Stdio(
        execution.stdin,
        1 if stdout is None else stdout,
        2 if stderr is None else stderr,
        on_output,
    )
    held = execution.lock_fds
    with Running(plan_of(execution), stdio, held, launchers, on_started) as running:
        return running.wait(cancel, execution.timeout_s)


def execute_inside(
    execution: Execution, init_pid: int, *, on_output: OnOutput, cancel: Cancel | None = None
) -> ExitStatus:
    """Run a process as `execution` describes it in a container that runs; return how it ended.

    init_pid: the pid, on this host, of the container's first process. What concerns the
    container itself (mounts, hostname, network, limits on all of it) is as it is.
    Raises WrongState where the container has ended, NotPrivileged where it is a mere root
    directory, else what `execute` raises.
    """
    started, letter = start_time(init_pid)
    try:
        shares_mounts = os.path.samefile(f"/proc/{init_pid}/ns/mnt", "/proc/self/ns/mnt")
        cgroups = folders_of(init_pid)
    except FileNotFoundError as error:
        raise WrongState("run in a container: it has ended") from error
    if letter in ("", "Z", "X"):
        raise WrongState("run in a container: it has ended")
    if shares_mounts:
        raise NotPrivileged(
            "run in a container: it has no namespaces of its own that could be entered",
            hint="`pybuild info` says what is missing for them",
        )
    plan: JoinPlan = {
        **process_plan(spec_of(execution)["process"], execution.user or "0"),
        "caller": os.getpid(),
        "init": (init_pid, started),
        "cgroups": cgroups,
    }
    plan["additional_groups"] = list(execution.additional_groups)
    plan["seccomp"] = _seccomp(execution)
    plan["emulating_filter"] = _emulating_filter(execution)
    with Running(plan, Stdio(execution.stdin, on_output=on_output)) as running:
        return running.wait(cancel)


def execute_in_foreground(
    execution: Execution,
    *,
    cancel: Cancel | None = None,
    launchers: Launchers | None = None,
    rest: Callable[[ForegroundState], None] | None = None,
) -> ExitStatus:
    """Run `execution` on our own stdin, stdout and stderr; signals that we get are passed on.

    With `tty` our terminal is in raw mode meanwhile and its size is followed.
    rest: called when a command without a terminal is silent for long; may give the process to
    another program, which gives what it was told to `resume_in_foreground`.
    Only in the main thread, because of the signals. Raises what `execute` raises.
    """
    plan = plan_of(execution)
    if execution.tty and plan["window"] == (0, 0):
        plan["window"] = terminal.size(1)
    raw = terminal.raw_mode(execution.stdin if execution.tty else None)
    with Running(plan, Stdio(execution.stdin), execution.lock_fds, launchers) as running:

        def resized() -> None:
            running.resize(*terminal.size(1))

        follow = resized if execution.tty else None
        with raw, ForwardedSignals(running.forward, running.kill, follow) as signals:
            return running.wait(cancel, rest=_resting(running, signals, rest))


def resume_in_foreground(
    state: ForegroundState, numbers: Sequence[int], rest: Callable[[ForegroundState], None]
) -> ExitStatus:
    """Do the rest of `execute_in_foreground`, after an execve.

    numbers: signals that came meanwhile; while they are blocked, they still are.
    """
    known, urgent = state
    with (
        Running.resumed(known) as running,
        ForwardedSignals(running.forward, running.kill, urgent=urgent) as signals,
    ):
        for number in numbers:
            signals.take(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, terminal.FORWARDED)
        return running.wait(rest=_resting(running, signals, rest))


def _resting(
    running: Running,
    signals: ForwardedSignals,
    rest: Callable[[ForegroundState], None] | None,
) -> Callable[[], None] | None:
    if rest is None:
        return None

    def told() -> None:
        known = running.state()
        if known is not None:
            rest((known, signals.urgent))

    return told
