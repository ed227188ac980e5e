"""A disk that fills at any point: the command says so, nothing is lost, with space it goes on."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

KIB = 1024
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // KIB
STEPS = """\
FROM busybox:test AS one
RUN head -c 300000 /dev/zero > /a
COPY data /data
FROM busybox:test
RUN head -c 400000 /dev/zero > /b; for n in 1 2 3 4 5 6 7 8 9; do echo $n > /small$n; done
COPY --from=one /a /data /from/
RUN --mount=type=cache,target=/c head -c 200000 /dev/zero > /c/f; cp -r /from /to
"""
# Left on the disk when the command begins, in KiB. None is room enough for all of it.
ROOM_KIB = (0, 12, 40, 120, 250, 400, 700, 1000, 1500, 2000, 2500, 3000)
LARGE_KIB = 400_000


@dataclass
class Disk:
    """A file system in memory whose size is changed while it is in use."""

    path: Path

    def leave(self, room_kib: int) -> None:
        """Make it so small that only this much is free."""
        found = os.statvfs(self.path)
        used_kib = (found.f_blocks - found.f_bfree) * found.f_frsize // KIB
        self._resize(used_kib + room_kib // PAGE_KIB * PAGE_KIB)

    def enlarge(self) -> None:
        """Give it room for everything."""
        self._resize(LARGE_KIB)

    def _resize(self, size_kib: int) -> None:
        command = ["mount", "-o", f"remount,size={size_kib}k", self.path]
        subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a file system of its own, large at first."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE_KIB}k", "none", path], check=True)
    yield Disk(path)
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def store_root(disk: Disk) -> Path:
    """Return the folder of a new store on that disk."""
    return disk.path / "store"


def check_says_so(result: "subprocess.CompletedProcess[str]") -> None:
    """Check that a command failed for want of room, and said so in a sentence with a hint."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "bug in pybuild" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    # A pull counts before it unpacks.
    assert re.search("no space left on device|bytes that are free in", errors[0], re.I)


def steps_ended(output: str, word: str) -> set[str]:
    """Return the names of a build's steps that ended so."""
    names = dict(re.findall(r"^#(\d+) (\[[^i].+)$", output, re.M))
    return {names[n] for n in re.findall(rf"^#(\d+) {word}", output, re.M) if n in names}


def check_clean(pybuild) -> None:
    found = pybuild("system", "check", "--deep", check=False)
    assert (found.returncode, found.stdout) == (0, "clean\n"), found.stderr


def test_a_build(pybuild, busybox_image, context, disk, rounds) -> None:
    (context / "Dockerfile").write_text(STEPS)
    (context / "data").write_bytes(os.urandom(200_000))
    failed = 0
    for number, room in enumerate(ROOM_KIB[:: 1 if rounds(12, 6) == 12 else 2]):
        (context / "data").write_bytes(os.urandom(200_000 + number))
        disk.leave(room)
        result = pybuild(
            "--progress=plain", "--no-cache", "-t", f"x:{number}", context, check=False
        )
        if result.returncode != 0:
            failed += 1
            check_says_so(result)
        disk.enlarge()
        check_clean(pybuild)
        again = pybuild("--progress=plain", "-t", f"x:{number}", context)
        assert steps_ended(result.stderr, "DONE") <= steps_ended(again.stderr, "CACHED"), (
            result.stderr,
            again.stderr,
        )
        assert pybuild("run", "--rm", f"x:{number}", "wc", "-c", "/to/a").stdout.startswith("3000")
    assert failed >= 4  # or the rooms are too large for what is built


@pytest.mark.parametrize("verb", ["load", "pull", "import", "tag"])
def test_what_comes_from_elsewhere(
    pybuild, busybox_rootfs, busybox_image, context, disk, tmp_path, verb, start_registry
) -> None:
    (context / "Dockerfile").write_text(STEPS)
    (context / "data").write_bytes(os.urandom(1_500_000))
    name = f"{start_registry().host}/x:1" if verb == "pull" else "x:1"
    pybuild("-t", name, context)
    archive = tmp_path / "x.tar"
    pybuild("save", "-o", archive, name)
    if verb == "pull":
        pybuild("push", name)
    command = {
        "load": ("load", "-i", archive),
        "pull": ("pull", name),
        "import": ("import", busybox_rootfs, "other:1"),
        "tag": ("tag", "busybox:test", "other:1"),
    }[verb]
    failed = 0
    for room in ROOM_KIB[::2] if verb != "tag" else (0,):
        if verb in ("load", "pull"):
            pybuild("rmi", name, check=False)
            pybuild("system", "prune", "--all", "--force", check=False)
        pybuild("rmi", "other:1", check=False)
        names = pybuild.image_names()
        disk.leave(room)
        result = pybuild(*command, check=False)
        if result.returncode != 0:
            failed += 1
            check_says_so(result)
            assert pybuild.image_names() == names
        disk.enlarge()
        check_clean(pybuild)
        pybuild(*command)
        check_clean(pybuild)
    assert failed >= 1


def test_a_container_and_its_removal(pybuild, busybox_image, disk) -> None:
    disk.leave(0)
    result = pybuild("run", "--name", "one", "busybox:test", "true", check=False)
    assert result.returncode == 125
    assert "no space left on device" in result.stderr.lower()
    assert pybuild("ps", "-a", "-q").stdout == ""
    pybuild("images")
    disk.enlarge()
    pybuild("run", "--name", "one", "busybox:test", "true")
    disk.leave(0)
    pybuild("rm", "one")
    check_clean(pybuild)
