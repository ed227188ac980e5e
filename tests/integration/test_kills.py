"""SIGKILL at any moment: the store is clean, nothing is left, the next build goes on from there.

What a step reported as done is CACHED afterwards, and the image is what an undisturbed build makes:
the files of the steps have fixed times, so their layers are the same ones.
"""

import ctypes
import fcntl
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

OLD = "'2020-01-01 00:00:00'"
STEPS = f"""\
FROM busybox:test AS one
COPY data /data
RUN --mount=type=cache,target=/cache cat /data/* > /sum && cp /sum /cache/sum && touch -d {OLD} /sum
ADD added.tar /added/
FROM busybox:test AS two
WORKDIR /w
RUN echo two > /w/two && touch -d {OLD} /w/two /w
FROM busybox:test
COPY --from=one /sum /one
COPY --from=two /w /two
RUN --mount=from=one,target=/m mkdir /three && cp -r /m/added /two /three && \
    find /three -exec touch -d {OLD} {{}} +
RUN rm -r /tmp && mkdir -m 1777 /tmp && cat /one /three/two/two > /all && touch -d {OLD} /all /tmp
"""
ALL = "".join(f"{number}\n" * 1000 for number in range(30)) + "two\n"
PR_SET_CHILD_SUBREAPER = 36
LAUNCHER = "from runtime.launch.parent import main"
TIMEOUT_S = 20.0


def write_steps(context: Path) -> None:
    """Make a build of eight steps and more in three stages."""
    (context / "Dockerfile").write_text(STEPS)
    (context / "data").mkdir()
    for number in range(30):
        (context / f"data/{number:02}").write_text(f"{number}\n" * 1000)
    with tarfile.open(context / "added.tar", "w") as archive:
        for number in range(20):
            member = tarfile.TarInfo(f"f{number}")
            member.size = 10_000
            archive.addfile(member, io.BytesIO(bytes(10_000)))


def children_of(pid: int) -> Iterator[int]:
    """Yield the pids of all descendants of a process."""
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ends while we look
            for child in map(int, tasks.read_text().split()):
                yield child
                yield from children_of(child)


class Traces:
    """What builds may leave outside the store's folder: processes, mounts, cgroups, namespaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Whose parent dies becomes our child, so that nobody gets lost.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.mounts = self._mounts()

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(self.root) in line or " - nsfs " in line]

    def cgroups(self) -> list[str]:
        """Return leaves without a process: other tests' live ones are not ours to judge."""
        leaves = [*Path("/sys/fs/cgroup").glob("pybuild/*/cgroup.procs")]
        leaves += Path("/sys/fs/cgroup").glob("*/pybuild/*/cgroup.procs")
        return [str(leaf) for leaf in leaves if is_dead(leaf.parent)]

    def wait_for_processes(self) -> None:
        """Wait until every process that a build started has ended, and reap it."""
        deadline = time.monotonic() + TIMEOUT_S
        while left := list(children_of(os.getpid())):
            if time.monotonic() > deadline:
                pytest.fail(f"left running: {[command_of(pid) for pid in left]}")
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            select.select([], [], [], 0.01)

    def check(self) -> None:
        """Fail unless nothing is left; cgroups go when the next container starts."""
        self.wait_for_processes()
        assert self._mounts() == self.mounts


def is_dead(leaf: Path) -> bool:
    """Return whether no launcher holds a cgroup."""
    try:
        fd = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.fixture
def store_root(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a new store in memory: a kill, unlike a power cut, asks no disk."""
    memory = tmp_path / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", memory], check=True)
    yield memory / "store"
    subprocess.run(["umount", memory], check=True)  # refused while something is mounted below


@pytest.fixture
def traces(store_root: Path) -> Iterator[Traces]:
    """Return what finds the traces of builds; afterwards there must be none."""
    found = Traces(store_root)
    yield found
    found.check()


@pytest.fixture
def fresh_store(pybuild, busybox_image: str, store_root: Path) -> Callable[[], None]:
    """Return a function that makes the store one with nothing but the base image again."""
    kept = store_root.with_name("kept")
    shutil.copytree(store_root, kept, symlinks=True)

    def make() -> None:
        shutil.rmtree(store_root)
        shutil.copytree(kept, store_root, symlinks=True)

    return make


def identity(pybuild, name: str) -> dict[str, object]:
    """Return an image's config without the times at which its steps ran."""
    (found,) = json.loads(pybuild("inspect", name).stdout)
    algorithm, _, digest = found["Id"].partition(":")
    config = json.loads((pybuild.root / "blobs" / algorithm / digest).read_bytes())
    del config["created"]
    for entry in config["history"]:
        del entry["created"]
    return config


def ended(output: str, word: str) -> set[str]:
    """Return the names of the steps that a build's plain progress says ended so."""
    names = dict(re.findall(r"^#(\d+) (\[.+)$", output, re.M))
    numbers = re.findall(rf"^#(\d+) {word}", output, re.M)
    return {names[number] for number in numbers if number in names} - INTERNAL


INTERNAL = {"[internal] load build definition from Dockerfile", "[internal] load .dockerignore"}


def check_goes_on(pybuild, context: Path, killed: str, undisturbed: dict[str, object]) -> None:
    """Check the store, and that a build after `killed` takes over its steps and ends right."""
    found = pybuild("system", "check", "--deep", check=False)
    assert (found.returncode, found.stdout) == (0, "clean\n")
    result = pybuild("--progress=plain", "-t", "next", context)
    assert ended(killed, "(DONE|CACHED)") <= ended(result.stderr, "CACHED"), (
        f"killed:\n{killed}\nnext:\n{result.stderr}"
    )
    assert identity(pybuild, "next") == undisturbed


ENDED = re.compile(rb"^#\d+ (?:DONE|CACHED)", re.M)


@dataclass(frozen=True, slots=True)
class Course:
    """When each step of a build ended, by its plain progress, and when the build did; seconds."""

    ends: tuple[float, ...]
    whole: float

    @classmethod
    def of(cls, build: "subprocess.Popen[bytes]") -> "Course":
        """Follow a build that was just started to its end."""
        began = time.monotonic()
        ends: list[float] = []
        assert build.stderr is not None
        seen = b""
        while data := os.read(build.stderr.fileno(), 65536):
            seen += data
            ends += [time.monotonic() - began] * (len(ENDED.findall(seen)) - len(ends))
        build.communicate()
        assert build.returncode == 0, seen.decode()
        return cls(tuple(ends), time.monotonic() - began)

    def kill(self, build: "subprocess.Popen[bytes]", share: float) -> tuple[bool, bytes]:
        """Kill a build after this share of its course; return whether it still ran, and its words.

        The moment is counted from the last step that had ended by then: a machine that is busy
        delays both.
        """
        moment = self.whole * share
        before = [0.0, *(end for end in self.ends if end < moment)]
        seen = b""
        assert build.stderr is not None
        while len(ENDED.findall(seen)) < len(before) - 1:
            data = os.read(build.stderr.fileno(), 65536)
            if not data:
                break
            seen += data
        try:
            build.wait(moment - before[-1])
        except subprocess.TimeoutExpired:
            build.kill()
            return True, seen + build.communicate()[1]
        return False, seen + build.communicate()[1]


def test_kills_spread_over_a_build(pybuild, context, fresh_store, traces, rounds) -> None:
    write_steps(context)
    course = Course.of(pybuild.start("--progress=plain", "-t", "undisturbed", context))
    undisturbed = identity(pybuild, "undisturbed")
    assert pybuild("run", "--rm", "undisturbed", "cat", "/all").stdout == ALL
    count = rounds(200, 10)
    killed = with_steps = 0
    while killed < count:
        fresh_store()
        build = pybuild.start("--progress=plain", "-t", "killed", context)
        in_time, words = course.kill(build, (killed + 0.5) / count)
        output = words.decode()
        traces.check()
        check_goes_on(pybuild, context, output, undisturbed)
        with_steps += bool(ended(output, "DONE"))
        if in_time:
            killed += 1
        else:  # faster than the one that was followed: aim again
            fresh_store()
            course = Course.of(pybuild.start("--progress=plain", "-t", "again", context))
    assert with_steps > 0  # else this has shown nothing of what is committed
    assert not traces.cgroups()


def checkpoints(project: Path) -> list[str]:
    """Return the names of all commit points, from the source."""
    names: set[str] = set()
    for path in (project / "store").glob("*.py"):
        names |= set(re.findall(r'\bcheckpoint\("([^"]+)"\)', path.read_text()))
    assert names
    return sorted(names)


# Those of other commands, and of builds that fail: other tests kill there, see test_kills.py of the
# store, test_store_kill.py and test_enter.py.
NOT_IN_A_BUILD = {"chain-composed", "image-removed", "image-unnamed", "layer-unpacked"}
NOT_IN_A_BUILD |= {"reference-removed", "snapshot-kept"}


def test_a_kill_at_every_commit_point(
    pybuild, context, fresh_store, traces, project, rounds
) -> None:
    write_steps(context)
    pybuild("-t", "undisturbed", context)
    undisturbed = identity(pybuild, "undisturbed")
    reached = set()
    times = rounds(3, 1)
    for name in checkpoints(project):
        for occurrence in (1, 3, 5)[:times]:
            fresh_store()
            result = pybuild(
                "--progress=plain",
                "-t",
                "killed",
                context,
                env={"PYBUILD_STORE_KILL_AT": f"{name}:{occurrence}"},
                check=False,
            )
            if result.returncode != -signal.SIGKILL:
                assert result.returncode == 0
                break
            reached.add(name)
            traces.check()
            check_goes_on(pybuild, context, result.stderr, undisturbed)
    assert set(checkpoints(project)) - reached == NOT_IN_A_BUILD


def wait_for_output(build: "subprocess.Popen[bytes]", *wanted: bytes) -> bytes:
    """Read a build's progress until it says all of `wanted`; return what was read."""
    assert build.stderr is not None
    seen = b""
    while not all(text in seen for text in wanted):
        data = os.read(build.stderr.fileno(), 65536)
        assert data, seen.decode()
        seen += data
    return seen


PARALLEL = """\
FROM busybox:test AS a
RUN echo done-before > /a
RUN echo running-a; sleep 1000
FROM busybox:test AS b
RUN echo running-b; sleep 1000
FROM busybox:test AS c
RUN echo running-c; trap '' TERM INT HUP; (sleep 1000 &) ; sleep 1000
FROM busybox:test
COPY --from=a /a /a
COPY --from=b /a /b
COPY --from=c /a /c
"""


def test_a_kill_during_parallel_steps(pybuild, busybox_image, context, traces) -> None:
    (context / "Dockerfile").write_text(PARALLEL)
    build = pybuild.start("--progress=plain", "--jobs", "4", context)
    wait_for_output(build, *(f" running-{name}\n".encode() for name in "abc"))
    assert len(list(children_of(build.pid))) >= 6  # three launchers and three containers
    build.kill()
    build.communicate()
    traces.check()
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    (context / "Dockerfile").write_text(PARALLEL.replace("sleep 1000", "echo > /a"))
    result = pybuild("--progress=plain", "-t", "x", context)
    assert "[a 2/3] RUN echo done-before > /a" in ended(result.stderr, "CACHED")
    traces.wait_for_processes()
    assert not traces.cgroups()


def launchers_of(pid: int) -> list[int]:
    """Return the launchers below a process that have a container."""
    found = [child for child in children_of(pid) if LAUNCHER in command_of(child)]
    return [child for child in found if list(children_of(child))]


def test_a_killed_launcher_fails_its_step(pybuild, busybox_image, context, traces) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox:test\nRUN echo kept > /kept\nRUN echo running; sleep 1000\n"
    )
    build = pybuild.start("--progress=plain", context)
    wait_for_output(build, b" running\n")
    (launcher,) = launchers_of(build.pid)
    os.kill(launcher, signal.SIGKILL)
    output = build.communicate(timeout=TIMEOUT_S)[1].decode()
    assert build.returncode == 1
    assert "Traceback" not in output
    assert re.search(r"^error: .*RUN|^error: .*launcher|^error: .*process", output, re.M), output
    traces.check()
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    (context / "Dockerfile").write_text(
        "FROM busybox:test\nRUN echo kept > /kept\nRUN echo running\n"
    )
    result = pybuild("--progress=plain", context)
    assert "[2/3] RUN echo kept > /kept" in ended(result.stderr, "CACHED")
    assert not traces.cgroups()


def test_two_builds_killed_at_once(pybuild, context, fresh_store, traces, rounds) -> None:
    write_steps(context)
    course = Course.of(pybuild.start("--progress=plain", "-t", "undisturbed", context))
    undisturbed = identity(pybuild, "undisturbed")
    count = rounds(20, 2)
    for number in range(count):
        fresh_store()
        builds = [pybuild.start("--progress=plain", "-t", f"k:{n}", context) for n in range(2)]
        _, output = course.kill(builds[0], (number + 0.5) / count)
        builds[1].kill()
        output += builds[1].communicate()[1]
        traces.check()
        assert pybuild("system", "check", "--deep").stdout == "clean\n", output.decode()
        pybuild("-t", "next", context)
        assert identity(pybuild, "next") == undisturbed


def test_a_build_that_waits_goes_on_when_the_other_is_killed(
    pybuild, busybox_image, context, tmp_path, traces
) -> None:
    """The step waits for a file the first time only, so the second build has to run it itself."""
    (context / "Dockerfile").write_text(
        "FROM busybox:test\n"
        "RUN --mount=type=cache,target=/c "
        "echo running; [ -e /c/f ] || { touch /c/f; sleep 1000; }\n"
    )
    first = pybuild.start("--progress=plain", context)
    wait_for_output(first, b" running\n")
    second = pybuild.start("--progress=plain", "-t", "second", context)
    wait_for_output(second, b"RUN --mount")
    first.kill()
    first.communicate()
    output = second.communicate(timeout=TIMEOUT_S)[1].decode()
    assert second.returncode == 0, output
    assert " running\n" in output
    traces.check()


def test_twenty_builds_at_once(pybuild, context, fresh_store, traces) -> None:
    write_steps(context)
    pybuild("-t", "undisturbed", context)
    undisturbed = identity(pybuild, "undisturbed")
    fresh_store()
    builds = [pybuild.start("--progress=plain", "-t", f"x:{n}", context) for n in range(20)]
    outputs = [build.communicate(timeout=120)[1].decode() for build in builds]
    assert [build.returncode for build in builds] == [0] * 20, outputs
    done = [name for output in outputs for name in ended(output, "DONE")]
    assert len(done) == len(set(done)), "a step was run twice"
    listed = pybuild("images", "--format", "{{.Repository}} {{.ID}}").stdout.splitlines()
    assert len({line for line in listed if line.startswith("x ")}) == 1
    assert identity(pybuild, "x:7") == undisturbed
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    traces.check()
