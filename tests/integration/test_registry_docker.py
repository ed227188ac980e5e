"""docker, its daemon and we, by way of one registry: what one pushes the other runs.

The daemon lives in a network namespace of its own. A second docker-registry there shares the first
one's folder.
"""

import hashlib
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that both registries have."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def host(tool, folder: Path) -> Iterator[str]:
    """Return where a registry listens."""
    tool("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
    process = serve(folder, host)
    wait_for(lambda: listens(host), "docker-registry")
    yield host
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def docker(tool, folder: Path, host: str) -> Iterator[Docker]:
    """Return docker; `host` is the same registry for its daemon."""
    with running_docker(tool) as docker:
        inside = ["nsenter", f"--net=/proc/{docker.pid}/ns/net"]
        registry = serve(folder, host, *inside)
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


def test_docker_podman_and_skopeo_load_every_form(
    pybuild, busybox_image, context, docker, tmp_path, peers
) -> None:
    """What `--output` writes as an archive, and `save`, docker, podman and skopeo all read."""
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN echo made > /made && rm /etc/group\nCMD cat /made\n"
    )
    forced = "force-compression=true,compression"
    forms = {
        "docker": "type=docker",
        "docker-zstd": f"type=docker,{forced}=zstd",
        "oci": "type=oci",
        "oci-plain": f"type=oci,{forced}=uncompressed",
        "oci-zstd": f"type=oci,{forced}=zstd",
    }
    pybuild("-t", "made:1", context)
    image_id = pybuild("inspect", "-f", "{{.Id}}", "made:1").stdout.strip()
    for name, output in forms.items():
        archive = tmp_path / f"{name}.tar"
        pybuild("-t", f"{name}:1", "-o", f"{output},dest={archive}", context)
    archive = tmp_path / "saved.tar"
    pybuild("tag", "made:1", "saved:1")
    pybuild("save", "-o", archive, "saved:1")
    for name in (*forms, "saved"):
        archive = tmp_path / f"{name}.tar"
        transport = "oci-archive" if name.startswith("oci") else "docker-archive"
        config = peers("skopeo")("inspect", "--config", "--raw", f"{transport}:{archive}")
        assert f"sha256:{hashlib.sha256(config.encode()).hexdigest()}" == image_id, name
        podman = peers("podman")
        assert f"{name}:1" in podman("load", "-i", archive), name
        # A daemon with its images in graph drivers reads docker's archives only.
        if transport == "docker-archive":
            assert f"{name}:1" in docker("load", "-i", str(archive)), name
            assert docker("run", "--rm", "--network", "none", f"{name}:1") == "made\n", name
    assert podman("run", "--rm", "--network=none", "oci-zstd:1") == "made\n"
