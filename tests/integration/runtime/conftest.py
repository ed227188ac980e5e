"""A busybox snapshot to run in, and the rule that every test leaves the host as it was."""

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.executor import Execution, ExitStatus, execute
from store.mount import OverlayMount

APPLETS = (
    *("sh", "ls", "cat", "echo", "id", "sleep", "true", "mount", "stat", "touch", "mkdir"),
    *("mknod", "chmod", "tty", "stty"),
)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
"""
GROUP = """\
root:x:0:
app:x:1000:
staff:x:50:root,app
audio:x:29:app
"""


@dataclass
class Snapshot:
    """A store in small: one layer with busybox, stubs, and a writable directory."""

    base: Path

    @property
    def layer(self) -> Path:
        return self.base / "busybox"

    @property
    def upper(self) -> Path:
        return self.base / "upper"

    @property
    def mount(self) -> OverlayMount:
        return OverlayMount(str(self.base), ("busybox",), "upper", "work", "stubs")

    def changed(self) -> list[str]:
        """Return the paths in the writable directory."""
        return sorted(str(path.relative_to(self.upper)) for path in self.upper.rglob("*"))


@pytest.fixture
def snapshot(tmp_path: Path, tool: Callable[[str], str]) -> Snapshot:
    base = tmp_path / "store"
    for name in ("busybox/bin", "busybox/etc", "busybox/home/app", "busybox/root", "busybox/tmp"):
        (base / name).mkdir(parents=True)
    for name in ("upper", "work", "stubs/proc", "stubs/dev", "stubs/sys", "stubs/etc"):
        (base / name).mkdir(parents=True)
    for name in ("hosts", "resolv.conf", "hostname"):
        (base / "stubs/etc" / name).touch()
    shutil.copy(tool("busybox"), base / "busybox/bin/busybox")
    for name in APPLETS:
        (base / "busybox/bin" / name).symlink_to("busybox")
    (base / "busybox/tmp").chmod(0o1777)
    (base / "busybox/etc/passwd").write_text(PASSWD)
    (base / "busybox/etc/group").write_text(GROUP)
    return Snapshot(base)


@dataclass
class Ran:
    """A finished run and what it wrote."""

    status: ExitStatus
    out: str
    err: str

    @property
    def code(self) -> int:
        return self.status.code


Run = Callable[..., Ran]


@pytest.fixture
def run(snapshot: Snapshot) -> Run:
    """Return a function: run("script", **fields of Execution) is what the script wrote."""

    def call(script: str | tuple[str, ...], **fields: Any) -> Ran:
        args = ("sh", "-c", script) if isinstance(script, str) else script
        cancel = fields.pop("cancel", None)
        execution = Execution(
            **{"mount": snapshot.mount, "args": args, "env": ("PATH=/bin",), **fields}
        )
        written = {1: b"", 2: b""}

        def take(fd: int, data: bytes) -> None:
            written[fd] += data

        status = execute(execution, on_output=take, cancel=cancel)
        return Ran(status, written[1].decode(), written[2].decode())

    return call


def _cgroups() -> list[str]:
    return glob.glob(f"/sys/fs/cgroup/**/pybuild/{os.getpid()}-*", recursive=True)


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Every container must leave no mount, no cgroup, no process, no descriptor."""
    descriptors, children = set(os.listdir("/proc/self/fd")), _children()
    yield
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts
    assert not _cgroups()
    assert _children() == children
    assert set(os.listdir("/proc/self/fd")) <= descriptors
