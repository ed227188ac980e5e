"""podman runs its containers on our runtime."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture
def podman(peers, executable, rootfs, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs podman with our runtime and an image of busybox."""
    run = peers("podman")
    tar = tmp_path / "busybox.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
    run("import", tar, "busybox:test")

    def call(*words: str, fails: int | None = None) -> str:
        return run("--runtime", str(executable), *words, fails=fails)

    return call


RUN = ("run", "--network", "none")


def test_podman(podman):
    assert podman(*RUN, "--rm", "busybox:test", "sh", "-c", "id -u; hostname > /dev/null") == "0\n"
    podman(*RUN, "--rm", "busybox:test", "sh", "-c", "exit 9", fails=9)
    assert "not found" in podman(*RUN, "--rm", "busybox:test", "nosuch", fails=127)
    podman(*RUN, "--rm", "busybox:test", "/etc/passwd", fails=126)
    podman(*RUN, "-d", "--name", "c", "busybox:test", "sh", "-c", "echo hello; exec sleep 1000")
    assert podman("exec", "c", "sh", "-c", "echo $$ in $0").endswith(" in sh\n")
    podman("exec", "c", "sh", "-c", "exit 5", fails=5)
    podman("exec", "c", "nosuch", fails=127)
    podman("exec", "c", "/etc", fails=126)
    assert podman("exec", "-t", "c", "tty") == "/dev/pts/0\n"
    assert podman("logs", "c") == "hello\n"
    assert "sleep 1000" in podman("top", "c")
    podman("pause", "c")
    assert podman("inspect", "--format", "{{.State.Status}}", "c") == "paused\n"
    podman("unpause", "c")
    podman("kill", "c")
    assert podman("wait", "c") == "137\n"
    podman("start", "c")
    podman("stop", "-t", "0", "c")
    assert podman("inspect", "--format", "{{.State.Status}}", "c") == "exited\n"
    podman("rm", "c")
    assert podman("ps", "-aq") == ""


def test_podmans_options(podman):
    options = ("--memory", "64m", "--pids-limit", "50", "--cap-drop", "all", "--cap-add", "kill")
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; grep CapBnd /proc/self/status"
    out = podman(
        *RUN,
        "--rm",
        *options,
        "--read-only",
        "--user",
        "5:6",
        "busybox:test",
        "sh",
        "-c",
        f"{script}; id -u; (: > /x) 2>/dev/null || echo read-only",
    )
    assert out == f"{64 << 20}\nCapBnd:\t0000000000000020\n5\nread-only\n"
    out = podman(
        *RUN,
        "--rm",
        "--uidmap",
        "0:100000:65536",
        "busybox:test",
        "sh",
        "-c",
        "tr -s ' ' < /proc/self/uid_map; id -u; echo > /dev/null",
    )
    assert out == " 0 100000 65536\n0\n"
    assert podman(
        *RUN, "--rm", "--privileged", "busybox:test", "grep", "CapBnd", "/proc/self/status"
    )
    assert podman(*RUN, "--rm", "-t", "busybox:test", "tty") == "/dev/pts/0\n"
