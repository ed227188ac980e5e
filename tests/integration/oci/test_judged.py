"""What the test suites of other runtimes found in ours: docs/testing.md says how they are run."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

WRITABLE_CGROUP = "judged-{}"


@pytest.fixture
def cgroup(tmp_path: Path):
    """Return a path for a container's cgroups; afterwards there is none of it left."""
    name = f"/{WRITABLE_CGROUP.format(os.getpid())}-{tmp_path.name}"
    yield name
    left = [top for top in _freezers(name) if os.path.isdir(top)]
    for top in left:
        os.rmdir(top)


def _freezers(name: str) -> list[str]:
    """Return where containers in `name` are frozen: v1's tree, else v2's."""
    for top in ("/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.isdir(top):
            return [top + name]
    return []


def test_delete_of_a_paused_container(oci, bundle, cgroup):
    """runc, delete.bats: nobody who is frozen dies of his SIGKILL."""
    oci("run", "-d", "-b", bundle("sleep 1000", linux={"cgroupsPath": cgroup}), "a")
    oci("pause", "a")
    assert oci.state("a")["status"] == "paused"
    oci("delete", "--force", "a")


def test_a_frozen_cgroup_is_refused(oci, bundle, cgroup):
    """runc, cgroups.bats: who enters it stands still, and whoever waits for him too."""
    (top,) = _freezers(cgroup)
    os.mkdir(top)
    name, word = ("freezer.state", "FROZEN") if "freezer" in top else ("cgroup.freeze", "1")
    Path(top, name).write_text(word)
    for path in (cgroup, f"{cgroup}/inner"):
        done = oci("run", "-b", bundle("true", linux={"cgroupsPath": path}), "a", check=False)
        assert done.returncode == 1
        assert "container's cgroup unexpectedly frozen" in done.stderr


def test_exec_into_a_cgroup_that_is_not_there(oci, bundle, cgroup):
    """runc, exec.bats: without an error the process would be in none of the container's."""
    oci("run", "-d", "-b", bundle("sleep 1000", linux={"cgroupsPath": cgroup}), "a")
    for words, said in (
        (["--cgroup", ".."], "--cgroup: .. is not a sub cgroup path"),
        (["--cgroup", "nosuch"], "nosuch/cgroup.procs: no such file or directory"),
        (["--cgroup", "nosuch:/"], "unknown controller nosuch"),
    ):
        done = oci("exec", *words, "a", "true", check=False)
        assert done.returncode == 255
        assert said in done.stderr
    assert oci("exec", "--cgroup", "/", "a", "echo", "in").stdout == "in\n"
    oci("delete", "--force", "a")


def test_a_read_only_dev_has_all_that_belongs_there(oci, bundle):
    """runc, mounts.bats: nodes, links and mount points are made before it is read-only."""
    mounts = json.loads((bundle("x") / "config.json").read_text())["mounts"]
    for mount in mounts:
        if mount["destination"] == "/dev":
            mount["options"].append("ro")
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}
    inner = {**tmpfs, "destination": "/tmp/inner", "options": ["rw"]}
    script = (
        "touch /dev/x; touch /tmp/x; touch /tmp/inner/x && ls -d /dev/null /dev/fd /tmp/inner/x"
    )
    done = oci("run", "-b", bundle(script, mounts=[*mounts, tmpfs, inner]), "a")
    assert done.stdout.split() == ["/dev/fd", "/dev/null", "/tmp/inner/x"]
    assert done.stderr.count("Read-only file system") == 2


def test_no_pivot_hides_the_hosts_proc(oci, bundle):
    """runc, no_pivot.bats: a bare procfs may be mounted where the kernel sees another one."""
    base = json.loads((bundle("x") / "config.json").read_text())
    script = "unshare -mrpf mount -t proc none /proc && echo mounted"
    process = {**base["process"], "args": ["sh", "-c", script], "user": {"uid": 1000, "gid": 1000}}
    linux = {**base["linux"], "maskedPaths": ["/proc/kcore"]}
    for options in (["--no-pivot"], []):
        done = oci(
            "run", *options, "-b", bundle("x", process=process, linux=linux), "a", check=False
        )
        assert "ermission denied" in done.stderr
        assert done.stdout == ""


def test_createRuntime_hooks_find_the_root_where_the_bundle_has_it(oci, bundle, rootfs):
    """runc, hooks.bats: a GPU's hook mounts the driver there, inside of the mount namespace."""
    (rootfs / "lib").mkdir()
    (rootfs / "lib/driver").touch()
    script = (
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/') && "
        f"nsenter -m -t $pid mount --bind /etc/hostname {rootfs}/lib/driver"
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}  # with our own PATH
    folder = bundle("cat /lib/driver", hooks={"createRuntime": [hook]})
    assert oci("run", "-b", folder, "a").stdout == Path("/etc/hostname").read_text()
    assert (rootfs / "lib/driver").read_bytes() == b""


def test_hooks_without_an_environment_inherit_ours(oci, bundle, tmp_path):
    """crun, test_hooks.py. startContainer's is the container's."""
    said = tmp_path / "said"
    hooks = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"env > {said}"]}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"env > {said}"], "env": ["A=b"]}],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo $OURS.$HERE >/tmp/it"]}],
    }
    folder = bundle("cat /tmp/it", hooks=hooks)
    spec = json.loads((folder / "config.json").read_text())
    spec["process"]["env"].append("HERE=inside")
    (folder / "config.json").write_text(json.dumps(spec))
    environment = {"OURS": "outside"}
    oci("create", "-b", folder, "a", env=environment)
    lines = said.read_text().splitlines()
    assert "OURS=outside" in lines
    assert not [line for line in lines if line.startswith("LD_LIBRARY_PATH=")]
    oci("delete", "--force", "a", env=environment)
    assert "A=b" in said.read_text()
    assert "OURS" not in said.read_text()
    assert oci("run", "-b", folder, "a", env=environment).stdout == ".inside\n"


def _filtering(bundle, seccomp, script="true", **changes):
    folder = bundle(script, **changes)
    spec = json.loads((folder / "config.json").read_text())
    spec["process"]["noNewPrivileges"] = True
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", **seccomp}
    (folder / "config.json").write_text(json.dumps(spec))
    return folder


def test_startContainer_hooks_have_the_filter(oci, bundle):
    """runc, seccomp.bats."""
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]
    hook = {"path": "/bin/mkdir", "args": ["mkdir", "/tmp/made"]}
    folder = _filtering(bundle, {"syscalls": rules}, hooks={"startContainer": [hook]})
    done = oci("run", "-b", folder, "a", check=False)
    assert done.returncode == 1
    assert "error running hook startContainer #0 /bin/mkdir: killed by signal 31" in done.stderr
    assert "bad system call" in done.stderr


@pytest.mark.parametrize("verb", ["run", "create"])
def test_notifications_with_no_new_privileges(oci, bundle, rootfs, tmp_path, verb):
    """runc, seccomp-notify.bats: the filter comes last, and its listener has to be passed on."""
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    path = tmp_path / "agent"
    seccomp = {"syscalls": rules, "listenerPath": str(path), "listenerMetadata": "m"}
    folder = _filtering(bundle, seccomp, "mkdir /tmp/made; echo $? > /tmp/code")
    told = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept():
            connection, _ = listening.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 10000, 1)
                told.append(json.loads(data)["metadata"])
                os.close(fds[0])  # who waits for an answer then gets ENOSYS

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        oci(verb, "-b", folder, "a")
        if verb == "create":
            pidfd = os.pidfd_open(oci.state("a")["pid"])
            oci("start", "a")
            subprocess.run(
                ["python3", "-c", f"import select; select.select([{pidfd}], [], [])"],
                pass_fds=[pidfd],
                timeout=30,
                check=True,
            )
            os.close(pidfd)
            oci("delete", "a")
        thread.join(20)
    assert told == ["m"]
    assert (rootfs / "tmp/code").read_text() == "1\n"


def test_a_working_directory_that_root_may_enter(oci, bundle, rootfs):
    """runc, cwd.bats: with the rights of before the change of user, or with those of after."""
    (rootfs / "own").mkdir(mode=0o700)
    os.chown(rootfs / "own", 1000, 1000)
    base = json.loads((bundle("x") / "config.json").read_text())
    process = {**base["process"], "cwd": "/own", "args": ["sleep", "1000"], "capabilities": {}}
    for user, other in ((1000, "0"), (0, "1001")):
        process["user"] = {"uid": user, "gid": user}
        oci("run", "-d", "-b", bundle("x", process=process), "a")
        assert oci("exec", "--user", other, "a", "echo", "in").stdout == "in\n"
        oci("delete", "--force", "a")


def test_a_process_file_that_is_a_descriptor(oci, bundle):
    """runc, tty.bats: exec --process <(…)."""
    oci("run", "-d", "-b", bundle("sleep 1000"), "a")
    process = json.dumps({"args": ["echo", "said"], "cwd": "/", "user": {"uid": 0, "gid": 0}})
    script = f"exec {' '.join(oci.command('exec', '-p'))} <(echo '{process}') a"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("said\n", 0), done.stderr
    oci("delete", "--force", "a")


def test_spec_for_an_ordinary_user(oci, tmp_path):
    """runc, rootless.sh: `spec --rootless` is what can be run with one id and no network."""
    oci("spec", "--rootless", cwd=tmp_path)
    spec = json.loads((tmp_path / "config.json").read_text())
    assert {"user"} < {entry["type"] for entry in spec["linux"]["namespaces"]}
    assert "network" not in {entry["type"] for entry in spec["linux"]["namespaces"]}
    assert spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 1}]
    assert "resources" not in spec["linux"]
    assert not any("gid=" in str(mount["options"]) for mount in spec["mounts"])


def test_containers_by_a_pattern(oci, bundle):
    """crun, test_delete.py."""
    for name in ("job-1", "job-2", "other"):
        oci("create", "-b", bundle("sleep 1000"), name)
    oci("kill", "--regex", "^job-", "KILL")
    oci("delete", "--force", "--regex", "^job-")
    assert oci("list", "-q").stdout == "other\n"
    done = oci("delete", "--regex", "(", check=False)
    assert "--regex '(': " in done.stderr
    oci("delete", "--force", "--regex", ".")


def test_debug_says_what_was_made(oci, bundle, tmp_path):
    """runc, debug.bats."""
    done = oci("--debug", "run", "-b", bundle("echo out"), "a")
    assert done.stdout == "out\n"
    assert "level=debug" in done.stderr
    done = oci("--debug", "--log", tmp_path / "log", "run", "-b", bundle("true"), "a")
    assert done.stderr == ""
    assert 'level=debug msg="container a: init ' in (tmp_path / "log").read_text()
