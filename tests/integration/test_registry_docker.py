"""docker, its daemon and we, by way of one registry: what one pushes the other runs.

The daemon lives in a network namespace of its own. A second docker-registry there shares the first
one's folder.
"""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dockerdaemon import Docker, running_docker

pytestmark = pytest.mark.kernel

START_S = 60


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
def docker(tool, tmp_path: Path, host: str) -> Iterator[Docker]:
    """Return docker; `host` is the same registry for its daemon."""
    with running_docker(tool) as docker:
        inside = ["nsenter", f"--net=/proc/{docker.pid}/ns/net"]
        registry = serve(tmp_path / "registry", host, *inside)
        try:
            yield docker
        finally:
            registry.terminate()
            registry.wait()


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
