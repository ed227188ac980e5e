"""An emulated machine: Debian's kernel 6.1 with cgroup v2, whose power can be cut.

`machine.start(script)` boots in about two seconds and runs the script as root, as pid 1's child;
what it prints comes line by line. Emulation is slow, some ten times slower than the machine: a few
dozen checks, not a suite. `scripts/vm_base.py` says what is on its disk.
"""

import compileall
import io
import os
import select
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from tests.integration.vm import sharing

PROJECT = Path(__file__).parents[3]
CACHE = PROJECT / ".cache/vm"
PACKAGES = sorted(path.parent.name for path in PROJECT.glob("*/__init__.py"))
ALSO = ("tests", "testdata", "scripts", "pyproject.toml")
TIMEOUT_S = 300.0
TESTS_S = 1200.0
MIB = 1 << 20

RUN_PYTEST = """\
#!/bin/sh
cd /payload/project
export CI=true PYTHONPATH=/payload/project PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
exec python3 -m pytest -p no:cacheprovider -o addopts= --import-mode=importlib --no-header \
    -v --color=no --tb=short --basetemp=/disk/tests {arguments}
"""


@dataclass
class Guest:
    """A machine that runs.

    lines: what its script printed so far. The last one is `exit STATUS` when the script ended.
    """

    process: subprocess.Popen[bytes]
    console: Path
    lines: list[str] = field(default_factory=list)
    seen: int = 0
    rest: bytes = b""
    is_off: bool = False

    def _arriving(self, timeout_s: float) -> Iterator[str]:
        """Yield lines as they come, until the machine is off or the time is over."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while True:
            while self.seen < len(self.lines):
                self.seen += 1
                yield self.lines[self.seen - 1]
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self.process.stdout], [], [], left_s)[0]:
                return
            data = os.read(self.process.stdout.fileno(), 65536)
            self._take(data)
            if not data:
                self.is_off = True
                return

    def _take(self, data: bytes) -> None:
        *whole, self.rest = (self.rest + data).split(b"\n")
        self.lines += [line.decode(errors="replace").rstrip("\r") for line in whole]

    def read(self, timeout_s: float = TIMEOUT_S) -> Iterator[str]:
        """Yield the lines that come, until the machine is off. Too late fails the test."""
        yield from self._arriving(timeout_s)
        if not self.is_off:
            self.fail(f"the machine was not off within {timeout_s:g} s")

    def listen(self, seconds: float) -> None:
        """Take in what is printed in this time."""
        for _ in self._arriving(seconds):
            pass

    def wait_for(self, beginning: str, timeout_s: float = TIMEOUT_S) -> str:
        """Return the next line that begins so. Fails the test when the machine ends before."""
        found = (line for line in self.read(timeout_s) if line.startswith(beginning))
        line = next(found, None)
        if line is None:
            self.fail(f"the machine ended before it printed {beginning!r}")
        return line

    def cut_power(self) -> None:
        """End the machine as a pulled plug does: what it had not flushed to its disk is lost."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self._take(self.process.stdout.read())  # what had left the machine before

    def finish(self, timeout_s: float = TIMEOUT_S, *, check: bool = True) -> list[str]:
        """Wait until the machine is off; return its script's lines, without the exit status.

        check: a script that did not exit with 0 fails the test.
        """
        for _ in self.read(timeout_s):
            pass
        self.process.wait(timeout_s)
        if not self.lines or not self.lines[-1].startswith("exit "):
            self.fail("the machine did not run its script to the end")
        if check and self.lines[-1] != "exit 0":
            self.fail("the script failed")
        return self.lines[:-1]

    def fail(self, why: str) -> NoReturn:
        """Fail the test with everything that is known."""
        console = self.console.read_text(errors="replace").splitlines()
        # What became of the emulated controller of the disks comes before the errors it causes.
        controller = [line for line in console[:-30] if "nvme nvme" in line]
        pytest.fail("\n".join([why, *self.lines[-60:], "console:", *controller, *console[-30:]]))


@dataclass
class Machine:
    """Boots machines. `stack` ends those that a test left running."""

    qemu: str
    folder: Path
    stack: ExitStack
    count: int = 0

    def start(
        self,
        script: str,
        *,
        files: Mapping[str, bytes | Path] | None = None,
        disk: Path | None = None,
        memory_mb: int = 1024,
        cpus: int = 1,
        project: bool = True,
    ) -> Guest:
        """Boot and run `script`, which begins with `#!`, in /payload.

        The project is at /payload/project, `files` beside the script. disk: an ext4 image
        (`make_disk`), mounted at /disk. project: without it the machine starts sooner.
        """
        self.count += 1
        payload = self.folder / f"payload-{self.count}.tar"
        folders = (*PACKAGES, *ALSO) if project else ()
        write_payload(payload, folders, {"run": script.encode(), **(files or {})})
        console = self.folder / f"console-{self.count}.log"
        command = [self.qemu, "-accel", "tcg", "-m", str(memory_mb), "-smp", str(cpus)]
        command += ["-nodefaults", "-display", "none", "-no-reboot", "-kernel", CACHE / "vmlinuz"]
        # Emulated, guards against the processor's faults cost time and guard nothing.
        words = (
            "console=ttyS0 loglevel=5 panic=-1 root=/dev/nvme0n1 rw init=/sbin/init mitigations=off"
        )
        command += ["-append", words]
        command += ["-serial", f"file:{console}", "-serial", "stdio"]
        command += ["-device", "nvme,id=nvme0,serial=pybuild"]
        drives = [f"file={CACHE}/base.img,snapshot=on", f"file={payload},snapshot=on"]
        drives += [f"file={disk},cache=writeback"] if disk else []
        for number, drive in enumerate(drives, 1):
            command += ["-drive", f"if=none,id=d{number},format=raw,{drive}"]
            command += ["-device", f"nvme-ns,drive=d{number},bus=nvme0,nsid={number}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        return Guest(process, console)

    def make_disk(self, path: Path, size_mb: int = 1024) -> Path:
        """Make an empty ext4 disk image, sparse, and return its path."""
        with open(path, "wb") as file:
            file.truncate(size_mb * MIB)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
        return path


def write_payload(path: Path, folders: Iterable[str], files: Mapping[str, bytes | Path]) -> None:
    """Write the tar that the machine unpacks: folders of the project, compiled, and files."""
    with tarfile.open(path, "w") as archive:
        for name in folders:
            archive.add(PROJECT / name, f"project/{name}")
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    os.truncate(path, (path.stat().st_size + MIB - 1) // MIB * MIB)  # a disk of whole sectors


@pytest.fixture(scope="session")
def vm_base(tool: Callable[[str], str]) -> str:
    """Make what every machine boots from, and return the path of qemu."""
    qemu = tool("qemu-system-x86_64")
    tool("mke2fs")
    made = subprocess.run(
        [sys.executable, PROJECT / "scripts/vm_base.py", CACHE],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"needs Debian's kernel: {made.stderr.strip()}")
    # Emulated, compiling takes longer than all else.
    for package in PACKAGES:
        compileall.compile_dir(PROJECT / package, quiet=2)
    return qemu


@pytest.fixture(scope="session")
def shared_boot(
    vm_base: str,
    busybox_rootfs: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, sharing.Part]:
    """Boot one machine for all tests marked `inside`, and return what came of each."""
    ids, scripts = sharing.asked(request.session.items)
    files: dict[str, bytes | Path] = {"rootfs.tar": busybox_rootfs}
    files |= {name: script.encode() for name, script in scripts.items()}
    if ids:
        words = " ".join(f"'{word}'" for word in ids)
        files[sharing.PYTEST] = RUN_PYTEST.format(arguments=words).encode()
    folder = tmp_path_factory.mktemp("shared-machine")
    with ExitStack() as stack:
        machine = Machine(vm_base, folder, stack)
        # Temporary files on a real disk: before Linux 6.6 those in memory have no user xattrs.
        disk = machine.make_disk(folder / "disk.img")
        script = sharing.RUN.format(scripts=" ".join(scripts))
        guest = machine.start(script, files=files, disk=disk, memory_mb=2048)
        lines = guest.finish(TESTS_S, check=False)
    shutil.rmtree(folder)
    return sharing.parts_of(lines)


@pytest.fixture
def inside(
    shared_boot: dict[str, sharing.Part], request: pytest.FixtureRequest
) -> set[str] | tuple[str, ...]:
    """Return what came of the test's mark: `inside(*ids)` tests that passed, or a script's lines.

    `@pytest.mark.inside(script=…)` is a script that runs in /payload; other tests' run before and
    after it. One that does not exit with 0 fails the test.
    """
    mark = request.node.get_closest_marker(sharing.MARK)
    if "script" not in mark.kwargs:
        return sharing.passed(shared_boot, mark.args)
    part = shared_boot.get(request.node.name, sharing.Part())
    if part.status != 0:
        pytest.fail("\n".join([f"the script's status is {part.status}", *part.lines[-60:]]))
    return part.lines


@pytest.fixture
def apparmor_policy(vm_base: str) -> Path:
    """Return the compiled profile `pybuild-test`, which lets nobody write /denied."""
    return CACHE / "apparmor.bin"


@pytest.fixture
def machine(vm_base: str, tmp_path: Path) -> Iterator[Machine]:
    """Return what boots machines; none runs after the test."""
    with ExitStack() as stack:
        yield Machine(vm_base, tmp_path, stack)
    for pattern in ("*.img", "payload-*.tar"):
        for path in tmp_path.glob(pattern):
            path.unlink()
