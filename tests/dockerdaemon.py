"""Debian's dockerd as a process of a test.

It lives in namespaces of its own, where it can neither delete another docker's bridge nor touch its
rules.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 60
# crun's and runc's trouble with cgroup v1 beside v2 is docker's too.
SCRIPT = """\
ip link set lo up
umount /sys/fs/cgroup/unified 2>/dev/null
exec "$@" --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" --host "unix://$0/socket"
"""


@dataclass(frozen=True)
class Docker:
    """A daemon and its client. folder: the daemon's state."""

    client: str
    folder: Path
    pid: int

    def __call__(self, *words: str, fails: int | None = None) -> str:
        """Run the client and return its stdout; its stderr where it has to fail with `fails`."""
        done = subprocess.run(
            [self.client, "--host", f"unix://{self.folder}/socket", *words],
            env={**os.environ, "DOCKER_CONFIG": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != (fails or 0):
            pytest.fail(f"docker {words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stderr if fails else done.stdout


@contextmanager
def running_docker(tool: Callable[[str], str], *options: str) -> Iterator[Docker]:
    """Start dockerd with `options`, and end it."""
    dockerd = tool("dockerd")
    # The first docker on PATH may be a newer client.
    client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else tool("docker")
    folder = Path(tempfile.mkdtemp(prefix="docker-"))  # a socket's path has to be short
    own = ["unshare", "--net", "--mount", "--propagation", "private"]
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            [*own, "sh", "-c", SCRIPT, str(folder), dockerd, *options], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(folder / "socket"):
            if daemon.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dockerd does not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield Docker(client, folder, daemon.pid)
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(path: Path) -> bool:
    """Tell whether a server takes connections on a socket: its file is there a little earlier."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(path))
        except OSError:
            return False
    return True
