"""Base images and the command line itself, for tests that build and run for real."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from builds import baseimage, imagetree
from debianregistry import Registries, Running

from pybuild.engine.engine import Engine

PROJECT = Path(__file__).parents[2]
CACHE = PROJECT / ".cache"
TIMEOUT_S = 120.0
BUSYBOX = "busybox:test"
DEBIAN = "debian:bookworm"


@dataclass(frozen=True)
class Pybuild:
    """Runs `python -m pybuild` of this tree on a store of its own.

    root: the store's folder, in PYBUILD_ROOT. environment: added to or (with None) taken from ours.
    """

    root: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)

    def __call__(
        self,
        *args: str | os.PathLike[str],
        cwd: str | os.PathLike[str] | None = None,
        input: str | bytes | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = TIMEOUT_S,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and return what came out as text.

        check: a non-zero exit fails the test with the command's output in the message.
        """
        done = subprocess.run(
            self.command(*args),
            cwd=cwd,
            env=self.full_environment(env or {}),
            input=input.encode() if isinstance(input, str) else input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        result = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode(errors="surrogateescape"),
            done.stderr.decode(errors="surrogateescape"),
        )
        if check and result.returncode != 0:
            words = " ".join(map(str, args))
            pytest.fail(
                f"pybuild {words}: exit {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result

    def start(
        self,
        *args: str | os.PathLike[str],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start without waiting, for tests that signal or kill; stdout and stderr are pipes."""
        return subprocess.Popen(
            self.command(*args),
            cwd=cwd,
            env=self.full_environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=new_session,
        )

    def command(self, *args: str | os.PathLike[str]) -> list[str]:
        """Return the command line that `args` make."""
        return [sys.executable, "-m", "pybuild", *map(os.fspath, args)]

    def full_environment(self, more: Mapping[str, str | None]) -> dict[str, str]:
        """Return the environment of a run: ours, the fixture's and `more`, later ones winning."""
        merged: dict[str, str | None] = {
            **os.environ,
            "PYBUILD_ROOT": str(self.root),
            # The tree under test, wherever the test runs and whatever is installed.
            "PYTHONPATH": str(PROJECT),
            **self.environment,
            **more,
        }
        return {name: value for name, value in merged.items() if value is not None}

    def image_names(self) -> set[str]:
        """Return `repository:tag` of every image in the store."""
        listing = self("images", "--format", "{{.Repository}}:{{.Tag}}")
        return set(listing.stdout.split())


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points in `folder`, the deepest last."""
    prefix = f"{folder}/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        # Octal escapes stand for blanks, which our temporary folders do not have.
        points = [line.split()[4] for line in stream]
    return [point for point in points if point.startswith(prefix)]


@pytest.fixture
def store_root(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a new store; afterwards nothing may be mounted in it, and it goes."""
    root = tmp_path / "store"
    yield root
    left = mounts_below(root)
    if root.exists():
        shutil.rmtree(root, ignore_errors=bool(left))
    assert not left, f"left mounted: {left}"


@pytest.fixture
def pybuild(store_root: Path) -> Pybuild:
    """Return a runner of the command line on a new, empty store."""
    return Pybuild(store_root)


@pytest.fixture(scope="module")
def shared_pybuild(
    busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pybuild]:
    """Return a runner on one store for all tests of a module, with the busybox image in it."""
    root = tmp_path_factory.mktemp("shared") / "store"
    runner = Pybuild(root)
    runner("import", busybox_rootfs, BUSYBOX)
    yield runner
    left = mounts_below(root)
    shutil.rmtree(root, ignore_errors=bool(left))
    assert not left, f"left mounted: {left}"


# crun, and so podman and buildah, refuse a machine with cgroup v1 that also mounts v2, and a soft
# limit that root without CAP_SYS_RESOURCE may not set.
IN_OWN_MOUNTS = [
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"',
    "sh",
]
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


@pytest.fixture
def peers(tool) -> Iterator[Callable[[str], Callable[..., str]]]:
    """Return a function: peers("podman")("images") runs that tool and returns what it prints.

    podman and buildah have configuration and storage of their own; every call is in a mount
    namespace of its own, unless `prefix` is what stands before it. A non-zero exit fails the test;
    with `fails` any other than that, and what is returned is the error output.
    """
    # A short path: conmon's sockets lie below it, and podman waits 20 s for one whose name is cut.
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    (folder / "containers.conf").write_text(f'{CONTAINERS_CONF}tmp_dir = "{folder}/tmp"\n')
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }

    def find(name: str, prefix: Sequence[str] = IN_OWN_MOUNTS) -> Callable[..., str]:
        path = tool(name)

        def call(*args: str | os.PathLike[str], fails: int | None = None) -> str:
            done = subprocess.run(
                [*prefix, path, *map(os.fspath, args)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != (fails or 0):
                pytest.fail(f"{name} {args}: exit {done.returncode}\n{done.stdout}{done.stderr}")
            return done.stderr if fails else done.stdout

        return call

    yield find
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_registry(tool, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Return a function: start_registry(tls=True, password=True) runs one and says where."""
    registries = Registries(tmp_path, tool("docker-registry"), tool("openssl"))
    yield registries.start
    registries.stop()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Return an empty folder for a Dockerfile and its files."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def busybox_rootfs(tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tar of the smallest root filesystem with a shell: always the same bytes."""
    path = tmp_path_factory.mktemp("busybox") / "rootfs.tar"
    baseimage.write_busybox(path, tool("busybox"))
    return path


@pytest.fixture
def busybox_image(pybuild: Pybuild, busybox_rootfs: Path) -> str:
    """Return the name of a busybox image that is in this test's store."""
    # Hundreds of tests begin so: in this process it takes a tenth of the time.
    with Engine(os.fspath(pybuild.root)) as engine, open(busybox_rootfs, "rb") as tar:
        engine.import_rootfs(tar, reference=BUSYBOX)
    return BUSYBOX


@pytest.fixture(scope="session")
def debian_rootfs_tar(tool) -> Path:
    """Return a tar of a small Debian whose apt works. Kept in .cache, so that reruns are fast."""
    tool("mmdebstrap")
    path = CACHE / "debian-bookworm.tar"
    # The script takes a lock, so that parallel test processes make the file once.
    subprocess.run(
        [sys.executable, PROJECT / "scripts" / "debian_rootfs.py", path, "bookworm"], check=True
    )
    return path


@pytest.fixture
def debian_image(pybuild: Pybuild, debian_rootfs_tar: Path) -> str:
    """Return the name of a Debian image that is in this test's store."""
    pybuild("import", debian_rootfs_tar, DEBIAN)
    return DEBIAN


def image_tree(archive: Path) -> dict[str, str]:
    """Return each path of the image in an OCI archive, its layers applied, and what is there."""
    return imagetree.lines_of(imagetree.read_oci(archive).files, full=False)


@pytest.fixture
def tree_of_archive() -> Callable[[Path], dict[str, str]]:
    """Return `image_tree`, for tests that make the archive themselves."""
    return image_tree


@pytest.fixture
def files_of(pybuild: Pybuild, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function: files_of(*build_arguments) builds and returns path -> what is there.

    What is there is a line: `file 644 0:0 text`, `link target 0:0`, `hard /other`.
    """

    def build(*args: str | os.PathLike[str], input: str | bytes | None = None) -> dict[str, str]:
        archive = tmp_path / "built.oci"
        pybuild("build", "-o", f"type=oci,dest={archive},compression=none", *args, input=input)
        return image_tree(archive)

    return build
