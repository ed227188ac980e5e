"""The wheel is complete: installed elsewhere it builds an image and runs it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ROOMS = ("values", "grammar", "store", "registry_client", "runtime", "builder", "pybuild")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this tree, built from a copy: setuptools leaves files in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    kept = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    for name in kept.stdout.decode().split("\0"):
        wanted = name.partition("/")[0] in (*ROOMS, "bin", "pyproject.toml", "README.md", "LICENSE")
        if wanted and (PROJECT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, target)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, source],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean environment that holds the wheel, what it depends on, and pytest."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [
            folder / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            wheel,
            "pytest>=8",
        ],
        check=True,
    )
    return folder


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = {
        str(path.relative_to(PROJECT))
        for room in ROOMS
        for path in (PROJECT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= inside, f"not in the wheel: {sorted(wanted - inside)}"
    assert not [name for name in inside if name.startswith(("tests/", "bench/", "scripts/"))]


TESTS = """\
import sys

import pytest

LOADED = {name.partition(".")[0] for name in sys.modules} & {"builder", "store", "runtime", "lark"}


@pytest.mark.pybuild("context")
def test_the_image(built_image, container):
    assert not LOADED, "pytest started with the plugin, and with nothing else of ours"
    shell = container(start=False)
    assert shell.exec("cat", "/copy").text == "from the wheel\\n"
    with built_image.open() as tree:
        assert tree.read_text("/copy") == "from the wheel\\n"
"""


@pytest.mark.kernel
def test_the_installed_wheel_builds_and_runs(
    installed: Path, busybox_rootfs: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "message").write_text("from the wheel\n")
    (context / "Dockerfile").write_text(
        "FROM busybox:test\nCOPY message /message\nRUN cat /message > /copy\nCMD cat /copy\n"
    )
    environment = {**os.environ, "PYBUILD_ROOT": str(tmp_path / "store")}
    # Away from the source tree, which must not be found by accident.
    environment.pop("PYTHONPATH", None)

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [installed / "bin" / words[0], *words[1:]],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("pybuild", "import", busybox_rootfs, "busybox:test")
    run("pybuild", "build", "-t", "wheel:test", context)
    assert run("pybuild", "run", "--rm", "wheel:test") == "from the wheel\n"
    (tmp_path / "test_image.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    assert "1 passed" in run("pytest", "-q", "-p", "no:cacheprovider")
    assert run("pybuild-runtime", "--version").startswith("pybuild-runtime version ")
