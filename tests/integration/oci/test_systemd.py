"""Containers whose cgroups systemd manages. The judge is a systemd: on cgroup v1, or v2."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import systemdhost

pytestmark = pytest.mark.kernel

MIB = 1 << 20
PLACE = "/tests.slice/tests-a.slice/ours-a.scope"
UNIT = "ours-a.scope"
SYSTEMD = ("--systemd-cgroup",)


@pytest.fixture(scope="module")
def systemd(tool) -> Iterator[systemdhost.SystemdHost]:
    """Return a systemd that runs."""
    tools = [tool(name) for name in (*systemdhost.TOOLS, systemdhost.SYSTEMD)]
    folder = Path(tempfile.mkdtemp(prefix="systemd-"))  # short, for its sockets
    try:
        with systemdhost.Booted(folder, tools) as host:
            yield host
    finally:
        shutil.rmtree(folder)


def left_of(systemd) -> str:
    """Return what there is of our scopes: units that systemd knows, and cgroups."""
    return systemd.units("ours-*") + systemd("find", "/sys/fs/cgroup", "-name", "ours-*.scope")


@pytest.fixture
def there(oci, systemd):
    """Return our runtime as systemd's host has it; afterwards nothing of a scope may be left."""
    yield replace(oci, prefix=systemd.prefix)
    assert left_of(systemd) == ""


@pytest.fixture
def in_slice(bundle) -> Callable[..., Path]:
    """Return a function: a bundle whose cgroup is PLACE, with resources."""

    def make(script: str, path: str = "tests-a.slice:ours:a", **changes: object) -> Path:
        config = json.loads((bundle(script) / "config.json").read_bytes())
        resources = changes.pop("resources", {})
        linux = {**config["linux"], "cgroupsPath": path, "resources": resources}
        return bundle(script, linux=linux, **changes)

    return make


def files_of(systemd, **names: str) -> list[str]:
    """Return what files of the scope hold: files_of(systemd, memory="memory.max")."""
    tree = "/{}" if systemd.has_v1 else ""
    paths = [f"/sys/fs/cgroup{tree.format(key)}{PLACE}/{name}" for key, name in names.items()]
    return systemd("cat", *paths).splitlines()


def limits_of(systemd) -> list[str]:
    """Return the scope's limits of memory and processes, of its files."""
    name = "memory.limit_in_bytes" if systemd.has_v1 else "memory.max"
    return files_of(systemd, memory=name, pids="pids.max")


def test_the_limits_are_properties_of_a_scope(there, systemd, in_slice):
    resources = {
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0"},
        "pids": {"limit": 77},
        "devices": [{"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}],
    }
    annotations = {
        "org.systemd.property.TimeoutStopSec": "5",
        "org.systemd.property.Documentation": "['man:a(1)', \"man:b(1)\"]",
    }
    bundle = in_slice("exec sleep 1000", resources=resources, annotations=annotations)
    there(*SYSTEMD, "create", "-b", bundle, "a")
    expected = {
        "Slice": "tests-a.slice",
        "ControlGroup": PLACE,
        "Transient": "yes",
        "Delegate": "yes",
        "DefaultDependencies": "no",
        "MemoryMax": str(64 * MIB),
        "TasksMax": "77",
        "CPUQuotaPerSecUSec": "500ms",
        "CPUQuotaPeriodUSec": "50ms",
        "DevicePolicy": "strict",
        "MemoryAccounting": "yes",
        "TimeoutStopUSec": "5s",
        "Documentation": '"man:a(1)" "man:b(1)"',
    }
    v2 = {"CPUWeight": "20", "MemorySwapMax": "0", "MemoryLow": str(32 * MIB), "AllowedCPUs": "0"}
    expected |= {"CPUShares": "512"} if systemd.has_v1 else v2
    assert systemd.show(UNIT, *expected) == expected
    allowed = systemd.show(UNIT, "DeviceAllow")["DeviceAllow"].split(", ")
    assert {"/dev/char/1:3 rwm", "/dev/char/10:200 rw", "char-* m", "char-136 rwm"} <= {*allowed}
    assert limits_of(systemd) == [str(64 * MIB), "77"]
    there("delete", "--force", "a")


def test_a_life_in_a_scope(there, systemd, in_slice):
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 77}}
    there(*SYSTEMD, "run", "-d", "-b", in_slice("exec sleep 1000", resources=resources), "a")
    init = there.state("a")["pid"]
    lines = systemd("cat", f"/proc/{init}/cgroup").splitlines()
    # In every tree, also in those that systemd knows nothing of.
    assert {line.split(":", 2)[2] for line in lines} == {PLACE}
    inside = there("exec", "a", "sh", "-c", "echo > /dev/null; cat /proc/self/cgroup").stdout
    assert inside.splitlines() == [line.removesuffix(PLACE) + "/" for line in lines]
    there("update", "--memory", "32m", "--pids-limit", "9", "a")
    changed = {"MemoryMax": str(32 * MIB), "TasksMax": "9"}
    assert systemd.show(UNIT, *changed) == changed
    # Whatever systemd writes when it is reloaded, or changes the rules itself, is what is there.
    rules = sorted(files_of(systemd, devices="devices.list")) if systemd.has_v1 else []
    systemd("systemctl", "daemon-reload")
    systemd("systemctl", "set-property", "--runtime", UNIT, "DeviceAllow=/dev/null rw")
    assert limits_of(systemd) == [str(32 * MIB), "9"]
    assert rules == (sorted(files_of(systemd, devices="devices.list")) if systemd.has_v1 else [])
    there("pause", "a")
    assert there.state("a")["status"] == "paused"
    there("resume", "a")
    assert json.loads(there("ps", "-f", "json", "a").stdout) == [init]
    assert json.loads(there("events", "--stats", "a").stdout)["data"]["pids"]["limit"] == 9
    there("kill", "--all", "a", "KILL")
    there("delete", "--force", "a")


def test_what_a_container_sees_without_a_cgroup_namespace(there, systemd, in_slice):
    """Its own cgroup, although that is made only after it was cloned."""
    bundle = in_slice("cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; :")
    config = json.loads((bundle / "config.json").read_bytes())
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    config["linux"]["resources"] = {"pids": {"limit": 33}}
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    config["mounts"] = [*config["mounts"], mount]
    (bundle / "config.json").write_text(json.dumps(config))
    assert there(*SYSTEMD, "run", "-b", bundle, "a").stdout == "33\n"


def test_a_host_without_a_bus(there, systemd, in_slice):
    """Then systemd's own socket is there, for root."""
    systemd("systemctl", "stop", "dbus.service", "dbus.socket")
    try:
        there(*SYSTEMD, "create", "-b", in_slice("true", ":ours:a"), "a")
    finally:
        systemd("systemctl", "start", "dbus.service")
    assert systemd.show(UNIT, "ControlGroup") == {"ControlGroup": f"/system.slice/{UNIT}"}
    assert there.record("a")["scope"]["bus"] == "/run/systemd/private"
    there("delete", "--force", "a")


def test_the_root_slice(there, systemd, in_slice):
    there(*SYSTEMD, "create", "-b", in_slice("true", "-.slice:ours:a"), "a")
    assert systemd.show(UNIT, "ControlGroup") == {"ControlGroup": f"/{UNIT}"}
    # Where systemd is asked is in the state, and no affair of who deletes.
    there("delete", "--force", "a", env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"})


def test_systemd_is_gone_when_a_container_is_deleted(there, systemd, in_slice):
    there(*SYSTEMD, "create", "-b", in_slice("true"), "a")
    path = there.root / "a/state.json"
    state = json.loads(path.read_bytes())
    state["scope"]["bus"] = "/nonexistent"
    path.write_text(json.dumps(state))
    done = there("delete", "--force", "a")
    assert "no systemd to ask for a cgroup: /nonexistent: no such file" in done.stderr
    # systemd sees that the last process is gone, because its cgroup is not taken away under it.
    systemd("timeout", "20", "sh", "-c", f"while systemctl is-active {UNIT}; do :; done")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "/a/b"}, 'is not "slice:prefix:name"'),
        ({"path": "a--b.slice:ours:a"}, "'a--b.slice' is no name of a slice"),
        ({"path": "a.slice:ours:x/y"}, "'ours-x/y.scope' is no name of a unit"),
        ({"annotations": {"org.systemd.property.Nosuch": "1"}}, "Cannot set property Nosuch"),
        ({"annotations": {"org.systemd.property.Delegate": "@as []"}}, "not a value of a known"),
    ],
)
def test_what_is_refused(there, in_slice, changes, message):
    done = there(*SYSTEMD, "run", "-b", in_slice("true", **changes), "a", check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_host_without_systemd(oci, in_slice):
    env = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent/socket"}
    done = oci(*SYSTEMD, "run", "-b", in_slice("true"), "a", env=env, check=False)
    assert done.returncode == 1
    assert "no systemd to ask for a cgroup: /nonexistent/socket: no such file" in done.stderr
    assert "cgroupfs" in done.stderr


def test_a_scope_is_not_made_twice(there, systemd, in_slice):
    there(*SYSTEMD, "create", "-b", in_slice("true"), "a")
    done = there(*SYSTEMD, "create", "-b", in_slice("true"), "b", check=False)
    assert "the cgroup has processes already" in done.stderr
    assert systemd.show(UNIT, "ActiveState") == {"ActiveState": "active"}
    there("delete", "--force", "a")


def test_a_scope_that_failed_is_made_anew(there, systemd, in_slice):
    """Out of memory makes a scope fail, and systemd keep it."""
    resources = {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
    script = "x=$(dd if=/dev/zero bs=1M count=64 | tr '\\0' x)"
    there(*SYSTEMD, "run", "--keep", "-b", in_slice(script, resources=resources), "a", check=False)
    systemd(
        "timeout",
        "20",
        "sh",
        "-c",
        f"until systemctl is-failed {UNIT} || ! systemctl is-active {UNIT}; do :; done",
    )
    there("delete", "a")
    there(*SYSTEMD, "run", "-b", in_slice("true"), "a")


def test_a_kill_at_any_moment(there, systemd, in_slice, rounds):
    bundle = in_slice("exec sleep 1000")
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    for number in range(rounds(200, 12)):
        life = subprocess.Popen(
            there.command(*SYSTEMD, "create", "-b", bundle, "a"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            life.wait(moments.uniform(0, 0.25))
        except subprocess.TimeoutExpired:
            os.killpg(life.pid, 9)  # nsenter and what it runs; the init has a session of its own
            life.wait()
        there("delete", "--force", "a")
        assert left_of(systemd) == "", (seed, number)


USERS_JOB = """\
export USER=ordinary
run() {{ unshare --user --map-root-user --mount {python} {folder}/runtime --root {root} "$@"; }}
cd {folder}/bundle
run --systemd-cgroup create --pid-file {root}.pid a
systemctl --user show ours-a.scope -p Slice,MemoryMax,ActiveState
grep -c user.service.*/user.slice/ours-a.scope /proc/$(cat {root}.pid)/cgroup
run start a
run delete --force a
systemctl --user list-units --all --no-legend "ours-*"
find /sys/fs/cgroup -name "ours-*"
ls {root}
"""


def test_a_users_own_systemd(systemd, executable, rootfs, in_slice):
    shutil.copytree(rootfs, systemd.folder / "rootfs", symlinks=True)
    shutil.chown(systemd.folder / "rootfs", systemdhost.ordinary_user())
    # What has no limits also has no trees of v1, of which a user has none.
    resources = {} if systemd.has_v1 else {"memory": {"limit": 64 * MIB}}
    source = in_slice("exec sleep 1000", ":ours:a", resources=resources)
    config = json.loads((source / "config.json").read_bytes())
    config["root"]["path"] = str(systemd.folder / "rootfs")
    config["mounts"] = [m for m in config["mounts"] if m["type"] in ("proc", "tmpfs")]
    (systemd.folder / "bundle").mkdir()
    (systemd.folder / "bundle/config.json").write_text(json.dumps(config))
    shutil.copy(executable, systemd.folder / "runtime")
    names = {"folder": systemd.folder, "python": sys.executable, "root": "/run/user/oci"}
    said = systemd.as_user(USERS_JOB.format(**names))
    limit = "infinity" if systemd.has_v1 else str(64 * MIB)
    trees = 2 if systemd.has_v1 else 1  # name=systemd, and v2's
    lines = ["Slice=user.slice", f"MemoryMax={limit}", "ActiveState=active", str(trees)]
    assert sorted(said.splitlines()) == sorted(lines), said


def test_podman_with_its_usual_manager(systemd, peers, executable, rootfs, tmp_path):
    tar = tmp_path / "busybox.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
    run = peers("podman", prefix=systemd.prefix)

    def podman(*words: str) -> str:
        return run("--cgroup-manager", "systemd", "--runtime", str(executable), *words)

    podman("import", str(tar), "busybox:test")
    options = ("-d", "--network", "none", "--memory", "64m", "--name", "c")
    name = podman("run", *options, "busybox:test", "sleep", "1000").strip()
    unit = f"libpod-{name}.scope"
    expected = {"Slice": "machine.slice", "MemoryMax": str(64 * MIB)}
    assert systemd.show(unit, *expected) == expected
    assert unit in podman("exec", "c", "cat", "/proc/self/cgroup") or not systemd.has_v1
    podman("pause", "c")
    podman("unpause", "c")
    podman("rm", "--force", "--time", "0", "c")
    assert systemd.units(unit) == ""
