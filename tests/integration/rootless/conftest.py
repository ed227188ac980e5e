"""An ordinary user on this host, for tests: made of mounts, so that nothing of the host changes.

In a mount namespace of its own /etc/passwd and /etc/subuid have his lines, and the interpreter, its
packages and the tree under test lie where he can read them.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
UID = 4321
FIRST_SUBID, SUBIDS = 231072, 65536
TIMEOUT_S = 120.0
ROOMS = ("pybuild", "builder", "grammar", "registry_client", "runtime", "store", "values")

# $1: the user's folder. $2: more to do as root before. The rest: his command.
BECOME = """
set -eu
house=$1 before=$2; shift 2
for name in passwd group subuid subgid; do mount --bind "$house/etc/$name" "/etc/$name"; done
while read -r source target; do mount --bind "$source" "$house/$target"; done < "$house/mounts"
eval "$before"
cd "$house/home"
exec "$@"
"""


@dataclass(frozen=True)
class OrdinaryUser:
    """Runs commands as a user without any right on the host.

    house: his folder, with `home` in it. before: shell commands that root does first, in the mount
    namespace of his command. walls: a command that runs what makes him himself. rights: words of
    setpriv(1) that make him who he is.
    """

    house: Path
    before: str = ""
    walls: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    rights: Sequence[str] = (f"--reuid={UID}", f"--regid={UID}", "--clear-groups")

    @property
    def home(self) -> Path:
        return self.house / "home"

    def command(self, *args: str | os.PathLike[str]) -> list[str]:
        """Return the command line that runs `args` as the user."""
        environment = {
            "HOME": str(self.home),
            "USER": "pybuilder",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "XDG_RUNTIME_DIR": str(self.house / "run"),
            "PYTHONPATH": f"{self.house}/project:{self.house}/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": str(self.house / "python/lib"),
            **self.environment,
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", BECOME, "sh"),
            *(str(self.house), self.before, *self.walls),
            *("setpriv", *self.rights, "env", "-i", *words),
            *map(os.fspath, args),
        ]

    def run(
        self,
        *args: str | os.PathLike[str],
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in his home."""
        done = subprocess.run(
            self.command(*args),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def __call__(
        self, *args: str | os.PathLike[str], check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run pybuild as the user."""
        return self.run(self.python, "-m", "pybuild", *args, check=check)

    @property
    def python(self) -> Path:
        """The interpreter where he may read it."""
        return self.house / "python" / self.interpreter

    @property
    def interpreter(self) -> str:
        return os.path.relpath(os.path.realpath(sys.executable), sys.base_prefix)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the user's in his home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for made in (path, *path.parents):
            if made == self.home:
                break
            os.chown(made, UID, UID)
        return path


@pytest.fixture
def make_user(tool, busybox_rootfs: Path) -> Iterator[Callable[..., OrdinaryUser]]:
    """Return a function: make_user(subids=False, before="…") makes one with an empty home."""
    yield from users(tool, busybox_rootfs)


@pytest.fixture(scope="module")
def make_lasting_user(tool, busybox_rootfs: Path) -> Iterator[Callable[..., OrdinaryUser]]:
    """Return the same function, for users whom all tests of a module share."""
    yield from users(tool, busybox_rootfs)


def users(
    tool: Callable[[str], str], busybox_rootfs: Path
) -> Iterator[Callable[..., OrdinaryUser]]:
    """Yield what makes users; afterwards nothing is left of them."""
    for name in ("newuidmap", "setpriv", "unshare"):
        tool(name)
    folders: list[Path] = []

    def make(*, subids: bool = True, **more: object) -> OrdinaryUser:
        house = Path(tempfile.mkdtemp(prefix="rootless-"))
        folders.append(house)
        house.chmod(0o755)
        for name in ("etc", "home", "run", "python", "packages", "project"):
            (house / name).mkdir()
        mounts = [(sys.base_prefix, "python"), (sysconfig.get_path("purelib"), "packages")]
        for room in ROOMS:
            (house / "project" / room).mkdir()
            mounts.append((str(PROJECT / room), f"project/{room}"))
        (house / "mounts").write_text("".join(f"{source} {target}\n" for source, target in mounts))
        line = "root:0:100000\n" + (f"pybuilder:{FIRST_SUBID}:{SUBIDS}\n" if subids else "")
        account = f"pybuilder:x:{UID}:{UID}::{house}/home:/bin/sh\n"
        (house / "etc/passwd").write_text(Path("/etc/passwd").read_text() + account)
        (house / "etc/group").write_text(Path("/etc/group").read_text() + f"pybuilder:x:{UID}:\n")
        (house / "etc/subuid").write_text(line)
        (house / "etc/subgid").write_text(line)
        shutil.copy(busybox_rootfs, house / "home/rootfs.tar")
        for name in ("home", "run"):
            os.chown(house / name, UID, UID)
        return OrdinaryUser(house, **more)  # type: ignore[arg-type]

    yield make
    for folder in folders:
        shutil.rmtree(folder)
