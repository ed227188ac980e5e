"""What is known before a user namespace is made: ids, programs, and why it cannot be better."""

import errno
from pathlib import Path

import pytest

from runtime.linux import constants as c
from runtime.rootfs import mount_of, mount_plan
from runtime.rootless.mode import Mode, Reason
from runtime.rootless.obstacles import no_ranges, why_no_namespace
from runtime.rootless.plans import adapt, with_shared_processes
from runtime.rootless.procfs import hidden_places
from runtime.rootless.subordinate import map_arguments, program, ranges
from store.manner import Manner

SUBUID = """\
root:1:2
me:100000:65536
1000:300000:10
other:5:5
me:x:7
me:9:0
broken
"""


def test_the_lines_of_a_user_are_those_of_his_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(SUBUID)
    found = ranges(str(tmp_path / "subuid"), ("me", "1000"))
    assert found == [(100000, 65536), (300000, 10)]
    assert ranges(str(tmp_path / "none"), ("me",)) == []
    words = map_arguments(1000, found)
    assert " ".join(words) == "0 1000 1 1 100000 65536 65537 300000 10"


def test_programs_are_found_where_they_are(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "newxidmap").write_text("")
    monkeypatch.setenv("PATH", f"bin:{tmp_path}")
    assert program("newxidmap") == ""  # not executable
    (tmp_path / "newxidmap").chmod(0o755)
    assert program("newxidmap") == f"{tmp_path}/newxidmap"


def test_reasons_say_what_would_help() -> None:
    said = str(no_ranges(["/etc/subgid"], "me"))
    assert said == "no line for me in /etc/subgid (as root: usermod --add-subgids 100000-165535 me)"
    assert str(Reason("so it is")) == "so it is"
    assert "several threads" in str(why_no_namespace(OSError(errno.EINVAL, "Invalid argument")))


@pytest.mark.parametrize(("kind", "may"), [("root", True), ("single", True), ("chroot", False)])
def test_what_a_mode_allows(kind, may: bool) -> None:
    assert Mode(kind).may_mount == may


def test_what_a_proc_hides() -> None:
    lines = ["1 0 0:5 / /proc rw - proc proc rw"]
    lines += [f"2 1 0:6 / /proc/{name} rw - tmpfs x rw" for name in ("keys", "acpi")]
    lines += ["3 1 0:7 / /proc/sys/fs/binfmt_misc rw - autofs x rw", "4 0 0:8 / /procs rw - x x rw"]
    assert hidden_places("\n".join(lines)) == ["/proc/acpi", "/proc/keys"]


def plan_with(options: list[str], namespaces: int) -> dict[str, object]:
    sys = mount_of({"destination": "/sys", "type": "sysfs", "options": ["ro", "nosuid"]})
    pts = mount_of({"destination": "/dev/pts", "type": "devpts", "options": options})
    return {
        "namespaces": namespaces,
        "join": [],
        "mounts": [sys, pts, mount_plan("bind", "/x")],
        "devices": [],
        "cgroup": {"parent": "/chosen"},
        "bind_devices": False,
    }


def test_a_plan_takes_what_root_of_a_namespace_may_do() -> None:
    single = Manner("user", False, ((0, 1000, 1),), ((0, 1000, 1),))
    shared = plan_with(["gid=5", "mode=0620"], c.CLONE_NEWNS)
    adapt(shared, single)
    sys, pts, bind = shared["mounts"]
    assert (sys["kind"], sys["source"], sys["recursive"]) == ("bind", "/sys", True)
    assert sys["below"][0] & c.MOUNT_ATTR_RDONLY
    assert pts["options"] == [("mode", "0620")]
    assert bind == mount_plan("bind", "/x")
    assert shared["bind_devices"]
    assert shared["cgroup"] == {"parent": "/chosen"}
    many = Manner("user", True, ((0, 1000, 1), (1, 9, 9)), ((0, 1000, 1), (1, 9, 9)))
    own = plan_with(["gid=5"], c.CLONE_NEWNS | c.CLONE_NEWNET)
    adapt(own, many)
    assert [mount["type"] for mount in own["mounts"]] == ["sysfs", "devpts", ""]
    assert own["mounts"][1]["options"] == [("gid", "5")]


def test_a_plan_without_a_proc_of_its_own() -> None:
    plan = plan_with([], c.CLONE_NEWNS | c.CLONE_NEWPID)
    plan["mounts"].append(mount_of({"destination": "/proc", "type": "proc", "options": ["noexec"]}))
    with_shared_processes(plan)
    assert (plan["namespaces"], plan["shares_processes"]) == (c.CLONE_NEWNS, True)
    shown = {mount["target"]: mount for mount in plan["mounts"] if mount["recursive"]}
    assert {mount["source"] for mount in shown.values()} == {"/proc", "/sys"} == set(shown)
    for mount in shown.values():
        assert mount["below"][0] & c.MOUNT_ATTR_RDONLY
