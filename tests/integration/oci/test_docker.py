"""dockerd runs its containers on our runtime (--add-runtime), as it does on runc."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerdaemon import Docker, running_docker

pytestmark = pytest.mark.kernel


@pytest.fixture
def docker(tool, executable: Path, rootfs: Path, tmp_path: Path) -> Iterator[Docker]:
    """Return docker; its daemon has our runtime as `ours`, and an image busybox:test."""
    with running_docker(tool, "--add-runtime", f"ours={executable}") as docker:
        tar = tmp_path / "busybox.tar"
        subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
        docker("import", str(tar), "busybox:test")
        yield docker


RUN = ("run", "--runtime", "ours", "--network", "none")


def test_docker(docker):
    assert docker(*RUN, "--rm", "busybox:test", "id", "-u") == "0\n"
    docker(*RUN, "--rm", "busybox:test", "sh", "-c", "exit 9", fails=9)
    assert "executable file not found" in docker(*RUN, "--rm", "busybox:test", "nosuch", fails=127)
    docker(*RUN, "--rm", "busybox:test", "/etc", fails=126)
    docker(*RUN, "-d", "--name", "box", "busybox:test", "sh", "-c", "echo hello; exec sleep 1000")
    docker("exec", "box", "sh", "-c", "exit 5", fails=5)
    assert docker("exec", "-e", "A=b", "-u", "7", "box", "sh", "-c", "id -u; echo $A") == "7\nb\n"
    assert docker("logs", "box") == "hello\n"
    assert "sleep 1000" in docker("top", "box")
    docker("pause", "box")
    assert docker("inspect", "--format", "{{.State.Status}}", "box") == "paused\n"
    docker("unpause", "box")
    docker("update", "--memory", "50m", "--memory-swap", "60m", "box")
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert docker("exec", "box", "sh", "-c", limit) == f"{50 << 20}\n"
    docker("kill", "box")
    assert docker("wait", "box") == "137\n"
    docker("start", "box")
    docker("stop", "--time", "0", "box")
    assert docker("inspect", "--format", "{{.State.ExitCode}}", "box") == "137\n"
    docker("rm", "box")
    assert docker(*RUN, "--rm", "-t", "busybox:test", "tty") == "/dev/pts/0\n"


PROBE = r"""
id; umask; ulimit -n; grep -e ^Cap -e NoNew -e Seccomp: /proc/self/status; hostname | wc -c
ls -la /dev | awk '{print $1, $3, $4, $5, $6, $NF}' | grep -v '^total'
awk '$2 != "/" && $2 !~ "^/etc/" && $2 != "/sys/fs/cgroup" {print $2, $3, $4}' /proc/mounts \
  | sed 's/lowerdir.*//; s/,size=4k,nr_inodes=1$//' | sort
for p in /proc/kcore /proc/keys /proc/timer_list /sys/firmware; do ls $p | wc -l; wc -c < $p; done
for p in /proc/sys/kernel/x /proc/sysrq-trigger /sys/x; do (: > $p) || echo $p; done
sed 's/.*://; s/[0-9a-f]\{64\}/ID/' /proc/self/cgroup; env | grep -v HOSTNAME | sort
"""


OPTIONS = (
    [],
    ["--cap-add", "NET_ADMIN", "--cap-drop", "KILL"],
    ["--user", "5:6", "--read-only"],
    ["--ipc", "host"],
)


def test_the_same_as_on_runc(docker):
    for options in (
        [],
        ["--cap-add", "NET_ADMIN", "--cap-drop", "KILL"],
        ["--user", "5:6", "--read-only"],
        ["--ipc", "host"],
    ):
        words = ["run", "--rm", "--network", "none", *options, "--runtime"]
        seen = [
            docker(*words, runtime, "busybox:test", "sh", "-c", f"({PROBE}) 2>&1")
            for runtime in ("ours", "runc")
        ]
        theirs = set(seen[1].splitlines())
        ours = set(seen[0].splitlines())
        assert (sorted(ours - theirs), sorted(theirs - ours)) == ([], []), options
