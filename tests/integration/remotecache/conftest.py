"""Machines that share a cache: stores of their own, one registry that counts what it gives."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from debianregistry import free_port, wait_until_listening
from fakeregistry import FakeRegistry, serve


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    yield from serve()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """Return the options of a cache in an empty bucket of a server that speaks S3."""
    pytest.importorskip("moto")
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(tmp_path / "moto.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_listening(f"127.0.0.1:{port}", server, tmp_path / "moto.log")
        address = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="cache")
        yield (
            f"bucket=cache,region=us-east-1,endpoint_url={address},use_path_style=true,"
            "access_key_id=a,secret_access_key=b"
        )
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def machine(pybuild, busybox_rootfs: Path, tmp_path: Path) -> Callable[..., object]:
    """Return a function: machine("a") runs pybuild on a store of its own that has busybox."""
    made: dict[str, object] = {}
    archive = tmp_path / "busybox.tar"
    pybuild("import", busybox_rootfs, "busybox:test")
    pybuild("save", "-o", archive, "busybox:test")

    def get(name: str, *, has_base: bool = True):
        if name not in made:
            root = tmp_path / f"store-{name}"
            made[name] = type(pybuild)(root, {"HOME": str(tmp_path / f"home-{name}")})
            if has_base:
                made[name]("load", "-q", "-i", archive)
        return made[name]

    return get
