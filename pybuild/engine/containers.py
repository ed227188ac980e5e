"""Containers: made, ended, listed and removed.

Owns what docker's `run` decides: which command, which environment, what is kept afterwards. The
image's VOLUMEs are plain folders of the container here. Refuses to know how a process gets into
its namespaces.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pybuild.engine import records
from pybuild.engine.records import ContainerRecord
from pybuild.engine.registries import found_or_pulled
from pybuild.engine.walls import Walls, walled
from pybuild.errors import ContainerError
from store.usernamespace import in_first_user_namespace
from values.classes import dataclass, replace

if TYPE_CHECKING:
    from pybuild.engine.networks import Connection
    from pybuild.engine.runrequest import RunRequest
    from registry_client.events import OnEvent
    from runtime.execution import Bind, Execution
    from store.activesnapshot import Active
    from store.digest import DiffID
    from store.oci import ContainerConfig
    from store.reference import Reference
    from store.root import Store

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KILLED = 137
_STOP_S = 10.0
_POLL_S = 0.05


@dataclass(slots=True)
class Made:
    """A container that exists, its record written.

    exit_code: to be set when it has ended. network: what ends the one that it has of its own.
    """

    record: ContainerRecord
    execution: Execution
    exit_code: int = 0
    network: tuple[int, int] | None = None


@contextmanager
def made(
    store: Store,
    request: RunRequest,
    watch: Callable[[Reference], OnEvent] | None = None,
) -> Iterator[Made]:
    """Make a container to be executed in the block; at its end all goes that is not to be kept.

    Raises ImageMissing, ContainerError.
    """
    with ExitStack() as stack:
        connection = _connection(request, stack)
        with store.lease():
            draft = _draft(store, request, watch, connection)
            folders = _host_folders(request)
            active = stack.enter_context(store.snapshots.prepare(_chain(draft), stubs=True))
        record = _entered(store, replace(draft, snapshot=active.id), request.name)
        try:
            if not record.remove:
                active.keep()  # now, so that it is there even if we are killed meanwhile
            active.unlease()  # a container may live for months; its record names its layers
            container = Made(record, _execution(record, request, active, folders, store.root))
            if connection is not None:
                container.execution = connection.connected(container.execution)
                container.network = connection.handle()
            yield container
        except BaseException:
            # A command that never started leaves nothing to look at.
            active.discard()
            records.delete(store.root, record.id)
            raise
        if record.remove:
            active.discard()
            records.delete(store.root, record.id)
        else:
            end(store, record, container.exit_code)


def end(store: Store, record: ContainerRecord, code: int) -> None:
    """Write how a container ended that is kept.

    Before the snapshot's lock goes: a free lock under `running` means a lost supervisor.
    """
    ended = replace(record, state=records.EXITED, exit_code=code, finished=_now())
    records.save(store.root, ended)


def command_of(config: ContainerConfig, request: RunRequest) -> tuple[str, ...]:
    """Return what is to be executed. Raises ContainerError when that is nothing.

    A command replaces the image's CMD; another entry point drops the image's CMD too.
    """
    if request.entrypoint is not None:
        args = (*request.entrypoint, *(request.command or ()))
    else:
        args = (*(config.entrypoint or ()), *(request.command or config.cmd or ()))
    if not args:
        raise ContainerError(
            f"run {request.image}: no command specified",
            hint="the image has none: name one after the image",
        )
    return args


def environment_of(config: ContainerConfig, request: RunRequest, hostname: str) -> tuple[str, ...]:
    """Return the environment as `K=V`: docker's defaults, the image's, then the request's."""
    merged = {"PATH": _DEFAULT_PATH, "HOSTNAME": hostname}
    if request.tty:
        merged["TERM"] = "xterm"
    for word in (*config.env, *request.env):
        name, equals, text = word.partition("=")
        if equals:
            merged[name] = text
        else:
            merged.pop(name, None)
    return tuple(f"{name}={text}" for name, text in merged.items())


def listed(store: Store, *, everything: bool) -> list[ContainerRecord]:
    """Return the containers that run, or all, newest first, each in its true state."""
    found = [settled(store, record) for record in records.load_all(store)]
    return [r for r in found if r is not None and (everything or r.state == records.RUNNING)]


def settled(store: Store, record: ContainerRecord) -> ContainerRecord | None:
    """Return the record of a container whose supervisor may have been killed.

    Its container died with it: the record says so from now on, or goes when nothing of the
    container was to be kept (None).
    """
    if record.state == records.EXITED or records.is_alive(store.root, record):
        return record
    # A supervisor writes how it ended before it lets go of the lock: only now is that certain.
    current = records.load(store.root, record.id)
    if current is None or current.state == records.EXITED:
        return current
    if current.remove:
        _forget(store, current)
        return None
    lost = replace(
        current,
        state=records.EXITED,
        exit_code=_KILLED,
        finished=_now(),
        error="supervisor lost",
    )
    records.save(store.root, lost)
    return lost


def remove(store: Store, name: str, *, force: bool) -> None:
    """Remove a container. Raises ContainerError when there is none, and when it runs.

    force: kill it first; one that does not exist is an error still.
    """
    record = records.find(store, name)
    if records.is_alive(store.root, record):
        if not force:
            raise ContainerError(
                f"remove container {name}: it is running", hint="stop it first, or use --force"
            )
        _stop(store, record)
    _forget(store, record)


def inspected(store: Store, name: str) -> dict[str, object] | None:
    """Return what docker's `inspect` says about the container `name`, None when there is none."""
    try:
        record = settled(store, records.find(store, name))
    except ContainerError:
        return None
    if record is None:
        return None
    running = record.state == records.RUNNING
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.args[0],
        "Args": list(record.args[1:]),
        "State": {
            "Status": record.state,
            "Running": running,
            "Pid": record.supervisor_pid if running else 0,
            "ExitCode": record.exit_code,
            "Error": record.error,
            "StartedAt": record.started,
            "FinishedAt": record.finished,
        },
        "Image": record.image_id,
        "Name": f"/{record.name}",
        "HostConfig": {
            "Binds": [f"{s}:{t}{':ro' if ro else ''}" for s, t, ro in record.folders],
            "NetworkMode": record.network,
            "PortBindings": _port_bindings(record),
            "AutoRemove": record.remove,
            "ReadonlyRootfs": record.read_only,
        },
        "Config": {
            "Hostname": record.hostname,
            "User": record.user,
            "Tty": record.tty,
            "OpenStdin": record.interactive,
            "Env": list(record.env),
            "Image": record.image_name,
            "WorkingDir": record.working_dir,
            "Labels": dict(record.labels),
        },
        "NetworkSettings": {"Ports": _port_bindings(record) if running else {}},
    }


def _port_bindings(record: ContainerRecord) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for address, host, inside, protocol in record.ports:
        binding = {"HostIp": address, "HostPort": str(host)}
        found.setdefault(f"{inside}/{protocol}", []).append(binding)
    return found


def _connection(request: RunRequest, stack: ExitStack) -> Connection | None:
    """Return what the container's network needs, until `stack` ends; None where that is nothing."""
    usual = request.network in ("host", "none") or (
        request.network == "" and in_first_user_namespace()
    )
    named = any(address == "host-gateway" for _, address in request.extra_hosts)
    special = request.ports or request.publish_all or named
    if usual and not special:
        return None
    from pybuild.engine.networks import Connection

    connection = stack.enter_context(Connection(request))
    if not request.publish_all:
        connection.begin(())  # it takes longer than all else, and needs nothing of the image
    return connection


def _draft(
    store: Store,
    request: RunRequest,
    watch: Callable[[Reference], OnEvent] | None,
    connection: Connection | None,
) -> ContainerRecord:
    """Return the record of a new container, without its name and snapshot.

    The caller holds a lease. The container's network begins to be made, where it is not yet.
    """
    image = found_or_pulled(store, request.image, request.pull, watch)
    container_id = os.urandom(32).hex()
    hostname = _hostname(request, container_id)
    config = image.config.config
    now = _now()
    if connection is not None:
        connection.begin(config.exposed_ports)
    return ContainerRecord(
        id=container_id,
        name="",
        image_id=image.id,
        image_name=request.image,
        args=command_of(config, request),
        layers=image.config.diff_ids,
        created=now,
        started=now,
        supervisor_pid=os.getpid(),
        supervisor_start=_start_time(os.getpid()),
        env=environment_of(config, request, hostname),
        working_dir=request.working_dir or config.working_dir or "/",
        user=request.user if request.user is not None else config.user,
        hostname=hostname,
        network=connection.kind if connection else request.network or "host",
        ports=connection.ports if connection else (),
        labels=tuple({**dict(config.labels), **dict(request.labels)}.items()),
        folders=tuple((f.source, f.target, f.read_only) for f in request.folders),
        tty=request.tty,
        interactive=request.interactive,
        read_only=request.read_only,
        remove=request.remove,
    )


def _entered(store: Store, draft: ContainerRecord, name: str | None) -> ContainerRecord:
    """Give a container its name and write its record. Raises ContainerError for a taken name."""
    with store.lock("containers"):
        record = replace(draft, name=_free_name(store, name))
        # What is not to be kept need not survive a power cut, and the disk's answer takes time.
        records.save(store.root, record, durable=not record.remove)
    return record


def _free_name(store: Store, wanted: str | None) -> str:
    taken = {record.name: record for record in records.load_all(store)}
    if wanted is None:
        return records.new_name(set(taken))
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", wanted):
        raise ContainerError(
            f"container name {wanted!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if wanted in taken:
        raise ContainerError(
            f"container name {wanted}: container {taken[wanted].id[:12]} has it",
            hint=f"remove it with pybuild rm {wanted}, or choose another name",
        )
    return wanted


def _hostname(request: RunRequest, container_id: str) -> str:
    if request.hostname:
        return request.hostname
    return os.uname().nodename if request.network == "host" else container_id[:12]


def _chain(record: ContainerRecord) -> tuple[DiffID, ...]:
    from store.digest import DiffID

    return tuple(map(DiffID, record.layers))


def _now() -> str:
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos // 1000:06d}Z"


def _host_folders(request: RunRequest) -> tuple[Bind, ...]:
    """Return the binds of the request, whose sources are there then."""
    from runtime.execution import Bind

    for folder in request.folders:
        if os.path.exists(folder.source):
            continue
        if folder.must_exist:
            raise ContainerError(f"bind source path does not exist: {folder.source}")
        os.makedirs(folder.source)
    return tuple(Bind(f.source, f.target, f.read_only) for f in request.folders)


def _execution(
    record: ContainerRecord,
    request: RunRequest,
    active: Active,
    folders: tuple[Bind, ...],
    store_root: str,
) -> Execution:
    from runtime.execution import Execution

    execution = Execution(
        filters=store_root,
        mount=active.mount,
        args=record.args,
        env=record.env,
        cwd=record.working_dir,
        create_cwd=True,
        user=record.user,
        hostname=record.hostname,
        network="none" if record.network == "none" else "host",
        tty=record.tty,
        stdin=0 if record.interactive else None,
        read_only=record.read_only,
        binds=folders,
        extra_hosts=request.extra_hosts,
        dns=request.dns,
        lock_fds=(active.lock_fd,),
    )
    return walled(execution, request.walls) if request.walls != Walls() else execution


def _stop(store: Store, record: ContainerRecord) -> None:
    """End a running container through its supervisor, and wait until nothing of it runs.

    The supervisor passes the first signals on and kills at the third. One that does not answer
    is killed itself, and its container with it. Raises ContainerError when that takes too long.
    """
    pid = record.supervisor_pid
    for number in (*(signal.SIGTERM,) * 3, signal.SIGKILL):
        if _start_time(pid) == record.supervisor_start and pid != os.getpid():
            os.kill(pid, number)
        deadline = time.monotonic() + (_STOP_S if number == signal.SIGKILL else _STOP_S / 20)
        while time.monotonic() < deadline:
            if not records.is_alive(store.root, record):
                return
            time.sleep(_POLL_S)
    raise ContainerError(f"remove container {record.name}: it does not end")


def _forget(store: Store, record: ContainerRecord) -> None:
    """Delete all of a container that is dead. Raises InUse when it is not."""
    if record.snapshot:
        store.snapshots.remove(record.snapshot)
    records.delete(store.root, record.id)


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when there is none.

    With it a pid names one process for good.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[19])  # starttime, field 22 of proc_pid_stat(5)
