"""From a Spec to the launcher's plan."""

import marshal
from dataclasses import replace

import pytest

from runtime import defaults
from runtime.cgroups import cgroup_plan
from runtime.errors import InvalidSpec
from runtime.execution import Bind, Execution, FileMount, Tmpfs, spec_of
from runtime.executor import plan_of
from runtime.linux import constants as c
from runtime.planning import launch_plan
from runtime.rootfs import mount_of, root_plan
from store.mount import OverlayMount

MOUNT = OverlayMount("/store", ("l/2", "l/1"), "s/fs", "s/work", "stubs")
EXECUTION = Execution(MOUNT, ("true",))


def test_a_plan_crosses_by_marshal():
    plan = plan_of(EXECUTION)
    assert marshal.loads(marshal.dumps(plan)) == plan


def test_root():
    plan = root_plan(MOUNT, read_only=True)
    assert plan["lowers"] == ["l/2", "l/1", "stubs"]
    assert (plan["upper"], plan["work"], plan["read_only"]) == ("s/fs", "s/work", True)
    with pytest.raises(InvalidSpec):
        root_plan(OverlayMount("/store", ()))


@pytest.mark.parametrize(
    ("options", "attributes", "clear"),
    [
        ([], 0, 0),
        (["ro", "nosuid"], c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID, 0),
        (["ro", "rw"], 0, c.MOUNT_ATTR_RDONLY),
        (["strictatime"], c.MOUNT_ATTR_STRICTATIME, 0x70),
        (["noatime"], c.MOUNT_ATTR_NOATIME, 0x70),
    ],
)
def test_mount_attributes(options, attributes, clear):
    plan = mount_of({"destination": "/x", "type": "tmpfs", "options": options})
    assert (plan["attributes"], plan["clear"]) == (attributes, clear)


def test_mount_data_options_are_the_file_systems_own():
    plan = mount_of(
        {"destination": "/x", "type": "tmpfs", "options": ["nosuid", "mode=755", "noswap"]}
    )
    assert plan["kind"] == "new"
    assert plan["options"] == [("mode", "755"), ("noswap", None)]


def test_binds():
    plan = mount_of({"destination": "/x", "source": "/y", "options": ["rbind", "ro", "rslave"]})
    assert (plan["kind"], plan["source"], plan["recursive"]) == ("bind", "/y", True)
    assert plan["attributes"] == c.MOUNT_ATTR_RDONLY
    assert plan["propagation"] == c.MS_SLAVE | c.MS_REC
    plan = mount_of({"destination": "/x", "source": "/y", "options": ["bind", "noatime"]})
    # mount_setattr refuses a new atime policy unless the whole field is cleared.
    assert plan["clear"] & 0x70 == 0x70
    assert not plan["recursive"]


def test_namespaces():
    host, none = plan_of(EXECUTION), plan_of(replace(EXECUTION, network="none"))
    assert not host["namespaces"] & c.CLONE_NEWNET
    assert none["namespaces"] & c.CLONE_NEWNET
    assert none["loopback_up"]
    assert not host["loopback_up"]
    for plan in (host, none):
        # The cgroup namespace is made late: its root is where the process is by then.
        assert plan["late_namespaces"] == c.CLONE_NEWCGROUP
        wanted = c.CLONE_NEWNS | c.CLONE_NEWPID | c.CLONE_NEWIPC | c.CLONE_NEWUTS
        assert plan["namespaces"] & wanted == wanted
    joined = plan_of(replace(EXECUTION, network_namespace="/run/netns/x"))
    assert joined["join"] == [("/run/netns/x", c.CLONE_NEWNET)]


def test_own_mounts_come_last_and_by_depth():
    binds = (
        FileMount("/a/b/c", b"x"),
        Tmpfs("/a/b", 4096),
        Bind("/host", "/a", read_only=True),
        Bind(MOUNT, "/view", subpath="etc"),
    )
    plan = plan_of(replace(EXECUTION, binds=binds))
    targets = [mount["target"] for mount in plan["mounts"]]
    assert targets[: len(defaults.mounts())] == [m["destination"] for m in defaults.mounts()]
    assert targets[-6:] == ["/a", "/view", "/etc/resolv.conf", "/etc/hosts", "/a/b", "/a/b/c"]
    kinds = {m["target"]: m["kind"] for m in plan["mounts"]}
    assert (kinds["/a"], kinds["/a/b"], kinds["/a/b/c"], kinds["/view"]) == (
        *("bind", "new", "file", "overlay"),
    )


@pytest.mark.parametrize("target", ["", "/", "relative", "/."])
def test_bad_targets(target):
    with pytest.raises(InvalidSpec, match="target"):
        plan_of(replace(EXECUTION, binds=(Tmpfs(target),)))


def test_capabilities():
    plan = plan_of(EXECUTION)["capabilities"]
    assert plan["bounding"] == plan["effective"] == plan["permitted"] == 0xA80425FB
    assert plan["inheritable"] == plan["ambient"] == 0
    with pytest.raises(InvalidSpec, match="CAP_FLY"):
        plan_of(replace(EXECUTION, seccomp=False, capabilities=("CAP_FLY",)))


def test_privileged_drops_every_fence():
    plan = plan_of(replace(EXECUTION, privileged=True))
    assert plan["masked"] == plan["read_only_paths"] == []
    assert plan["seccomp"] == b""
    assert plan["cgroup"]["device_program"] == b""
    assert plan["capabilities"]["bounding"] == (1 << 41) - 1
    sysfs = next(m for m in plan["mounts"] if m["target"] == "/sys")
    assert not sysfs["attributes"] & c.MOUNT_ATTR_RDONLY


def test_device_rules():
    plan = cgroup_plan(spec_of(EXECUTION), "name")
    files = [file for file, _ in plan["v1_devices"]]
    assert files == ["devices.deny"] * 2 + ["devices.allow"] * (len(files) - 2)
    rules = [rule for _, rule in plan["v1_devices"]]
    assert rules[:5] == ["a", "a *:* rwm", "c *:* m", "b *:* m", "c 1:3 rwm"]
    assert "c 136:* rwm" in rules
    assert plan["device_program"]
    assert not plan["required"]


def test_limits_are_required():
    limited = replace(EXECUTION, resources={"memory": {"limit": 1 << 20}})
    plan = cgroup_plan(spec_of(limited), "name")
    assert plan["required"]
    assert plan["v2"] == [("memory.max", "1048576")]
    assert plan["v1"] == [("memory", "memory.limit_in_bytes", "1048576")]


def test_rlimits():
    limits = ({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},)
    assert plan_of(replace(EXECUTION, limits=limits))["limits"] == [(7, 1, 2)]
    with pytest.raises(InvalidSpec, match="RLIMIT_X"):
        plan_of(replace(EXECUTION, limits=({"type": "RLIMIT_X", "soft": 1, "hard": 2},)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"args": ()}, "no command"),
        ({"cwd": "relative"}, "not absolute"),
    ],
)
def test_what_cannot_be_run(change, words):
    with pytest.raises(InvalidSpec, match=words):
        plan_of(replace(EXECUTION, **change))


def test_unknown_namespaces_are_refused():
    spec = spec_of(EXECUTION)
    spec["linux"]["namespaces"].append({"type": "space"})
    with pytest.raises(InvalidSpec, match="space namespace"):
        launch_plan(spec, root_plan(MOUNT), name="x")


def test_a_label_of_selinux_is_a_mount_option() -> None:
    def options(**mount: object) -> list[tuple[str, str | None]]:
        return mount_of({"destination": "/x", **mount}, None, "u:r:t:s0")["options"]  # type: ignore[typeddict-item]

    assert options(type="tmpfs", options=["mode=755"]) == [("mode", "755"), ("context", "u:r:t:s0")]
    for untouched in ({"type": "proc"}, {"type": "sysfs"}, {"type": "bind", "source": "/"}):
        assert options(**untouched) == []
