"""dockerd runs its containers on our runtime (--add-runtime), as it does on runc."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

START_S = 60
# In namespaces of its own, where it can neither delete another docker's bridge nor touch its rules.
DAEMON = """\
ip link set lo up
umount /sys/fs/cgroup/unified 2>/dev/null
exec "$@" --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" --host "unix://$0/socket"
"""


@pytest.fixture
def docker(tool, executable: Path, rootfs: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that runs docker's client; the daemon has our runtime as `ours`."""
    dockerd = tool("dockerd")
    # The first docker on PATH may be a newer client.
    client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else tool("docker")
    folder = Path(tempfile.mkdtemp(prefix="docker-"))  # a socket's path has to be short
    own = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", DAEMON]
    words = [*own, str(folder), dockerd, "--add-runtime", f"ours={executable}"]
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log)

    def call(*words: str, fails: int | None = None) -> str:
        done = subprocess.run(
            [client, "--host", f"unix://{folder}/socket", *words],
            env={**os.environ, "DOCKER_CONFIG": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != (fails or 0):
            pytest.fail(f"docker {words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stderr if fails else done.stdout

    try:
        deadline = time.monotonic() + START_S
        while not (folder / "socket").exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dockerd does not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        tar = tmp_path / "busybox.tar"
        subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
        call("import", str(tar), "busybox:test")
        yield call
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


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
