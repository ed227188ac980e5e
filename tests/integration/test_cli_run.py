"""`pybuild run` on a real kernel: what the command sees, what it gives back, what is left."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from processtable import is_running

pytestmark = pytest.mark.kernel

LIMIT_S = 30.0


def wait_until(holds, what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def containers(pybuild, *words: str) -> list[dict[str, str]]:
    listing = pybuild("ps", "--format", "json", *words)
    return [json.loads(line) for line in listing.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 143),
        (["no-such-command"], 127),
        (["/no/such/command"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
    ],
)
def test_the_exit_code_is_the_containers(pybuild, busybox_image, command, code) -> None:
    done = pybuild("run", "--rm", busybox_image, *command, check=False)
    assert done.returncode == code
    assert ("error: " in done.stderr) == (code in (126, 127))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["127.0.0.1:1/nothing:here", "true"], "pull 127.0.0.1:1/nothing:here: "),
        (["-u", "stranger", "busybox:test", "true"], "unable to find user stranger"),
        (["--mount", "type=bind,src=/no/such,dst=/x", "busybox:test", "true"], "does not exist"),
        (["--name", "-", "busybox:test", "true"], "only [a-zA-Z0-9]"),
        (["-it", "busybox:test", "true"], "stdin is no terminal"),
        (["busybox:test"], "no command specified"),
    ],
)
def test_our_own_failures_are_125_and_leave_nothing(
    pybuild, busybox_image, store_root: Path, words, part
) -> None:
    done = pybuild("run", *words, check=False)
    assert done.returncode == 125
    assert done.stderr.startswith(("error: ", "Unable to find image "))
    assert done.stderr.count("error: ") == 1
    assert part in done.stderr
    assert os.listdir(store_root / "containers") == []
    assert os.listdir(store_root / "snapshots") == []


def test_stdout_and_stderr_stay_apart_and_stdin_is_passed_with_i(pybuild, busybox_image) -> None:
    done = pybuild("run", "--rm", busybox_image, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert pybuild("run", "--rm", "-i", busybox_image, "cat", input="in\n").stdout == "in\n"
    assert pybuild("run", "--rm", busybox_image, "cat", input="in\n").stdout == ""


def test_what_the_command_finds(pybuild, busybox_image, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# no\nFROM_FILE=f\n")
    done = pybuild(
        *("run", "--rm", "-u", "app", "-w", "/made/here", "-h", "box", "-e", "A=1", "-eOURS"),
        *("--env-file", file, "--add-host", "db:10.1.2.3", busybox_image, "sh", "-c"),
        "id; pwd; hostname; echo $A $OURS $FROM_FILE $HOME; cat /etc/hosts; echo $$",
        env={"OURS": "ours"},
    )
    user, folder, host, variables, *hosts, pid = done.stdout.splitlines()
    assert user == "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)"
    assert (folder, host, variables, pid) == ("/made/here", "box", "1 ours f /home/app", "1")
    assert "10.1.2.3\tdb" in hosts


def test_entry_point_and_command(pybuild, busybox_image, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f'FROM {busybox_image}\nENTRYPOINT ["echo", "entry"]\nCMD ["cmd"]\nENV KEEP=1 DROP=1\n'
        "WORKDIR /work\n"
    )
    pybuild("build", "-t", "entry", context)

    def said(*words: str) -> str:
        return pybuild("run", "--rm", *words).stdout.strip()

    assert said("entry") == "entry cmd"
    assert said("entry", "other") == "entry other"
    assert said("--entrypoint", "echo", "entry") == ""
    assert said("--entrypoint", "echo", "entry", "x") == "x"
    assert said("--entrypoint", "", "entry", "pwd") == "/work"
    assert said("--entrypoint", "sh", "-e", "DROP", "entry", "-c", "echo $KEEP$DROP") == "1"


def test_folders_of_the_host(pybuild, busybox_image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    pybuild(
        *("run", "--rm", "-v", f"{tmp_path}/new/dir:/data", "-v", f"{tmp_path}/file:/f:ro"),
        *(busybox_image, "sh", "-c", "cat /f > /data/copy; ! echo x > /f"),
    )
    assert (tmp_path / "new/dir/copy").read_text() == "content"
    assert (tmp_path / "file").read_text() == "content"


def test_no_network_is_only_lo(pybuild, busybox_image) -> None:
    listing = pybuild("run", "--rm", "--network", "none", busybox_image, "ls", "/sys/class/net")
    assert listing.stdout.split() == ["lo"]


def test_read_only(pybuild, busybox_image) -> None:
    done = pybuild("run", "--rm", "--read-only", busybox_image, "touch", "/x", check=False)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_a_container_is_kept_listed_inspected_and_removed(
    pybuild, busybox_image, store_root: Path, tmp_path: Path
) -> None:
    words = ("run", "--name", "kept", "--cidfile", tmp_path / "cid", busybox_image)
    assert pybuild(*words, "sh", "-c", "echo x > /f; exit 3", check=False).returncode == 3
    container_id = (tmp_path / "cid").read_text()
    assert containers(pybuild) == []
    (listed,) = containers(pybuild, "-a", "--no-trunc")
    assert (listed["ID"], listed["Names"], listed["State"]) == (container_id, "kept", "exited")
    (seen,) = json.loads(pybuild("inspect", "kept").stdout)
    assert (seen["Id"], seen["State"]["ExitCode"], seen["Path"]) == (container_id, 3, "sh")
    taken = pybuild("run", "--name", "kept", busybox_image, "true", check=False)
    assert taken.returncode == 125
    assert "container name kept" in taken.stderr
    in_use = pybuild("rmi", busybox_image, check=False)
    assert (in_use.returncode, "container" in in_use.stderr) == (1, True)
    assert container_id[:12] in in_use.stderr
    (snapshot,) = (store_root / "snapshots").iterdir()
    assert (snapshot / "fs" / "f").read_text() == "x\n"
    pybuild("system", "prune", "-a")
    assert (snapshot / "fs" / "f").exists()
    assert pybuild("rm", container_id[:12]).stdout == f"{container_id[:12]}\n"
    assert os.listdir(store_root / "containers") == os.listdir(store_root / "snapshots") == []
    pybuild("rmi", busybox_image)
    assert pybuild("rm", "kept", check=False).returncode == 1


def test_rm_keeps_nothing(pybuild, busybox_image, store_root: Path) -> None:
    pybuild("run", "--rm", busybox_image, "sh", "-c", "echo x > /f")
    assert os.listdir(store_root / "containers") == os.listdir(store_root / "snapshots") == []
    assert pybuild("system", "check").stdout == "clean\n"


SAYS_WHEN_READY = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"


def started(pybuild, *words: str) -> subprocess.Popen[bytes]:
    """Start a container that says `ready`, and return when it has."""
    process = pybuild.start("run", *words)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_signals_are_passed_on(pybuild, busybox_image) -> None:
    process = started(pybuild, "--rm", busybox_image, "sh", "-c", SAYS_WHEN_READY)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert (out, process.returncode) == (b"got\n", 5)


def test_the_third_ctrl_c_kills_what_ignores_it(pybuild, busybox_image) -> None:
    deaf = "trap '' INT; echo ready; while :; do sleep 0.05; done"
    process = started(pybuild, "--rm", busybox_image, "sh", "-c", deaf)
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 137


def test_a_running_container_is_removed_with_force_only(pybuild, busybox_image) -> None:
    command = ("sh", "-c", SAYS_WHEN_READY)
    process = started(pybuild, "--name", "busy", busybox_image, *command)
    (listed,) = containers(pybuild)
    assert (listed["Names"], listed["State"]) == ("busy", "running")
    refused = pybuild("rm", "busy", check=False)
    assert (refused.returncode, "it is running" in refused.stderr) == (1, True)
    pybuild("rm", "-f", "busy")
    process.communicate(timeout=LIMIT_S)
    assert containers(pybuild, "-a") == []


@pytest.mark.parametrize("remove", [False, True])
def test_a_killed_supervisor_takes_its_container_along(
    pybuild, busybox_image, store_root: Path, remove: bool
) -> None:
    words = ["--rm"] if remove else []
    words += ["--name", "lost", "-e", f"MARK={store_root}", busybox_image]
    process = started(pybuild, *words, "sh", "-c", SAYS_WHEN_READY)
    process.kill()
    process.communicate(timeout=LIMIT_S)
    mark = f"MARK={store_root}".encode()
    wait_until(lambda: not processes_with(mark), "the container's end")
    wait_until(lambda: containers(pybuild) == [], "the end of its launcher")
    listed = containers(pybuild, "-a")
    if remove:
        assert listed == []
        assert os.listdir(store_root / "snapshots") == []
    else:
        assert listed[0]["Status"].startswith("Exited (137)")
        pybuild("rm", "lost")
    assert pybuild("system", "check").stdout == "clean\n"


def processes_with(mark: bytes) -> list[str]:
    """Return the pids of processes whose environment has `mark`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", pid, "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
            found.append(pid)
    return found


def test_a_terminal(pybuild, busybox_image) -> None:
    """The command has a terminal of our size, and what is typed reaches it."""
    script = "tty; stty size; read word; echo got $word; exit 4"
    words = pybuild.command("run", "--rm", "-it", busybox_image, "sh", "-c", script)
    environment = pybuild.full_environment({})
    pid, master = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    said = b""
    typed = False
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            said += os.read(master, 4096)
        except OSError:
            break
        if not typed and b"/dev/pts/0" in said and said.count(b"\n") >= 2:
            os.write(master, b"word\r")
            typed = True
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 4, said
    lines = said.decode().replace("\r", "").split("\n")
    assert lines[:2] == ["/dev/pts/0", "33 77"]
    assert "got word" in lines


def is_dormant(pid: int) -> bool:
    return b"runtime.launch.dormant" in Path(f"/proc/{pid}/cmdline").read_bytes()


def launcher_of(supervisor: int) -> int:
    (child,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return int(child)


def memory_of_its_own_kib(pid: int) -> int:
    """Return what nobody else has use of: what files are mapped as well depends on the others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    return fields["Private_Dirty"] + fields["Swap"]


def test_who_watches_over_silent_containers_is_small_and_all_there(pybuild, busybox_image) -> None:
    script = "trap 'exit 5' USR1; trap '' USR2; echo ready; while :; do sleep 0.05; done"
    names = ("told", "orphan", "widow", "pestered")
    run = [started(pybuild, "--name", name, busybox_image, "sh", "-c", script) for name in names]
    told, orphan, widow, pestered = run
    launchers = [launcher_of(process.pid) for process in run]
    dormant = [*launchers[:3], *(process.pid for process in run[:3])]

    def pester_until_all_are_dormant() -> bool:
        pestered.send_signal(signal.SIGUSR2)  # whatever it becomes just now, it must not die
        return all(map(is_dormant, dormant))

    wait_until(pester_until_all_are_dormant, "the others are dormant")
    assert memory_of_its_own_kib(told.pid) + memory_of_its_own_kib(launchers[0]) < 7000

    orphan.kill()
    os.kill(launchers[2], signal.SIGKILL)
    for process in (told, pestered):
        process.send_signal(signal.SIGUSR1)
        assert (process.wait(LIMIT_S), process.communicate()) == (5, (b"", b""))
    assert widow.wait(LIMIT_S) == 125
    assert b"error: run: the launcher died\n" in widow.communicate()[1]
    orphan.communicate(timeout=LIMIT_S)  # its output ends when the container has
    wait_until(lambda: not is_running(launchers[1]), "the launcher has noticed")
    codes = {c["Names"]: c["Status"].split(")")[0] for c in containers(pybuild, "-a")}
    assert codes == {"told": "Exited (5", "orphan": "Exited (137", "pestered": "Exited (5"}
