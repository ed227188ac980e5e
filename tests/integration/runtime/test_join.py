"""A further process in a container that runs: where it is, what it may, how it ends."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from runtime.errors import CommandNotFound, NotPrivileged, RuntimeFailure, WrongState
from runtime.executor import Cancel, Execution, execute, execute_inside

pytestmark = pytest.mark.kernel

SHOW = "id -u; cat /etc/hostname; ls -d /proc/[0-9]*/ns | wc -l; echo $X"
IDLE = "mkdir /tmp/here; trap 'exit 3' TERM; while :; do sleep 1; done"


@pytest.fixture
def started(snapshot) -> Iterator[Callable[..., tuple[Execution, int]]]:
    """Return a function that starts a container that idles: its execution and first pid."""
    cancels: list[tuple[Cancel, threading.Thread]] = []

    def start(**fields: object) -> tuple[Execution, int]:
        execution = Execution(
            snapshot.mount, ("sh", "-c", IDLE), env=("PATH=/bin",), hostname="inside", **fields
        )
        pids: list[int] = []
        is_there, cancel = threading.Event(), Cancel()

        def tell(pid: int) -> None:
            pids.append(pid)
            is_there.set()

        def work() -> None:
            execute(execution, on_output=lambda *_: None, cancel=cancel, on_started=tell)

        thread = threading.Thread(target=work)
        thread.start()
        cancels.append((cancel, thread))
        assert is_there.wait(20)
        return execution, pids[0]

    yield start
    for cancel, thread in cancels:
        cancel.set()
        thread.join()
        cancel.close()


def inside(execution: Execution, pid: int, script: str, **fields: object) -> tuple[int, str]:
    out: list[bytes] = []
    args = ("sh", "-c", script)
    status = execute_inside(
        replace(execution, args=args, **fields), pid, on_output=lambda _, data: out.append(data)
    )
    return status.code, b"".join(out).decode()


def test_it_is_in_the_container(started) -> None:
    execution, pid = started()
    code, out = inside(execution, pid, "hostname; cat /proc/1/comm; ls /tmp; echo $X >&2; exit 7",
                       env=("PATH=/bin", "X=y"))  # fmt: skip
    assert (code, out) == (7, "inside\nsh\nhere\ny\n")
    namespaces = ("mnt", "pid", "ipc", "uts", "cgroup")
    code, out = inside(execution, pid, "cd /proc/self/ns; for n in *; do readlink $n; done")
    for name in namespaces:
        assert os.readlink(f"/proc/{pid}/ns/{name}") in out.split()


def test_it_may_no_more_than_the_container(started) -> None:
    execution, pid = started()
    fields = "grep -E '^(CapBnd|CapEff|Seccomp|NoNewPrivs):' /proc/$1/status"
    code, own = inside(execution, pid, f"set -- self; {fields}")
    assert code == 0
    assert own == inside(execution, pid, f"set -- 1; {fields}")[1]
    assert "Seccomp:\t2" in own
    cgroups = inside(execution, pid, "cat /proc/self/cgroup")[1]
    assert cgroups == inside(execution, pid, "cat /proc/1/cgroup")[1]


def test_users_and_folders(started) -> None:
    execution, pid = started()
    code, out = inside(execution, pid, "id -un; pwd", user="app", cwd="/home/app")
    assert (code, out) == (0, "app\n/home/app\n")


def test_what_cannot_be_started(started) -> None:
    execution, pid = started()
    with pytest.raises(CommandNotFound):
        execute_inside(replace(execution, args=("nothing",)), pid, on_output=lambda *_: None)
    with pytest.raises(RuntimeFailure):
        inside(execution, pid, "true", cwd="/nowhere")
    with pytest.raises(WrongState, match="it has ended"):
        inside(execution, 2**22 - 1, "true")
    with pytest.raises(NotPrivileged, match="no namespaces of its own"):
        inside(execution, os.getpid(), "true")


def test_it_can_be_killed_and_the_container_stays(started) -> None:
    execution, pid = started()
    with Cancel() as cancel:

        def take(_: int, data: bytes) -> None:
            cancel.set()

        script = replace(execution, args=("sh", "-c", "echo go; while :; do sleep 1; done"))
        status = execute_inside(script, pid, on_output=take, cancel=cancel)
    assert status.signal == 9
    assert inside(execution, pid, "ls /tmp") == (0, "here\n")


def test_it_ends_with_the_container(started) -> None:
    execution, pid = started()

    def take(_: int, data: bytes) -> None:
        os.kill(pid, 15)

    script = replace(execution, args=("sh", "-c", "echo go; while :; do sleep 1; done"))
    assert execute_inside(script, pid, on_output=take).signal == 9
