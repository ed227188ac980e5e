"""The verbs, one after the other and in the wrong order."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from processtable import is_running

pytestmark = pytest.mark.kernel


def wait_for(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status(oci, name):
    return oci.state(name)["status"]


def test_a_life(oci, bundle, tmp_path):
    folder = bundle("echo started > /tmp/mark; sleep 1000", annotations={"a": "b"})
    pid_file = tmp_path / "pid"
    oci("create", "--bundle", folder, "--pid-file", pid_file, "life")
    state = oci.state("life")
    assert state["status"] == "created"
    assert (state["id"], state["annotations"], state["bundle"]) == ("life", {"a": "b"}, str(folder))
    assert int(pid_file.read_text()) == state["pid"]
    assert not (tmp_path / "rootfs/tmp/mark").exists()
    oci("start", "life")
    wait_for((tmp_path / "rootfs/tmp/mark").exists)
    assert status(oci, "life") == "running"
    assert oci("start", "life", check=False).returncode == 1
    done = oci("delete", "life", check=False)
    assert (done.returncode, "is not stopped: running" in done.stderr) == (1, True)
    oci("kill", "life", "KILL")
    wait_for(lambda: status(oci, "life") == "stopped")
    done = oci("kill", "life", check=False)
    assert (done.returncode, "container not running" in done.stderr) == (1, True)
    done = oci("exec", "life", "true", check=False)
    assert (done.returncode, "stopped" in done.stderr) == (255, True)
    oci("delete", "life")
    for verb in ("state", "start", "kill", "delete", "pause", "resume", "update", "ps", "events"):
        done = oci(verb, "life", check=False)
        assert (done.returncode, "container does not exist: life" in done.stderr) == (1, True)
    assert oci("delete", "--force", "life").returncode == 0


def test_a_created_container_is_deleted(oci, bundle):
    oci("create", "-b", bundle("true"), "a")
    pid = oci.state("a")["pid"]
    oci("delete", "a")
    wait_for(lambda: not is_running(pid))


def test_an_id_is_taken_once(oci, bundle):
    folder = bundle("true")
    oci("create", "-b", folder, "a")
    done = oci("create", "-b", folder, "a", check=False)
    assert (done.returncode, "container with id exists: a" in done.stderr) == (1, True)
    oci("delete", "a")


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "a b", ".cache"])
def test_bad_ids(oci, bundle, name):
    done = oci("create", "-b", bundle("true"), name, check=False)
    assert done.returncode == 1
    assert "invalid container ID" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "No help topic for 'nosuch'"),
        (["--nosuch", "list"], "flag provided but not defined: --nosuch"),
        (["create"], "a container ID is required"),
        (["create", "--preserve-fds", "x", "a"], "'x' is no number"),
        (["create", "a", "b"], "one container ID is expected"),
        (["kill", "a", "NOSIG"], "unknown signal 'NOSIG'"),
        (["create", "--bundle", "/nowhere", "a"], "read /nowhere/config.json: no such file"),
        (["checkpoint", "a"], "checkpoint: not supported"),
        (["--root", "/dev/null", "list"], "--root /dev/null: not a directory"),
        (["list", "a"], "no arguments are expected"),
        (["--log-format", "yaml", "list"], "--log-format: 'yaml' is neither text nor json"),
        (["--log", "/nowhere/log", "list"], "--log /nowhere/log: No such file or directory"),
        (["create", "--preserve-fds", "-1", "a"], "--preserve-fds: '-1' is no number"),
        (["run", "--preserve-fds", "900", "a"], "--preserve-fds: descriptor "),
        (["exec", "--pid-file"], "exec: flag needs an argument: --pid-file"),
    ],
)
def test_bad_command_lines(oci, words, said):
    done = oci(*words, check=False)
    assert done.returncode == 1
    assert said in done.stderr


def test_the_log_is_runcs(oci, bundle, tmp_path):
    log = tmp_path / "log"
    subprocess.run(
        [*oci.command(), "--log", log, "--log-format", "json", "run", "-b", bundle(["no"]), "a"],
        stderr=subprocess.PIPE,
        check=False,
    )
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert 'exec: "no": executable file not found in $PATH' in entry["msg"]
    assert entry["time"].endswith("Z")


def test_broken_json(oci, bundle):
    folder = bundle("true")
    (folder / "config.json").write_text('{"ociVersion": "1.0.0",')
    done = oci("run", "-b", folder, "a", check=False)
    assert (done.returncode, "config.json: " in done.stderr) == (1, True)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("how", ["exit 7", "kill -9 $$", "true"])
def test_exit_codes(oci, bundle, how):
    expected = {"exit 7": 7, "kill -9 $$": 137, "true": 0}[how]
    # pid 1 ignores its own signals, so a child takes it.
    assert (
        oci("run", "-b", bundle(f"sh -c '{how}'; exit $?"), "a", check=False).returncode == expected
    )


def test_run_forwards_signals(oci, bundle, tmp_path):
    folder = bundle("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    run = subprocess.Popen(oci.command("run", "-b", folder, "a"), stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"up\n"
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 5
    run.stdout.close()


def test_exec(oci, bundle, rootfs):
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    done = oci(
        "exec",
        "-u",
        "1000:5",
        "-e",
        "A=b",
        "--cwd",
        "/home/app",
        "-g",
        "29",
        "a",
        "sh",
        "-c",
        "id -u; id -g; grep ^Groups /proc/self/status; echo $A $HOME; pwd; ls /proc/self/fd",
    )
    assert done.stdout.splitlines()[:5] == ["1000", "5", "Groups:\t29 ", "b /", "/home/app"]
    assert oci("exec", "a", "sh", "-c", "exit 9", check=False).returncode == 9
    done = oci("exec", "a", "nosuch", check=False)
    assert (done.returncode, "executable file not found" in done.stderr) == (255, True)
    done = oci("exec", "-g", "x", "a", "true", check=False)
    assert done.stderr == "pybuild-runtime: --additional-gids: 'x' is no number\n"
    done = oci("exec", "--console-socket", "/nowhere", "a", "true", check=False)
    assert "--console-socket: there is no terminal to pass" in done.stderr
    done = oci("exec", "--process", "/nowhere", "a", check=False)
    assert done.stderr == "pybuild-runtime: --process /nowhere: No such file or directory\n"
    oci("kill", "a", "0")
    done = oci("exec", "--cap", "CAP_SYS_TIME", "a", "grep", "CapEff", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) >> 25 & 1
    seen = oci("exec", "a", "sh", "-c", "for n in /proc/self/ns/*; do readlink $n; done").stdout
    init = oci.state("a")["pid"]
    theirs = [
        os.readlink(f"/proc/{init}/ns/{kind}") for kind in sorted(os.listdir(f"/proc/{init}/ns"))
    ]
    assert seen.split() == theirs
    cgroups = {Path(f"/proc/{init}/cgroup").read_text()}
    oci("exec", "--detach", "--pid-file", rootfs.parent / "pid", "a", "sleep", "999")
    joined = int((rootfs.parent / "pid").read_text())
    assert {Path(f"/proc/{joined}/cgroup").read_text()} == cgroups
    assert sorted(json.loads(oci("ps", "--format", "json", "a").stdout)) == sorted([init, joined])
    oci("delete", "--force", "a")
    wait_for(lambda: not is_running(joined))


def test_a_command_that_cannot_be_executed_after_all(oci, bundle, rootfs, tmp_path):
    """Nobody listens to the init after `create`: it says why, and runs nothing of its maker's."""
    (rootfs / "bin/broken").write_text("#!/no/such/interpreter\n")
    (rootfs / "bin/broken").chmod(0o755)
    folder = bundle(["/bin/broken"])
    with open(tmp_path / "said", "w") as said:
        command = oci.command("create", "-b", folder, "a")
        subprocess.run(command, stdout=said, stderr=said, check=True)
    oci("start", "a")
    wait_for(lambda: status(oci, "a") == "stopped")
    text = (tmp_path / "said").read_text()
    assert (
        text
        == 'exec: "/bin/broken": no such file or directory (its interpreter is not in the image)\n'
    )
    oci("delete", "a")


@pytest.mark.parametrize("option", ["rw", "ro"])
def test_a_user_of_its_own_governs_its_cgroups(oci, bundle, rootfs, option):
    """A systemd in a user namespace makes cgroups in its own where it sees them writable."""
    (rootfs / "sys").mkdir()
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    ids += [{"containerID": 1, "hostID": 70001, "size": 100}]
    spec = json.loads((bundle("sleep 1000") / "config.json").read_bytes())
    kinds = [*spec["linux"]["namespaces"], {"type": "user"}]
    mounts = [*spec["mounts"], {"destination": "/sys/fs/cgroup", "type": "cgroup"}]
    mounts[-1] |= {"source": "cgroup", "options": [option]}
    linux = {"namespaces": kinds, "uidMappings": ids, "gidMappings": ids}
    user = {"process": {"user": {"uid": 5, "gid": 5}}}
    oci("run", "-d", "-b", bundle("sleep 1000", linux=linux, mounts=mounts, **user), "a")
    folder = Path(oci.record("a")["cgroups"]["unified"])
    owner = 70005 if option == "rw" else 0
    assert {(folder / name).stat().st_uid for name in ("", "cgroup.procs")} == {owner}
    assert (folder / "cgroup.freeze").stat().st_uid == 0, "limits are not the container's to lift"
    make = "cd /sys/fs/cgroup; cd unified 2>/dev/null; mkdir sub && echo $$ > sub/cgroup.procs"
    made = oci("exec", "a", "sh", "-c", f"{make} && grep ^0: /proc/self/cgroup", check=False)
    assert made.stdout == ("0::/sub\n" if option == "rw" else "")
    oci("delete", "--force", "a")


def test_cgroups_deeper_than_a_path_can_name(oci, bundle):
    """A container that may make cgroups can neither hide a process in them nor prevent the end."""
    oci("run", "-d", "-b", bundle("sleep 1000"), "a")
    oci("exec", "-d", "--pid-file", oci.root.parent / "pid", "a", "sleep", "999")
    hidden = int((oci.root.parent / "pid").read_text())
    here = os.open(oci.record("a")["cgroups"]["unified"], os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("deep", dir_fd=here)
        there = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
    os.write(procs, b"%d" % hidden)
    os.close(procs)
    os.close(here)
    assert hidden in json.loads(oci("ps", "--format", "json", "a").stdout)
    oci("delete", "--force", "a")
    wait_for(lambda: not is_running(hidden))


def test_exec_as_a_user_by_name(oci, bundle, rootfs):
    """The names are the container's, not the host's."""
    (rootfs / "etc/group").write_text("app:x:1000:\nextra:x:77:app\nother:x:78:\n")
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    look = ["a", "sh", "-c", "id -u; id -g; grep ^Groups /proc/self/status"]
    for user, groups, seen in (
        ("app", [], ["1000", "1000", "Groups:\t77 1000 "]),
        ("app:other", [], ["1000", "78", "Groups:\t78 "]),
        ("app", ["--additional-gids", "5"], ["1000", "1000", "Groups:\t5 77 1000 "]),
        ("7:other", [], ["7", "78", "Groups:\t78 "]),
    ):
        assert oci("exec", "-u", user, *groups, *look).stdout.splitlines() == seen
    for user, said in (
        ("nobody-there", "unable to find user"),
        ("app:x", "unable to find group"),
        ("4294967295", "process.user.uid"),  # to setresuid: stay root
        ("7:4294967295", "process.user.gid"),
    ):
        done = oci("exec", "-u", user, *look, check=False)
        assert (done.returncode, said in done.stderr) == (255, True)
    oci("delete", "--force", "a")


def test_exec_takes_a_process(oci, bundle, tmp_path):
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    process = {
        "args": ["sh", "-c", "id -u; ulimit -n; grep NoNew /proc/self/status"],
        "cwd": "/tmp",
        "user": {"uid": 3, "gid": 4},
        "env": ["PATH=/bin"],
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}],
    }
    path = tmp_path / "process.json"
    path.write_text(json.dumps(process))
    assert oci("exec", "--process", path, "a").stdout == "3\n77\nNoNewPrivs:\t1\n"
    path.write_text(json.dumps({**process, "cwd": "tmp"}))
    done = oci("exec", "--process", path, "a", check=False)
    assert "process.cwd: 'tmp' is not an absolute path" in done.stderr
    last = max(os.sched_getaffinity(0))
    process["execCPUAffinity"] = {"initial": f"0-{last}", "final": str(last)}
    path.write_text(
        json.dumps({**process, "args": ["grep", "Cpus_allowed_list", "/proc/self/status"]})
    )
    assert oci("exec", "--process", path, "a").stdout == f"Cpus_allowed_list:\t{last}\n"
    oci("delete", "--force", "a")


def test_pause_and_resume(oci, bundle):
    oci("run", "--detach", "-b", bundle("while :; do sleep 0.01; done"), "a")
    oci("pause", "a")
    assert status(oci, "a") == "paused"
    done = oci("exec", "a", "true", check=False)
    assert (done.returncode, "paused" in done.stderr) == (255, True)
    oci("resume", "a")
    assert status(oci, "a") == "running"
    oci("pause", "a")
    oci("kill", "a", "KILL")
    wait_for(lambda: status(oci, "a") == "stopped")
    oci("delete", "a")


def test_update_and_events(oci, bundle):
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    oci(
        "update",
        "--memory",
        "64m",
        "--memory-swap",
        "128m",
        "--pids-limit",
        "44",
        "--cpu-share",
        "99",
        "a",
    )
    stats = json.loads(oci("events", "--stats", "a").stdout)
    assert (stats["type"], stats["id"]) == ("stats", "a")
    assert stats["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert stats["data"]["pids"]["limit"] == 44
    oci("update", "--memory", "256m", "--memory-swap", "512m", "a")
    assert (
        json.loads(oci("events", "--stats", "a").stdout)["data"]["memory"]["usage"]["limit"]
        == 256 << 20
    )
    oci("update", "--memory", "-1", "a")  # and so of memory with swap
    limit = json.loads(oci("events", "--stats", "a").stdout)["data"]["memory"]["usage"]["limit"]
    assert limit > 1 << 60
    done = oci("update", "--memory", "lots", "a", check=False)
    assert "--memory: 'lots' is no number" in done.stderr
    oci("delete", "--force", "a")


def test_list(oci, bundle):
    assert oci("list").stdout.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    oci("create", "-b", bundle("true"), "one")
    oci("create", "-b", bundle("true"), "two")
    assert oci("list", "-q").stdout == "one\ntwo\n"
    rows = json.loads(oci("list", "--format", "json").stdout)
    assert [(row["id"], row["status"], row["owner"]) for row in rows] == [
        ("one", "created", "root"),
        ("two", "created", "root"),
    ]
    oci("delete", "one")
    oci("delete", "two")


def test_hooks(oci, bundle, tmp_path):
    log = tmp_path / "log"
    hook = tmp_path / "hook"
    hook.write_text(
        f'#!/bin/sh\necho "$1 $A $(readlink /proc/self/ns/mnt) '
        f'$(sed \'s/.*"status":"\\([a-z]*\\)".*/\\1/\')" >> {log}\n'
    )
    hook.chmod(0o755)
    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = {
        m: [{"path": str(hook), "args": ["hook", m], "env": ["A=b", "PATH=/bin:/usr/bin"]}]
        for m in moments
    }
    hooks["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state"], "env": ["PATH=/bin"]}
    ]
    oci("create", "-b", bundle("sleep 1000", hooks=hooks), "a")
    rows = [line.split() for line in log.read_text().splitlines()]
    host = os.readlink("/proc/self/ns/mnt")
    inside = os.readlink(f"/proc/{oci.state('a')['pid']}/ns/mnt")
    assert rows == [
        ["prestart", "b", host, "creating"],
        ["createRuntime", "b", host, "creating"],
        ["createContainer", "b", inside, "creating"],
    ]
    assert not (tmp_path / "rootfs/tmp/state").exists()
    oci("start", "a")
    wait_for(
        lambda: (
            (tmp_path / "rootfs/tmp/state").exists() and (tmp_path / "rootfs/tmp/state").read_text()
        )
    )
    assert json.loads((tmp_path / "rootfs/tmp/state").read_text())["id"] == "a"
    oci("delete", "--force", "a")
    rows = [line.split() for line in log.read_text().splitlines()[3:]]
    assert rows == [["poststart", "b", host, "running"], ["poststop", "b", host, "stopped"]]


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_ends_the_creation(oci, bundle, moment):
    hooks = {moment: [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]}
    done = oci("create", "-b", bundle("true", hooks=hooks), "a", check=False)
    assert done.returncode == 1
    assert f"error running hook {moment} #0 /bin/sh: exit status 3: why" in done.stderr


def test_a_hook_that_takes_too_long(oci, bundle):
    hooks = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    done = oci("create", "-b", bundle("true", hooks=hooks), "a", check=False)
    assert "still running after 1 s" in done.stderr


def test_console_socket(oci, bundle, tmp_path):
    path = tmp_path / "console"
    received = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept():
            connection, _ = listening.accept()
            with connection:
                received.extend(socket.recv_fds(connection, 100, 1)[1])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        folder = bundle(
            "tty",
            process={
                **json.loads((bundle("tty") / "config.json").read_text())["process"],
                "terminal": True,
            },
        )
        oci("create", "-b", folder, "--console-socket", path, "a")
        thread.join(20)
    oci("start", "a")
    wait_for(lambda: status(oci, "a") == "stopped")
    assert os.read(received[0], 100) == b"/dev/pts/0\r\n"
    os.close(received[0])
    oci("delete", "a")
    done = oci("create", "-b", folder, "b", check=False)
    assert "cannot allocate tty" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["create"]])
def test_closed_standard_streams(oci, bundle, rootfs, words):
    """The container gets /dev/null, and none of the descriptors that we open."""
    script = "for n in 0 1 2; do a=$a$(readlink /proc/$$/fd/$n); done; echo $a > /tmp/seen"
    folder = bundle(script)
    command = oci.command(*words, "-b", folder, "a")
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], check=False)
    assert done.returncode == 0
    if words == ["create"]:
        oci("start", "a")
    seen = rootfs / "tmp/seen"
    wait_for(lambda: seen.exists() and seen.read_text())
    assert seen.read_text() == "/dev/null" * 3 + "\n"
    if words == ["create"]:
        oci("delete", "--force", "a")


def test_descriptors_are_passed_on_request_only(oci, bundle, tmp_path):
    (tmp_path / "passed").write_text("seen\n")
    # A shell opens them: the numbers are other files' in this process.
    script = f'exec "$@" 3< {tmp_path}/passed 9< {tmp_path}/passed'
    for options, expected in (
        (["--preserve-fds", "1"], "seen\n0\n1\n2\n3\n4\n"),  # the last is ls's own
        ([], "0\n1\n2\n3\n"),
    ):
        folder = bundle("cat <&3 2>/dev/null; ls /proc/self/fd" if options else "ls /proc/self/fd")
        words = oci.command("run", *options, "-b", folder, "a")
        done = subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, text=True)
        assert done.stdout == expected, done.stderr


def test_no_pivot(oci, bundle):
    done = oci("run", "--no-pivot", "-b", bundle("ls /; ls -A /tmp; cat /proc/1/comm"), "a")
    assert "bin\n" in done.stdout


def test_seccomp_notifications(oci, bundle, tmp_path):
    path = tmp_path / "agent"
    rules = [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]
    seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": rules,
        "listenerPath": str(path),
        "listenerMetadata": "m",
    }
    told = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept():
            connection, _ = listening.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 10000, 1)
                told.append((json.loads(data), os.readlink(f"/proc/self/fd/{fds[0]}")))
                os.close(fds[0])  # who waits for an answer then gets ENOSYS

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        folder = bundle("hostname x; echo $?", linux={"seccomp": seccomp})
        base = json.loads((folder / "config.json").read_text())
        base["linux"] = {
            **json.loads((bundle("x", name="other") / "config.json").read_text())["linux"],
            "seccomp": seccomp,
        }
        base["process"]["capabilities"] = {
            key: [*names, "CAP_SYS_ADMIN"] for key, names in base["process"]["capabilities"].items()
        }
        (folder / "config.json").write_text(json.dumps(base))
        done = oci("run", "-b", folder, "a")
        thread.join(20)
    assert done.stdout == "1\n"
    assert "Function not implemented" in done.stderr
    ((state, kind),) = told
    assert (state["fds"], state["metadata"], state["state"]["id"]) == (["seccompFd"], "m", "a")
    assert "seccomp" in kind
