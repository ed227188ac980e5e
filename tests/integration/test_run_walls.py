"""`run`'s options about rights and limits: each moves what it names, and nothing else."""

import grp
import os
import stat

import pytest

pytestmark = pytest.mark.kernel

STATUS = "grep -e ^CapBnd -e ^NoNew -e ^Seccomp: /proc/self/status"
DOCKER = 0xA80425FB  # docker's capabilities


@pytest.fixture
def run(pybuild, busybox_image):
    def call(*options: str, script: str, **more):
        return pybuild(
            "run", "--rm", "--network", "none", *options, busybox_image, "sh", "-c", script, **more
        )

    return call


def rights(out: str) -> tuple[int, int, int]:
    """Return (capabilities, no new privileges, seccomp mode)."""
    rows = dict(line.split(":\t") for line in out.splitlines())
    return int(rows["CapBnd"], 16), int(rows["NoNewPrivs"]), int(rows["Seccomp"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (DOCKER, 0, 2)),
        (["--cap-add", "SYS_TIME"], (DOCKER | 1 << 25, 0, 2)),
        (["--cap-add", "cap_sys_time", "--cap-drop", "CHOWN"], (DOCKER & ~1 | 1 << 25, 0, 2)),
        (["--cap-drop", "ALL"], (0, 0, 2)),
        (["--cap-drop", "all", "--cap-add", "kill"], (1 << 5, 0, 2)),
        (["--security-opt", "no-new-privileges"], (DOCKER, 1, 2)),
        (["--security-opt", "seccomp=unconfined"], (DOCKER, 0, 0)),
    ],
)
def test_rights(run, options, expected):
    assert rights(run(*options, script=STATUS).stdout) == expected


def test_privileged(run):
    capabilities, _, seccomp = rights(run("--privileged", script=STATUS).stdout)
    assert capabilities >> 21 & 1
    assert seccomp == 0
    out = run("--privileged", script="mount -t tmpfs x /tmp && echo mounted; ls /dev/loop0").stdout
    assert out == "mounted\n/dev/loop0\n"


def test_cap_add_opens_what_it_names(run):
    script = (
        "hostname x 2>/dev/null && echo named; mount -t tmpfs x /tmp 2>/dev/null && echo mounted"
    )
    assert run(script=script, check=False).stdout == ""
    assert run("--cap-add", "SYS_ADMIN", script=script).stdout == "named\nmounted\n"


def test_a_device(run):
    script = (
        "(: < /dev/disk) 2>/dev/null && echo read; (: >> /dev/disk) 2>/dev/null && echo written"
    )
    assert run(script=f"mknod /dev/disk b 7 0; {script}", check=False).stdout == ""
    assert run("--device", "/dev/loop0:/dev/disk:r", script=script, check=False).stdout == "read\n"
    assert run("--device", "/dev/loop0:/dev/disk", script=script).stdout == "read\nwritten\n"


@pytest.mark.parametrize("target", ["/dev", "//x/../dev/"])
def test_a_folder_as_dev_stays_as_it_is(run, tmp_path, target):
    """Nothing is made in what is the host's: no device node, no link, no other /dev/ptmx."""
    for name, minor in (("null", 3), ("zero", 5), ("ptmx", 9)):
        os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    names = sorted(os.listdir(tmp_path))
    assert run("-v", f"{tmp_path}:{target}", script="ls /dev").stdout.split() == names
    assert sorted(os.listdir(tmp_path)) == names
    assert stat.S_ISCHR((tmp_path / "ptmx").lstat().st_mode)


def test_limits(run):
    script = (
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes"
    )
    script += " pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus"
    options = [
        "-m",
        "64m",
        "--pids-limit",
        "40",
        "--cpus",
        "0.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
    ]
    out = run(*options, script=script).stdout
    assert out.split() == [str(64 << 20), str(128 << 20), "40", "50000", "512", "0"]


def test_the_rest(run):
    options = ["--tmpfs", "/scratch:size=1m,mode=700", "--ulimit", "nofile=100:200"]
    options += ["--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--shm-size", "2m"]
    options += ["--group-add", "29", "--oom-score-adj", "300"]
    script = "grep ' /scratch ' /proc/mounts | cut -d' ' -f3,4; ulimit -Sn; ulimit -Hn"
    script += "; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj"
    script += "; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; id -G"
    assert run(*options, script=script).stdout.splitlines() == [
        "tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700",
        *("100", "200", "7", "300", "2048", "0 29"),
    ]


def test_a_group_by_its_name(run):
    assert run("--group-add", "www-data", script="id -G", check=False).returncode == 125
    options = ["-v", "/etc/group:/etc/group:ro", "--group-add", "adm", "--group-add", "5"]
    adm = str(grp.getgrnam("adm").gr_gid)
    assert run(*options, script="id -G").stdout.split() == sorted(["0", adm, "5"], key=int)


def test_system_paths(run):
    script = "(: >> /proc/sys/kernel/core_pattern) 2>/dev/null && echo open || echo closed"
    assert run(script=script).stdout == "closed\n"
    assert run("--security-opt", "systempaths=unconfined", script=script).stdout == "open\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cap-add", "MAGIC"], "unknown capability 'MAGIC'"),
        (["--memory", "lots"], '--memory: "lots" is no size'),
        (["--memory", "20m", "--memory-swap", "10m"], "should be larger than memory limit"),
        (["--memory-swap", "10m"], "always set the Memory limit when using Memoryswap"),
        (["-m", "8m", "--memory-reservation", "9m"], "less than memory reservation limit"),
        (["--device", "/nowhere"], "device /nowhere: no such file or directory"),
        (["--device", "/etc/passwd"], "device /etc/passwd: is no device node"),
        (["--ulimit", "luck=1"], "rlimits: unknown limit RLIMIT_LUCK"),
        (["--ulimit", "nofile=5:3"], "--ulimit: nofile: the soft limit 5 is above the hard 3"),
        (["--security-opt", "magic"], '--security-opt: "magic" is unknown'),
        (["--security-opt", "apparmor=mine"], "apparmor=mine: AppArmor is not enabled on this"),
        (["--security-opt", "label=type:mine"], "not supported yet"),
        (["--tmpfs", "relative"], '--tmpfs: "relative" is no absolute path'),
        (["--cpus", "x"], '--cpus: "x" is no number of CPUs'),
    ],
)
def test_wrong_options(run, options, said):
    done = run(*options, script="true", check=False)
    assert done.returncode in (2, 125)
    assert said in done.stderr
