"""Runs the suites: of runc (bats), of crun (Python), of podman (bats), each test's result by name.

Their own helpers are replaced where they download images or need a Go compiler. What runs sees a
terminal, and a mount namespace of its own without the v2 tree that a v1 machine may mount: crun and
podman refuse that.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builds import baseimage

from judges import fetching

HERE = Path(__file__).parent
LIMIT_S = 400
RESULT = re.compile(r"^(ok|not ok) \d+ (?:- )?(.*?)(?:\s+# ?(?i:skip)\b.*)?$")
SKIPPED = re.compile(r"# ?skip\b", re.IGNORECASE)
NEEDED = ("bats", "gcc", "jq", "gawk", "script", "unshare")
# runc's images have neither of these, and its tests put symlinks there.
NOT_IN_IMAGE = ("proc", "sys", "home/app", "etc/passwd", "etc/group")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
}
MENDED = {
    # A letter that no access of a device is, and that runc drops.
    "update.bats": ('"rwa"', '"rwm"'),
    # Its helpers are not there at once.
    "helpers.bash": (
        '--mode null "$CONSOLE_SOCKET" &) &',
        '--mode null "$CONSOLE_SOCKET" &) &\n\tretry 500 0.02 test -S "$CONSOLE_SOCKET"',
    ),
    "seccomp-notify.bats": (
        "\tsetup_seccompagent\n",
        '\tsetup_seccompagent\n\tretry 500 0.02 test -S "$SECCCOMP_AGENT_SOCKET"\n',
    ),
}
WITHOUT_V2 = "umount /sys/fs/cgroup/unified 2>/dev/null; "
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
PODMAN_IMAGE = "quay.io/libpod/testimage:20220615"  # a name; it is made here
PODMAN_CHANGES = (
    "WORKDIR /home/podman",
    'CMD ["/bin/echo", "This container is intended for podman CI testing"]',
    "LABEL created_by=test/system/build-testimage",
    "LABEL created_at=2022-06-15T00:00:00Z",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


@dataclass(frozen=True)
class Outcome:
    """What a suite said. failed: of each test its part of the log."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]


def known(part: str) -> dict[str, str]:
    """Return what testdata/judges.toml says of a suite: test → why ours does not pass it."""
    with (fetching.PROJECT / "testdata/judges.toml").open("rb") as file:
        table: dict[str, str] = tomllib.load(file)[part]
    return table


def all_files(suite: str) -> list[str]:
    """Return the test files of runc's or crun's suite but those that are left out."""
    folder, pattern = {"runc": ("tests/integration", "*.bats"), "crun": ("tests", "test_*.py")}[
        suite
    ]
    names = {path.name for path in (fetching.source(suite) / folder).glob(pattern)}
    return sorted(names - known("left-out").keys())


def missing_tools() -> list[str]:
    """Return the programs that the suites need and this machine does not have."""
    return [name for name in NEEDED if shutil.which(name) is None]


def parse(text: str) -> Outcome:
    """Return what the TAP output `text` says."""
    passed, skipped, failed = [], [], {}
    name = ""
    for line in text.replace("\r", "").splitlines():
        match = RESULT.match(line)
        if match is None:
            if name:
                failed[name] += f"{line}\n"
            continue
        verdict, title = match.groups()
        name = ""
        if verdict == "not ok":
            name = title
            failed[name] = ""
        else:
            (skipped if SKIPPED.search(line) else passed).append(title)
    return Outcome(tuple(passed), tuple(skipped), failed)


def _run(shell: str, folder: Path, env: Mapping[str, str], before: str = "") -> Outcome:
    """Run a shell command in `folder` with a terminal and mounts of its own."""
    inner = f"{before}exec script -qec {_quoted(shell)} /dev/null"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner]
    done = subprocess.run(
        ["timeout", "-k", "10", str(LIMIT_S), *command],
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    outcome = parse(done.stdout)
    if not (outcome.passed or outcome.skipped or outcome.failed):
        outcome.failed["(nothing ran)"] = done.stdout  # type: ignore[index]
    if done.returncode == 124:
        outcome.failed["(it took too long)"] = done.stdout[-2000:]  # type: ignore[index]
    return outcome


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def image(path: Path) -> Path:
    """Write a busybox without /proc and /sys, as runc's tests expect it; return its path."""
    full = path.with_suffix(".full")
    baseimage.write_busybox(full, shutil.which("busybox") or "busybox")
    with tarfile.open(full) as source, tarfile.open(path, "w") as target:
        for member in source:
            if member.name.rstrip("/") not in NOT_IN_IMAGE:
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
        for name, text in ACCOUNTS.items():
            baseimage.add_to_tar(target, baseimage.file_member(name), text.encode())
    full.unlink()
    return path


def runc(runtime: Path, work: Path, files: Sequence[str], debian: Path | None) -> Iterator[Outcome]:
    """Run files of runc's tests/integration. debian: a tar for the one that wants more."""
    tree = work / "runc"
    shutil.copytree(fetching.source("runc"), tree)
    tests = tree / "tests/integration"
    lines = [f"echo BUSYBOX_IMAGE={image(work / 'busybox.tar')}", f"echo DEBIAN_IMAGE={debian}"]
    _write_script(tests / "get-images.sh", "\n".join(["#!/bin/sh", *lines, ""]))
    for name, (old, new) in MENDED.items():
        (tests / name).write_text((tests / name).read_text().replace(old, new))
    for name in ("recvtty", "seccompagent"):
        text = (HERE / f"{name}.py").read_text()
        _write_script(tree / "contrib/cmd" / name / name, f"#!{sys.executable} -IS\n{text}")
    env = {"RUNC": str(runtime), "TMPDIR": str(work)}
    for name in files:
        yield _run(f"bats -t {name} </dev/null", tests, env)


def crun(runtime: Path, work: Path, files: Sequence[str], own: bool = False) -> Iterator[Outcome]:
    """Run files of crun's tests. own: `runtime` is crun and needs no other command line."""
    shutil.copytree(fetching.source("crun") / "tests", work / "tests")
    (work / "config.h").touch()
    init = work / "tests/init"
    build = ["gcc", "-static", f"-I{work}", "-w", "-o", str(init), f"{init}.c"]
    subprocess.run(build, check=True)
    if not own:
        text = (HERE / "crunwords.py").read_text().replace("@RUNTIME@", str(runtime))
        runtime = work / "crun"
        _write_script(runtime, f"#!{sys.executable}\n{text}")
    env = {"OCI_RUNTIME": str(runtime), "INIT": str(init), "TMPDIR": str(work)}
    for name in files:
        yield _run(f"timeout 60 python3 tests/{name}", work, env, WITHOUT_V2)


def podman(runtime: Path, work: Path, files: Sequence[str]) -> Iterator[Outcome]:
    """Run files of podman's test/system, with storage of its own."""
    shutil.copytree(fetching.source("libpod") / "test", work / "test")
    (work / "containers.conf").write_text(CONTAINERS_CONF)
    places = {"root": "root", "runroot": "run", "tmpdir": "libpod", "network-config-dir": "net"}
    words = ["podman", *(f"--{option}={work / name}" for option, name in places.items())]
    words += [f"--runtime={runtime}", "--cgroup-manager=cgroupfs"]
    env = {"CONTAINERS_CONF": str(work / "containers.conf"), "PODMAN": " ".join(words)}
    env["TMPDIR"] = str(work)
    changes = " ".join(f"-c {_quoted(change)}" for change in PODMAN_CHANGES)
    made = f"{' '.join(words)} import {changes} {_podman_image(work)} {PODMAN_IMAGE}"
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{WITHOUT_V2}{made}"],
        env={**os.environ, **env},
        check=True,
        capture_output=True,
    )
    for name in files:
        yield _run(f"bats -t {name} </dev/null", work / "test/system", env, WITHOUT_V2)


def _podman_image(work: Path) -> Path:
    path = work / "image.tar"
    baseimage.write_busybox(path, shutil.which("busybox") or "busybox")
    with tarfile.open(path, "a") as archive:
        for name, mode, text in (
            ("home/podman/testimage-id", 0o644, "20220615\n"),
            ("home/podman/pause", 0o755, "#!/bin/sh\nwhile :; do sleep 0.1; done\n"),
            ("etc/alpine-release", 0o644, "3.16.0\n"),
        ):
            baseimage.add_to_tar(archive, baseimage.file_member(name, mode), text.encode())
    return path


@contextmanager
def left_alone() -> Iterator[None]:
    """Kill what a suite leaves in cgroups that bear its name, and remove them."""
    try:
        yield
    finally:
        _clear(Path("/sys/fs/cgroup"))


def _clear(top: Path) -> None:
    patterns = ("runc-cgroups-integration-test", "pybuild-runtime-test-*", "frozen")
    found = [path for name in patterns for path in top.glob(f"*/{name}") if path.is_dir()]
    folders = [folder for path in found for folder in [*path.rglob("*"), path] if folder.is_dir()]
    for folder in folders:
        if (folder / "freezer.state").exists():
            (folder / "freezer.state").write_text("THAWED")
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), 9)
    for folder in sorted(set(folders), key=lambda path: -len(path.parts)):
        for _ in range(200):
            try:
                folder.rmdir()
                break
            except OSError:
                subprocess.run(["sleep", "0.01"], check=True)
