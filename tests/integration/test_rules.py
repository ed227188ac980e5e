"""Rules of testdata/rules.toml that need real builds and have no other file."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.root import Store

pytestmark = pytest.mark.kernel

UUID = "cat /proc/sys/kernel/random/uuid"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def build(pybuild, busybox_image, context):
    """Build a Dockerfile text (`{base}` stands for the base image) as `x`; return the result."""

    def call(text: str, *args: str | Path):
        (context / "Dockerfile").write_text(text.replace("{base}", busybox_image))
        return pybuild("build", "-t", "x", "--progress=plain", *args, context)

    return call


def cached(result: "subprocess.CompletedProcess[str]") -> int:
    """Return how many steps were cached, FROM besides."""
    return sum(line.endswith(" CACHED") for line in result.stderr.splitlines()) - 1


def layers(pybuild, name: str) -> list[str]:
    found: list[str] = json.loads(pybuild("inspect", name).stdout)[0]["RootFS"]["Layers"]
    return found


def output(pybuild, *command: str) -> str:
    text: str = pybuild("run", "--rm", "x", *command).stdout
    return text


def test_a_record_without_its_layer_is_a_miss(build, pybuild) -> None:
    text = "FROM {base}\nRUN echo one > /one\nRUN cat /one > /two\n"
    build(text)
    last = layers(pybuild, "x")[-1]
    pybuild("rmi", "x")
    with Store.open(pybuild.root) as store, store.exclusive_lease():
        store.layers.remove(last)
    assert cached(build(text)) == 1
    assert output(pybuild, "cat", "/two") == "one\n"


def test_what_followed_another_result_is_not_taken(build, pybuild) -> None:
    """The first step ran again by itself; the second is not taken from what followed before."""
    first = f"FROM {{base}}\nRUN {UUID} > /f\n"
    build(f"{first}RUN cp /f /g\n")
    build(first, "--no-cache")
    assert cached(build(f"{first}RUN cp /f /g\n")) == 1
    one, other = output(pybuild, "cat", "/f", "/g").split()
    assert one == other


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_steps_are_cached_on_a_base_that_arrived_in_another_way(
    build, pybuild, tmp_path, kind: str
) -> None:
    archive = tmp_path / "base.tar"
    build(f"FROM {{base}}\nRUN {UUID} > /f\n", "-t", "mine", "-o", f"type={kind},dest={archive}")
    top = "FROM mine\nRUN cp /f /g\n"
    build("FROM {base}\n")
    build(top)
    first = layers(pybuild, "x")
    (unpacked,) = layers(pybuild, "mine")[1:]
    pybuild("rmi", "mine")
    with Store.open(pybuild.root) as store, store.exclusive_lease():
        store.layers.remove(unpacked)
    pybuild("load", "-i", archive)
    pybuild("images")
    assert cached(build(top)) == 1
    assert layers(pybuild, "x") == first


def files_of(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield device and inode of every regular file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found = path.stat()
            yield found.st_dev, found.st_ino


def test_no_file_of_the_store_has_a_name_elsewhere(build, pybuild, context, tmp_path) -> None:
    for name in ("one", "two"):
        (context / name).write_text(name * 1000)
    os.link(context / "one", context / "link")
    out = tmp_path / "out"
    build("FROM scratch\nCOPY . /all/\n", "-o", f"type=local,dest={out}")
    build("FROM {base}\nCOPY . /all/\nRUN --mount=target=/c cp -r /c /again\n")
    stored = set(files_of(pybuild.root))
    assert not stored & set(files_of(context))
    assert not stored & set(files_of(out))
    trees = [set(files_of(tree)) for tree in (pybuild.root / "layers/sha256").iterdir()]
    assert sum(map(len, trees)) == len(set().union(*trees)), "two layers share a file"


def test_capabilities_are_kept_and_labels_are_not(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, store.snapshots.prepare([]) as active:
        path = Path(active.upper, "ping")
        path.write_text("x")
        os.setxattr(path, "security.capability", CAPABILITY)
        os.setxattr(path, "security.label-of-ours", b"secret-label")
        info = active.commit()
        tar = b"".join(store.layers.stream_tar(info.diff_id))
    assert b"SCHILY.xattr.security.capability=" + CAPABILITY in tar
    assert b"label" not in tar


def test_collection_during_builds_takes_nothing(build, pybuild, context, busybox_image) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN echo kept > /kept\n"
        "RUN --mount=type=cache,target=/c echo running; until [ -e /c/go ]; do sleep 0.02; done\n"
    )
    running = pybuild.start("--progress=plain", "-t", "x", context)
    assert running.stderr is not None
    for line in running.stderr:
        if line.rstrip().endswith(b" running"):
            break
    for verb in (("system", "prune"), ("image", "prune")):
        pybuild(*verb, input="y\n", check=False)
    (cache,) = pybuild.root.glob("cachemounts/*/*/fs")
    (cache / "go").touch()
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert output(pybuild, "cat", "/kept") == "kept\n"
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_a_steps_processes_hold_its_snapshot(pybuild, busybox_image, context) -> None:
    """The build alone does not: a descriptor of the lock is in another process, the launcher."""
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo running; sleep 1000\n")
    running = pybuild.start("--progress=plain", context)
    assert running.stderr is not None
    for line in running.stderr:
        if line.rstrip().endswith(b" running"):
            break
    try:
        (lock,) = pybuild.root.glob("snapshots/*/lock")
        with open(lock) as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holders = {
            int(link.parts[2])
            for link in Path("/proc").glob("[0-9]*/fd/*")
            if os.path.lexists(link) and _leads_to(link, lock)
        }
        assert holders - {running.pid}
    finally:
        running.terminate()
        running.communicate(timeout=60)


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return os.readlink(link) == str(target)
    except OSError:
        return False  # closed meanwhile


def test_a_newer_store_is_one_clear_error(pybuild, busybox_image) -> None:
    (pybuild.root / "version").write_text("99\n")
    result = pybuild("images", check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: open store {pybuild.root}: its format 99 is newer")
    assert "hint:" in result.stderr
    assert result.stdout == ""


def test_no_cache_takes_no_run_that_began_before(pybuild, busybox_image, context) -> None:
    """Two builds with --no-cache, one begun while the other's step runs: both run it."""
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN --mount=type=cache,id=fixed,target=/c,sharing=shared "
        f"{UUID} > /uuid; echo running; sleep 0.5\n"
    )
    first = pybuild.start("--progress=plain", "--no-cache", "-t", "x:1", context)
    assert first.stderr is not None
    for line in first.stderr:
        if line.rstrip().endswith(b" running"):
            break
    pybuild("--no-cache", "-t", "x:2", context)
    first.communicate(timeout=60)
    uuids = {pybuild("run", "--rm", f"x:{n}", "cat", "/uuid").stdout for n in (1, 2)}
    assert len(uuids) == 2


def test_what_a_step_left_running_writes_nothing(build, pybuild) -> None:
    build(
        "FROM {base}\n"
        "RUN (trap '' HUP TERM; while :; do date >> /log; done) & sleep 0.2; date >> /log\n"
        "RUN wc -l < /log > /count\n"
    )
    assert (
        output(pybuild, "wc", "-l", "/log").split()[0] == output(pybuild, "cat", "/count").strip()
    )
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
