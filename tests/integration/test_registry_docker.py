"""docker, its daemon and we, by way of one registry: what one pushes the other runs.

The daemon lives in a network namespace of its own, where it can neither delete the bridge of a
docker that is installed nor touch its rules. A second docker-registry there shares the first one's
folder.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

START_S = 60
# crun's and runc's trouble with cgroup v1 beside v2 is docker's too.
DAEMON = """\
ip link set lo up
umount /sys/fs/cgroup/unified 2>/dev/null
exec "$@" --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" --host "unix://$0/socket"
"""


def serve(folder: Path, host: str, *prefix: str) -> subprocess.Popen[bytes]:
    """Start a docker-registry on `folder`."""
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    http = {"addr": host, "secret": "x"}
    config = {"version": 0.1, "storage": storage, "http": http, "log": {"level": "error"}}
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [*prefix, "docker-registry", "serve", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(what: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_S
    while not what():
        if time.monotonic() > deadline:
            pytest.fail(f"{name} does not start")
        time.sleep(0.05)


def listens(host: str) -> bool:
    name, _, port = host.partition(":")
    try:
        socket.create_connection((name, int(port)), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def host(tool, tmp_path: Path) -> Iterator[str]:
    """Return where a registry listens."""
    tool("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
    (tmp_path / "registry").mkdir()
    process = serve(tmp_path / "registry", host)
    wait_for(lambda: listens(host), "docker-registry")
    yield host
    process.terminate()
    process.wait()


@pytest.fixture
def docker(tool, tmp_path: Path, host: str) -> Iterator[Callable[..., str]]:
    """Return a function that runs docker's client; `host` is the same registry for its daemon."""
    dockerd = tool("dockerd")
    # The first docker on PATH may be a newer client.
    client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else tool("docker")
    folder = tmp_path / "docker"
    folder.mkdir()
    own = ["unshare", "--net", "--mount", "--propagation", "private"]
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            [*own, "sh", "-c", DAEMON, str(folder), dockerd], stdout=log, stderr=log
        )

    def call(*words: str) -> str:
        done = subprocess.run(
            [client, "--host", f"unix://{folder}/socket", *words],
            env={**os.environ, "DOCKER_CONFIG": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"docker {words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    try:
        wait_for(lambda: (folder / "socket").exists() or daemon.poll() is not None, "dockerd")
        if daemon.poll() is not None:
            pytest.fail(f"dockerd does not start:\n{(folder / 'log').read_text()[-2000:]}")
        inside = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net"]
        registry = serve(tmp_path / "registry", host, *inside)
        try:
            yield call
        finally:
            registry.terminate()
            registry.wait()
    finally:
        daemon.terminate()
        daemon.wait()


def test_docker_and_we(pybuild, busybox_image, context, host, docker) -> None:
    ours, theirs, again = (f"{host}/{name}:1" for name in ("ours", "theirs", "again"))
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN echo ours > /made && rm /etc/group\nCMD cat /made\n"
    )
    pybuild("build", "--push", "-t", ours, context)
    assert docker("run", "--rm", "--network", "none", ours) == "ours\n"
    gone = docker("run", "--rm", "--network", "none", ours, "sh", "-c", "ls /etc/group || true")
    assert gone == ""

    container = docker("create", "--network", "none", ours, "sh", "-c", "echo theirs > /made")
    docker("start", "--attach", container.strip())
    docker("commit", "--change", "CMD cat /made", container.strip(), theirs)
    docker("push", "-q", theirs)
    assert pybuild("run", "--rm", theirs).stdout == "theirs\n"
    pybuild("tag", theirs, again)
    pybuild("push", again)
    assert docker("run", "--rm", "--network", "none", again) == "theirs\n"
    # Both names mean the same manifest: it came back byte for byte.
    names = json.loads(docker("image", "inspect", "-f", "{{json .RepoDigests}}", theirs))
    assert len(names) == 2
    assert len({name.partition("@")[2] for name in names}) == 1
    pybuild("system", "check", "--deep")
