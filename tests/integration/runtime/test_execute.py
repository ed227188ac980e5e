"""A command's whole life: found, started, heard, signalled, ended, cleared away."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import (
    Cancelled,
    CommandNotExecutable,
    CommandNotFound,
    LaunchFailed,
    NotPrivileged,
    UserNotFound,
    WorkingDirectoryFailed,
)
from runtime.executor import Cancel, Execution, execute, plan_of
from runtime.running import Running, Stdio

pytestmark = pytest.mark.kernel


def alive(marker: str) -> list[int]:
    """Return the processes of this host whose command line holds `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def test_output_and_exit_code(run):
    ran = run("echo out; echo err >&2; exit 7")
    assert (ran.out, ran.err, ran.code, ran.status.signal) == ("out\n", "err\n", 7, None)


def test_command_is_pid_1(run):
    assert run("echo $$").out == "1\n"


def test_killed_by_signal_is_128_plus_n(run):
    assert run("sh -c 'kill -TERM $$'; exit $?").code == 143
    # pid 1 itself ignores what it has no handler for.
    assert run("kill -TERM $$; echo still here").out == "still here\n"


def test_large_output_arrives_whole(run):
    ran = run("busybox seq 1 200000")
    assert ran.out == "".join(f"{n}\n" for n in range(1, 200001))


def test_stdin(run, tmp_path):
    (tmp_path / "in").write_text("typed\n")
    with (tmp_path / "in").open() as file:
        assert run("cat", stdin=file.fileno()).out == "typed\n"
    assert run("cat").out == ""


def test_descriptors_given_instead_of_a_callback(snapshot, tmp_path):
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        status = execute(
            Execution(snapshot.mount, ("sh", "-c", "echo 1; echo 2 >&2"), env=("PATH=/bin",)),
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
    assert status.code == 0
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("1\n", "2\n")


def test_only_standard_descriptors_reach_the_command(run):
    # ls itself opens the directory: descriptor 3
    assert run("ls /proc/self/fd").out.split() == ["0", "1", "2", "3"]


def test_environment_is_exactly_what_was_given(run):
    ran = run("busybox env", env=("PATH=/bin", "A=1", "A=2", "EMPTY="))
    lines = set(ran.out.split("\n")) - {"", "SHLVL=1", "PWD=/"}
    assert lines == {"PATH=/bin", "A=2", "EMPTY=", "HOME=/root"}


def test_home_of_the_user(run):
    assert run("echo $HOME", user="app").out == "/home/app\n"
    assert run("echo $HOME", user="4711").out == "/\n"
    assert run("echo $HOME", env=("PATH=/bin", "HOME=/x")).out == "/x\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root),50(staff)"),
        ("app", "uid=1000(app) gid=1000(app) groups=29(audio),50(staff),1000(app)"),
        ("app:staff", "uid=1000(app) gid=50(staff) groups=50(staff)"),
        ("1000:29", "uid=1000(app) gid=29(audio) groups=29(audio)"),
        ("4711:12", "uid=4711 gid=12 groups=12"),
        ("4711", "uid=4711 gid=0(root) groups=0(root)"),
    ],
)
def test_user(run, user, expected):
    assert run("id", user=user).out.strip() == expected


@pytest.mark.parametrize("user", ["nobody", "app:wheel", "4294967296"])
def test_unknown_user(run, user):
    with pytest.raises(UserNotFound):
        run("true", user=user)


def test_missing_command(run):
    with pytest.raises(CommandNotFound) as caught:
        run(("nope",))
    assert str(caught.value) == 'exec: "nope": executable file not found in $PATH'
    assert caught.value.exit_code == 127
    with pytest.raises(CommandNotFound, match="stat /nope: no such file or directory"):
        run(("/nope",))


def test_missing_interpreter_is_named(run, snapshot):
    script = snapshot.layer / "bin/script"
    script.write_text("#!/no/such/shell\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotFound, match="interpreter"):
        run(("script",))


def test_not_executable(run, snapshot):
    (snapshot.layer / "bin/plain").write_text("text")
    with pytest.raises(CommandNotExecutable, match='"plain": permission denied'):
        run(("plain",))
    with pytest.raises(CommandNotExecutable, match="is a directory"):
        run(("/etc",))
    (snapshot.layer / "bin/plain").chmod(0o755)
    with pytest.raises(CommandNotExecutable, match="exec format error"):
        run(("plain",))


def test_path_is_searched_past_what_cannot_be_executed(run, snapshot):
    (snapshot.layer / "first").mkdir()
    (snapshot.layer / "first/true").write_text("no program")
    assert run(("true",), env=("PATH=/missing:/first:/bin",)).code == 0


def test_working_directory(run):
    assert run("busybox pwd", cwd="/home/app").out == "/home/app\n"
    with pytest.raises(WorkingDirectoryFailed, match="/missing: no such file"):
        run("true", cwd="/missing")
    with pytest.raises(WorkingDirectoryFailed, match="not a directory"):
        run("true", cwd="/etc/passwd")


def test_working_directory_made_on_request(run, snapshot):
    assert run("busybox pwd", cwd="/a/b", create_cwd=True).out == "/a/b\n"
    assert snapshot.changed() == ["a", "a/b"]
    owned = {"user": "5:6", "create_cwd": True, "own_cwd": True}
    assert run("busybox stat -c %u:%g /a/b/c/d /a/b/c /a/b", cwd="/a/b/c/d", **owned).out == (
        "5:6\n5:6\n0:0\n"
    )


def test_working_directory_that_only_root_may_enter(run, snapshot):
    (snapshot.layer / "root").chmod(0o700)
    assert run("busybox pwd", cwd="/root", user="app").out == "/root\n"


def test_background_processes_die_with_the_command(run):
    marker = f"29{os.getpid()}"
    assert run(f"sleep {marker} & (sleep {marker} &) ; echo started").out == "started\n"
    assert not alive(marker)


def test_cancel_kills_everything(run):
    marker = f"31{os.getpid()}"
    with Cancel() as cancel:
        timer = threading.Thread(
            target=lambda: (until(lambda: len(alive(marker)) >= 2, "two sleeps"), cancel.set())
        )
        timer.start()
        ran = run(f"(sleep {marker} &); sleep {marker}", cancel=cancel)
        timer.join()
    assert (ran.code, ran.status.signal) == (137, 9)
    assert not alive(marker)


def test_cancel_before_the_start(run):
    with Cancel() as cancel:
        cancel.set()
        try:
            ran = run("sleep 60", cancel=cancel)
        except Cancelled:
            return
        assert ran.code == 137


def test_from_many_threads(run, snapshot):
    with ThreadPoolExecutor(8) as pool:
        # Read-only: two overlays must not write to one upper directory.
        mount = replace(snapshot.mount, upper=None, work=None)
        futures = [pool.submit(run, f"echo {n}; exit {n}", mount=mount) for n in range(24)]
        results = [future.result() for future in futures]
    assert [(r.out, r.code) for r in results] == [(f"{n}\n", n) for n in range(24)]


CALLER = """
import sys
from runtime.executor import Execution, execute
from store.mount import OverlayMount
base, marker = sys.argv[1:]
mount = OverlayMount(base, ("busybox",), "upper", "work", "stubs")
script = f"(sleep {marker} &); echo up; sleep {marker}"
execute(Execution(mount, ("sh", "-c", script), env=("PATH=/bin",)))
"""


def start_caller(snapshot, project, marker):
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CALLER), str(snapshot.base), marker],
        stdout=subprocess.PIPE,
        cwd=project,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"up\n"
    return caller


def cgroups_of(pid: int) -> list[Path]:
    return [p for p in Path("/sys/fs/cgroup").glob(f"**/pybuild/{pid}-*") if p.is_dir()]


def test_kill_9_of_the_caller_leaves_nothing(snapshot, project):
    marker = f"37{os.getpid()}"
    caller = start_caller(snapshot, project, marker)
    assert cgroups_of(caller.pid)
    children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
    assert len(children) == 1
    caller.kill()
    caller.wait()
    caller.stdout.close()
    until(lambda: not alive(marker), "the container died")
    until(lambda: not Path("/proc", children[0]).exists(), "the launcher is gone")
    assert not cgroups_of(caller.pid)


def test_kill_9_of_the_launcher_leaves_nothing(snapshot):
    marker = f"41{os.getpid()}"
    execution = Execution(snapshot.mount, ("sleep", marker), env=("PATH=/bin",))
    with Running(plan_of(execution), Stdio()) as running:
        until(lambda: alive(marker), "the command runs")
        os.kill(running._launcher.pid, signal.SIGKILL)
        with pytest.raises(LaunchFailed, match="launcher died"):
            running.wait()
    until(lambda: not alive(marker), "the container died")


def test_signals_reach_the_command(snapshot):
    script = "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.01; done"
    execution = Execution(snapshot.mount, ("sh", "-c", script), env=("PATH=/bin",))
    out = bytearray()

    def take(_fd: int, data: bytes) -> None:
        if not out:
            running.forward(signal.SIGUSR1)
        out.extend(data)

    with Running(plan_of(execution), Stdio(on_output=take)) as running:
        assert running.wait().code == 3
    assert out == b"ready\ncaught\n"


def test_lock_descriptors_are_held_until_the_end(run, tmp_path):
    read_end, write_end = os.pipe()
    marker = f"43{os.getpid()}"
    with Cancel() as cancel:
        thread = threading.Thread(
            target=lambda: run(f"sleep {marker}", lock_fds=(write_end,), cancel=cancel)
        )
        thread.start()
        until(lambda: alive(marker), "the command runs")
        os.close(write_end)
        os.set_blocking(read_end, False)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)  # the launcher still has the other end
        cancel.set()
        thread.join()
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_what_somebody_left_inheritable_is_not_held(run):
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    marker = f"47{os.getpid()}"
    with Cancel() as cancel:
        thread = threading.Thread(target=lambda: run(f"sleep {marker}", cancel=cancel))
        thread.start()
        until(lambda: alive(marker), "the command runs")
        os.close(write_end)
        assert os.read(read_end, 1) == b""  # nobody else has the other end
        cancel.set()
        thread.join()
    os.close(read_end)


def test_output_ends_with_the_container(snapshot):
    """A process that the caller forked meanwhile holds copies of the pipes: no reason to wait."""
    forked = []

    def take(_fd: int, _data: bytes) -> None:
        if not forked:
            forked.append(os.fork())
            if not forked[0]:
                time.sleep(60)
                os._exit(0)

    started = time.monotonic()
    execution = Execution(snapshot.mount, ("sh", "-c", "echo a; echo b"), env=("PATH=/bin",))
    assert execute(execution, on_output=take).code == 0
    assert time.monotonic() - started < 30
    os.kill(forked[0], signal.SIGKILL)
    os.waitpid(forked[0], 0)


def test_without_privilege(snapshot):
    """An ordinary user is told what is missing."""
    child = os.fork()
    if child == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            execute(Execution(snapshot.mount, ("true",)))
        except NotPrivileged as error:
            os._exit(42 if "root" in (error.hint or "") else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_usage_is_measured(run):
    ran = run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    assert ran.status.cpu_seconds > 0.005
    assert ran.status.peak_memory_bytes > 100_000


def test_signal_dispositions_are_the_default_ones(run):
    lines = run(("busybox", "grep", "Sig", "/proc/self/status")).out.splitlines()
    masks = dict(line.split() for line in lines)
    assert int(masks["SigIgn:"], 16) == int(masks["SigBlk:"], 16) == 0


def test_umask_and_session(run):
    assert run("umask").out == "0022\n"
    fields = run("cat /proc/1/stat").out.rpartition(")")[2].split()
    assert fields[2:4] == ["1", "1"]  # process group and session
