"""Bundles, and runtimes to run them: ours as an executable file, crun, runc."""

import glob
import json
import os
import shutil
import subprocess
import sys
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attacking import UNGUARDED

PROJECT = Path(__file__).parents[3]
TIMEOUT_S = 60
SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {project!r})
from runtime.command.main import process
process()
"""


@pytest.fixture(scope="session")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pybuild-runtime of this tree, as a file that others can call."""
    path = tmp_path_factory.mktemp("bin") / "pybuild-runtime"
    path.write_text(SCRIPT.format(python=sys.executable, project=str(PROJECT)))
    path.chmod(0o755)
    return path


@dataclass(frozen=True)
class Runtime:
    """An OCI runtime with containers of its own.

    prefix: what stands before it on the command line.
    """

    path: str
    root: Path
    prefix: tuple[str, ...] = ()

    def command(self, *words: str | os.PathLike[str]) -> list[str]:
        return [*self.prefix, self.path, "--root", str(self.root), *map(os.fspath, words)]

    def __call__(
        self,
        *words: str | os.PathLike[str],
        cwd: Path | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. Output goes through files: a container may keep a pipe open."""
        with (
            open(self.root.parent / "out", "w+") as out,
            open(self.root.parent / "err", "w+") as err,
        ):
            done = subprocess.run(
                self.command(*words),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=TIMEOUT_S,
                check=False,
            )
            texts = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (out, err)]
        if check and done.returncode != 0:
            pytest.fail(f"{words}: exit {done.returncode}\n{texts[0]}{texts[1]}")
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def state(self, name: str) -> dict[str, Any]:
        return json.loads(self("state", name).stdout)

    def record(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name / "state.json").read_bytes())


def cgroups_of(runtime: Runtime) -> list[str]:
    """Return the cgroups of containers without a cgroupsPath."""
    suffix = f"{crc32(os.fsencode(runtime.root / '.cache')):08x}"
    return glob.glob(f"/sys/fs/cgroup/**/pybuild-runtime-*-{suffix}", recursive=True)


@pytest.fixture
def oci(executable: Path, tmp_path: Path) -> Iterator[Runtime]:
    """Return our runtime; afterwards no container of it may be left, nor any of its cgroups."""
    (tmp_path / "oci").mkdir()
    runtime = Runtime(str(executable), tmp_path / "oci" / "root")
    yield runtime
    names = os.listdir(runtime.root) if runtime.root.exists() else []
    left = [name for name in names if name != ".cache"]
    for name in left:
        runtime("delete", "--force", name, check=False)
    assert not left
    assert not cgroups_of(runtime)


@pytest.fixture
def rootfs(tmp_path: Path, tool: Callable[[str], str]) -> Path:
    """Return a root file system of busybox with all its names."""
    folder = tmp_path / "rootfs"
    for name in ("bin", "etc", "tmp", "home/app"):
        (folder / name).mkdir(parents=True)
    shutil.copy(tool("busybox"), folder / "bin/busybox")
    listing = subprocess.run(
        [folder / "bin/busybox", "--list"], capture_output=True, text=True, check=True
    )
    for name in set(listing.stdout.split()) - {"busybox"}:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:\n")
    return folder


Bundle = Callable[..., Path]


@pytest.fixture
def bundle(rootfs: Path, tmp_path: Path) -> Bundle:
    """Return a function: bundle("script", **changes of config.json) writes a bundle."""

    def make(script: str | list[str], name: str = "bundle", **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        spec = json.loads((PROJECT / "testdata/oci/base.json").read_bytes())
        spec["root"]["path"] = str(rootfs)
        args = ["sh", "-c", script] if isinstance(script, str) else script
        spec["process"]["args"] = args
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(spec.get(key), dict):
                spec[key] = {**spec[key], **value}
            else:
                spec[key] = value
        (folder / "config.json").write_text(json.dumps(spec))
        return folder

    return make


@pytest.fixture
def unguarded(oci, project):
    """Return a function: unguarded(change, *words) is the command line after that change."""

    def command(change: str, *words: str | Path) -> list[str]:
        code = UNGUARDED.format(project=str(project), change=change)
        return [sys.executable, "-c", code, "--root", str(oci.root), *map(str, words)]

    return command


@pytest.fixture
def show_python() -> Callable[[dict[str, Any]], str]:
    """Return a function that lets a container have the host's Python, and returns its path."""
    return _show_python


def _show_python(spec: dict[str, Any]) -> str:
    base = Path(os.path.realpath(sys.base_prefix))
    places = {"/lib", "/lib64", "/usr", f"/{base.parts[1]}" if base.parts[1:] else "/usr"}
    spec["mounts"] += [
        {"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}
        for place in sorted(places)
        if os.path.exists(place)
    ]
    library = os.path.join(sys.base_exec_prefix, sys.platlibdir)
    spec["process"]["env"] += [f"LD_LIBRARY_PATH={library}", f"PYTHONHOME={sys.base_prefix}"]
    return os.path.realpath(sys.executable)
