"""A container in the foreground: run to its end with our stdio, across an execve if need be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pybuild.engine import records
from pybuild.engine.containers import Made, end, made
from pybuild.errors import ContainerError

if TYPE_CHECKING:
    from pybuild.engine.runrequest import RunRequest
    from registry_client.events import OnEvent
    from runtime.executor import ForegroundState
    from runtime.launcher import Launchers
    from store.reference import Reference
    from store.root import Store

    # ID of a container, descriptor of its snapshot's lock, what its execution is waited for with,
    # what its network is ended with
    ContainerState = tuple[str, int, ForegroundState, tuple[int, int] | None]
    Rest = Callable[[ContainerState], None]


def run(
    store: Store,
    request: RunRequest,
    on_created: Callable[[str], None] | None = None,
    watch: Callable[[Reference], OnEvent] | None = None,
    launchers: Launchers | None = None,
    rest: Rest | None = None,
) -> int:
    """Make a container, run it to its end with our stdio, and return its exit code.

    watch: called before a pull, gives what takes its progress. launchers: may have one waiting.
    rest: called when nothing has happened for a while; may give the process to another program,
    which gives what it was told to `resume`.
    Raises ImageMissing, ContainerError, and RuntimeFailure when the command could not be started;
    nothing is kept of the container then.
    """
    with made(store, request, watch) as container:
        if on_created is not None:
            on_created(container.record.id)
        container.exit_code = _execute(container, launchers, rest)
    return container.exit_code


def resume(store: Store, state: ContainerState, numbers: Sequence[int], rest: Rest) -> int:
    """Do the rest of `run` after an execve: wait for the container, return its exit code.

    numbers: signals that came meanwhile. Raises RuntimeFailure.
    """
    from runtime.executor import resume_in_foreground

    container_id, lock_fd, waiting, network = state
    record = records.load(store.root, container_id)
    if record is None:
        raise ContainerError(f"container {container_id[:12]}: its record has gone")
    told = partial(_tell, rest, container_id, lock_fd, network)
    keep = False
    try:
        code = resume_in_foreground(waiting, numbers, told).code
        keep = not record.remove
    finally:
        if network is not None:
            from pybuild.engine.networks import Connection

            Connection.end(network)
        if not keep:
            store.snapshots.remove_held(record.snapshot, lock_fd)
            records.delete(store.root, record.id)
    if keep:
        end(store, record, code)
    return code


def _execute(container: Made, launchers: Launchers | None, rest: Rest | None) -> int:
    from runtime.executor import execute, execute_in_foreground

    # Signals reach the main thread only; in another one there are none to pass on.
    if threading.current_thread() is not threading.main_thread():
        return execute(container.execution, launchers=launchers).code
    told = None
    if rest is not None:
        lock_fd = container.execution.lock_fds[0]
        told = partial(_tell, rest, container.record.id, lock_fd, container.network)
    return execute_in_foreground(container.execution, launchers=launchers, rest=told).code


def _tell(
    rest: Rest,
    container_id: str,
    lock_fd: int,
    network: tuple[int, int] | None,
    waiting: ForegroundState,
) -> None:
    rest((container_id, lock_fd, waiting, network))
