"""Steps side by side: what runs at the same time, what runs once, how a build stops."""

import fcntl
import signal
import struct
import termios
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

# A directory that all steps of a build see.
SHARED = "RUN --mount=type=cache,id=meeting,target=/m"


def containers_of(root: Path) -> list[str]:
    """Return the command lines of processes that work in a store, other than ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f" {root}/" in path.read_text() or f"={root}/" in path.read_text():
                found.append((path.parent / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return found


def read_until(stream, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        data = stream.read1()
        assert data, seen.decode(errors="replace")
        seen += data
    return seen


def test_four_steps_meet(pybuild, busybox_image, context) -> None:
    """Each waits for the other three: with fewer slots the build would never end."""
    stages = [
        f"FROM {busybox_image} AS s{n}\n"
        f"{SHARED} touch /m/{n}; until [ $(ls /m | wc -l) = 4 ]; do sleep 0.01; done\n"
        for n in range(4)
    ]
    copies = [f"COPY --from=s{n} /etc/passwd /{n}\n" for n in range(4)]
    (context / "Dockerfile").write_text("".join([*stages, f"FROM {busybox_image}\n", *copies]))
    pybuild(context)


def test_equal_steps_of_different_stages_run_once(pybuild, busybox_image, context) -> None:
    stages = [
        f"FROM {busybox_image} AS s{n}\n{SHARED} echo ran >> /m/count\nRUN echo {n} > /own\n"
        for n in range(3)
    ]
    copies = [f"COPY --from=s{n} /own /{n}\n" for n in range(3)]
    last = f"FROM {busybox_image}\n{''.join(copies)}{SHARED} cat /m/count > /count\n"
    (context / "Dockerfile").write_text("".join([*stages, last]))
    pybuild("-t", "once", context)
    assert pybuild("run", "--rm", "once", "cat", "/count", "/0", "/2").stdout == "ran\n0\n2\n"


def test_what_took_longest_is_begun_first(pybuild, busybox_image, context) -> None:
    """One slot; the way that was long in the first build comes first in the second."""
    stages = [
        f"FROM {busybox_image} AS s{n}\n{SHARED} echo {n} >> /m/order; sleep {n}\n" for n in (0, 1)
    ]
    last = (
        f"FROM {busybox_image}\nCOPY --from=s0 /etc/passwd /0\nCOPY --from=s1 /etc/passwd /1\n"
        f"{SHARED} cat /m/order > /order; rm /m/order\n"
    )
    (context / "Dockerfile").write_text("".join([*stages, last]))
    for wanted in ("0\n1\n", "1\n0\n"):
        pybuild("--jobs=1", "--no-cache", "-t", "order", context)
        assert pybuild("run", "--rm", "order", "cat", "/order").stdout == wanted


def test_a_failure_stops_the_others(pybuild, busybox_image, context, store_root) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS slow\n{SHARED} touch /m/slow; trap '' TERM INT; sleep 1000\n"
        f"FROM {busybox_image} AS bad\n"
        f"{SHARED} until [ -e /m/slow ]; do sleep 0.01; done; echo last words; exit 9\n"
        f"FROM {busybox_image}\nCOPY --from=slow / /\nCOPY --from=bad / /\n"
    )
    failed = pybuild("-t", "never", context, check=False)
    assert failed.returncode == 1
    ends = [line.partition(" ")[2] for line in failed.stderr.splitlines() if line[0:1] == "#"]
    assert "CANCELED" in ends
    assert any(end.startswith("ERROR: process ") for end in ends)
    assert failed.stderr.count("\nerror: ") == 1
    assert "exit code: 9" in failed.stderr
    assert containers_of(store_root) == []
    # The step that failed can be entered; nothing is left of those that were stopped.
    (kept,) = store_root.glob("snapshots/*")
    assert (kept / "kept").exists()
    assert pybuild("system", "check").returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_build(
    number: signal.Signals, code: int, pybuild, busybox_image, context, store_root
) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN trap '' TERM INT; echo on; sleep 1000\n"
    )
    build = pybuild.start("-t", "never", context)
    read_until(build.stderr, b" on\n")
    build.send_signal(number)
    out, rest = build.communicate(timeout=30)
    assert build.returncode == code
    assert b"CANCELED" in rest
    assert rest.endswith(b"build canceled\n")
    assert out == b""
    assert containers_of(store_root) == []
    assert not list(store_root.glob("snapshots/*"))


def test_a_second_signal_ends_it_at_once(pybuild, busybox_image, context, store_root) -> None:
    """The step hangs in writing, because nobody reads: it cannot be stopped in order."""
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN yes\n")
    build = pybuild.start(context)
    assert build.stderr is not None
    size = fcntl.fcntl(build.stderr, fcntl.F_GETPIPE_SZ)
    waiting = 0
    while waiting <= size - 4096:
        (waiting,) = struct.unpack("i", fcntl.ioctl(build.stderr, termios.FIONREAD, bytes(4)))
    # In the same moment, and once: whichever thread the kernel gives the second to.
    build.send_signal(signal.SIGINT)
    build.send_signal(signal.SIGTERM)
    assert build.wait(30) in (130, 143)
    build.communicate()
    while containers_of(store_root):
        pass
    assert pybuild("system", "check").returncode == 0


def test_what_nobody_needs_is_not_materialised(pybuild, busybox_image, context, store_root) -> None:
    """From the cache not a file of any layer is read; a stage beside the way is not looked at."""
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS made\n{SHARED} echo made >> /m/count; echo made > /made\n"
        f"FROM 127.0.0.1:1/nowhere AS beside\n{SHARED} echo beside >> /m/count\n"
        f"FROM {busybox_image}\nCOPY --from=made /made /\nWORKDIR /w\n"
        f"{SHARED} cp /m/count /count\n"
    )
    first = pybuild("-q", "-t", "x", context).stdout
    trees = sorted(store_root.glob("layers/sha256/*/fs"))
    assert len(trees) >= 4
    for tree in trees:
        tree.rename(tree.with_name("away"))
    again = pybuild("--iidfile", context / "id", context)
    assert f"{(context / 'id').read_text()}\n" == first
    assert again.stderr.count("CACHED\n") == 5
    for tree in trees:
        tree.with_name("away").rename(tree)
    assert pybuild("run", "--rm", "x", "cat", "/count").stdout == "made\n"
