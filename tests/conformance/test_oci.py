"""config.json, field by field: what a probe inside the container sees, what is called an error."""

import contextlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import schema

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "testdata/oci"
CASES = tomllib.loads((DATA / "cases.toml").read_text())
COMMAND = [
    *(sys.executable, "-c"),
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    "from runtime.command.main import process; process()",
    str(PROJECT),
]
# A host, that is a network namespace, with a device that has addresses of both versions.
NET_DEVICE = """
busybox ip link add pybmove0 type veth
busybox ip addr add 192.0.2.7/24 dev pybmove0
busybox ip -6 addr add 2001:db8::7/64 dev pybmove0
exec "$@"
"""
# Proven elsewhere: hooks need several verbs (tests/integration/oci).
ELSEWHERE = {"hooks"}

pytestmark = pytest.mark.kernel


def fields(kind: tuple, path: str = "") -> Iterator[str]:
    """Yield the fields of an object, those of `process`, `linux` and `linux.resources` singly."""
    for name, inner in kind[1].items():
        at = f"{path}.{name}".strip(".").rstrip("!")
        if at in ("process", "linux", "linux.resources", "root"):
            yield from fields(inner, at)
        else:
            yield at


def test_every_field_has_a_case() -> None:
    proven = {field for case in CASES.values() for field in case.get("fields", [])}
    assert set(fields(schema.CONFIG)) - proven == ELSEWHERE
    assert proven <= set(fields(schema.CONFIG))


def merge(base: object, patch: object) -> object:
    if not isinstance(patch, dict) or not isinstance(base, dict):
        return patch
    merged = dict(base)
    for key, value in patch.items():
        if key.endswith("+"):
            merged[key[:-1]] = [*merged.get(key[:-1], []), *value]
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Make a root file system, folders of the host, and a process in other namespaces."""
    with contextlib.ExitStack() as undo:  # whatever fails, no mount is left
        yield make_world(tmp_path_factory.mktemp("oci"), undo)


def make_world(folder: Path, undo: contextlib.ExitStack) -> dict[str, str]:
    busybox = next(p for d in os.environ["PATH"].split(":") if (p := Path(d, "busybox")).exists())
    root = folder / "rootfs"
    for name in ("bin", "etc", "tmp", "below/dir"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(busybox.read_bytes())
    (root / "bin/busybox").chmod(0o755)
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    for name in set(names.split()) - {"busybox"}:
        (root / "bin" / name).symlink_to("busybox")
    (root / "here").write_text("seen")
    (root / "owned").touch()
    os.chown(root / "owned", 4242, 4242)
    (root / "below/dir/file").write_text("kept\n")
    (root / "below/dir").chmod(0o750)
    os.chown(root / "below/dir", 3, 3)
    (root / "below/link").symlink_to("dir/file")
    for number, text in enumerate(("zero", "one", "two", "three")):
        (folder / "host").mkdir(exist_ok=True)
        (folder / "host" / str(number)).write_text(f"{text}\n")
        os.chown(folder / "host" / str(number), number, number)
    shared = folder / "shared"
    shared.mkdir()
    for place in (shared, shared / "inner"):
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "x", place], check=True)
        undo.callback(subprocess.run, ["umount", place], check=True)
        subprocess.run(["mount", "--make-shared", shared], check=True)
    device = os.stat("/").st_dev
    numbers = disk_of(device)
    made = {"folder": str(folder), "host": str(folder / "host"), "shared": str(shared)}
    made |= {"major": str(numbers[0]), "minor": str(numbers[1])}
    # Somebody in other namespaces, to be joined.
    bundle = bundle_of("other", {"config": "{}", "script": "sleep 1000"}, made)
    undo.callback(runtime, made, "delete", "--force", "other")
    started = runtime(made, "run", "--detach", "--bundle", str(bundle), "other")
    assert started.returncode == 0, started.stderr
    other = json.loads(runtime(made, "state", "other").stdout)["pid"]
    return {**made, "other": str(other)}


def disk_of(device: int) -> tuple[int, int]:
    """Return the numbers of a disk: limits are of whole disks, not of partitions."""
    for entry in sorted(Path("/sys/block").iterdir()):
        major, minor = (entry / "dev").read_text().strip().split(":")
        if int(major) == os.major(device) or entry.name.startswith(("vd", "sd", "nvme")):
            return int(major), int(minor)
    return os.major(device), os.minor(device)


def bundle_of(name: str, case: dict, world: dict[str, str]) -> Path:
    bundle = Path(world["folder"], name)
    bundle.mkdir()
    text = case["config"]
    for key, value in {**world, "bundle": str(bundle), "name": name}.items():
        text = text.replace("{" + key + "}", value)
    base = json.loads((DATA / "base.json").read_bytes())
    base["root"]["path"] = "../rootfs"
    base["process"]["args"] = ["sh", "-c", case.get("script", "true")]
    spec = merge(base, json.loads(text))
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def runtime(
    world: dict[str, str], *words: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    # Files, no pipes: a container that waits for its start keeps them open.
    with open(f"{world['folder']}/out", "w+") as out, open(f"{world['folder']}/err", "w+") as err:
        done = subprocess.run(
            [*prefix, *COMMAND, "--root", f"{world['folder']}/state", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            timeout=60,
        )
        out.seek(0)
        err.seek(0)
        # Newlines as they were written.
        texts = [os.pread(f.fileno(), 1 << 20, 0).decode() for f in (out, err)]
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, world: dict[str, str]) -> None:
    case = CASES[name]
    bundle = bundle_of(name, case, world)
    if "limits" in case:
        check_limits(name, case, bundle, world)
        return
    prefix = ("unshare", "--net", "sh", "-ec", NET_DEVICE, "sh") if "net_device" in case else ()
    done = runtime(world, "run", "--bundle", str(bundle), name, prefix=prefix)
    assert not Path(world["folder"], "state", name).exists()
    if "error" in case:
        assert done.returncode == 1
        assert case["error"] in done.stderr
        assert done.stderr.count("\n") == 1
        return
    assert case.get("error_output", "") in done.stderr
    if "out" in case:
        out = done.stdout if case.get("terminal") else done.stdout.replace("\r", "")
        assert out == case["out"], done.stderr
        assert case.get("warning", "") in done.stderr
        assert done.returncode == case.get("code", 0)
        return
    seen = dict(line.split() for line in done.stdout.splitlines())
    assert seen, done.stderr
    whose = world["other"] if "namespaces_of_other" in case else "self"
    wanted = case.get("namespaces_of_other", case.get("namespaces", "")).split()
    theirs = {kind for kind in seen if seen[kind] == os.readlink(f"/proc/{whose}/ns/{kind}")}
    assert theirs - {"time"} == set(wanted) - {"time"}
    assert ("time" in theirs) == ("time" in wanted or whose != "self")


def check_limits(name: str, case: dict, bundle: Path, world: dict[str, str]) -> None:
    """Compare the files of the cgroup; those of v2 where that is all there is."""
    done = runtime(world, "create", "--bundle", str(bundle), name)
    assert done.returncode == 0, done.stderr
    try:
        record = json.loads(Path(world["folder"], "state", name, "state.json").read_bytes())
        only_v2 = set(record["cgroups"]) == {"unified"}
        for path, value in case["limits_v2" if only_v2 else "limits"].items():
            controller, _, file = path.rpartition("/")
            for key in ("major", "minor"):
                value = value.replace("{" + key + "}", world[key])
            assert (
                Path(record["cgroups"][controller or "unified"], file).read_text().strip() == value
            )
    finally:
        runtime(world, "delete", "--force", name)
