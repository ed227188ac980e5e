"""Ctrl-C, full disks, changing contexts: the store is clean and the next build is right."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def processes_of(root: Path) -> list[str]:
    """Return the command lines of processes that name or have open something in the store."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            links = [os.readlink(entry) for entry in (folder / "fd").iterdir()]
        except OSError:
            continue
        if int(folder.name) != os.getpid() and any(link.startswith(str(root)) for link in links):
            found.append(command)
    return found


def wait_until_nothing_runs(root: Path) -> None:
    deadline = time.monotonic() + 20
    while (left := processes_of(root)) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    assert not left


def test_ctrl_c_ends_the_build_and_its_containers(
    pybuild, busybox_image, context, store_root
) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN echo begun; trap '' INT TERM; sleep 1000\n"
    )
    build = pybuild.start("-t", "never", context)
    seen = b""
    assert build.stderr is not None
    while b"begun\n#" not in seen and b" begun\n" not in seen:
        seen += os.read(build.stderr.fileno(), 65536)
    os.killpg(build.pid, signal.SIGINT)
    _, rest = build.communicate(timeout=30)
    assert build.returncode == 130
    assert b"Traceback" not in seen + rest
    wait_until_nothing_runs(store_root)
    assert "never:latest" not in pybuild.image_names()
    assert pybuild("system", "check").returncode == 0


def test_a_full_disk_fails_cleanly_and_works_again_with_space(
    pybuild, busybox_rootfs, context, tmp_path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    try:
        env = {"PYBUILD_ROOT": str(disk / "store")}
        pybuild("import", busybox_rootfs, "busybox:test", env=env)
        (context / "Dockerfile").write_text(
            "FROM busybox:test\nRUN echo kept > /kept\nRUN head -c 40000000 /dev/urandom > /big\n"
        )
        for text in ("RUN head -c 40000000 /dev/urandom > /big", "COPY big /big"):
            (context / "Dockerfile").write_text(
                f"FROM busybox:test\nRUN echo kept > /kept\n{text}\n"
            )
            with open(context / "big", "wb") as big:
                big.truncate(0)
                big.write(os.urandom(40_000_000))
            result = pybuild("-t", "x", context, env=env, check=False)
            assert result.returncode == 1
            assert "no space left on device" in result.stderr.lower()
            assert "Traceback" not in result.stderr
            assert pybuild("system", "check", "--deep", env=env).returncode == 0
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        result = pybuild("-t", "x", context, env=env)
        assert "CACHED" in result.stderr
        assert pybuild("run", "--rm", "x", "cat", "/kept", env=env).stdout == "kept\n"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_filled_by_a_container_can_be_freed_and_used(
    pybuild, busybox_rootfs, context, tmp_path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    try:
        env = {"PYBUILD_ROOT": str(disk / "store")}
        pybuild("import", busybox_rootfs, "busybox:test", env=env)
        (context / "Dockerfile").write_text("FROM busybox:test\nRUN echo kept > /kept\n")
        pybuild("-t", "x", context, env=env)
        command = ("busybox:test", "sh", "-c", "head -c 40000000 /dev/urandom > /big")
        assert pybuild("run", "--rm", *command, env=env, check=False).returncode == 1
        # As a process leaves it that is killed before it has deleted what it threw away.
        with open(disk / "store/trash/left", "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(1 << 16))
        result = pybuild("cache", "ls", env=env, check=False)
        assert f"no space left on device on {disk}" in result.stderr
        pruned = pybuild("system", "prune", env=env).stdout
        assert re.search(r"Total reclaimed space: [0-9.]+MB", pruned), pruned
        assert "CACHED" in pybuild("-t", "y", context, env=env).stderr
        pybuild("rmi", "x", "y", env=env)
        assert pybuild("system", "check", "--deep", env=env).stdout == "clean\n"
        wait_until_nothing_runs(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_builds_at_once_run_a_step_once(pybuild, busybox_image, context, tmp_path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN cat /proc/sys/kernel/random/uuid > /uuid; sleep 1\n"
    )
    builds = [pybuild.start("-t", f"x:{number}", context) for number in range(4)]
    outputs = [build.communicate(timeout=60)[1] for build in builds]
    assert [build.returncode for build in builds] == [0] * 4, outputs
    uuids = {pybuild("run", "--rm", f"x:{n}", "cat", "/uuid").stdout for n in range(4)}
    assert len(uuids) == 1


def test_a_context_that_changes_while_it_is_copied_is_never_recorded_wrong(
    pybuild, busybox_image, context, store_root
) -> None:
    """A file rewritten again and again during builds: every image holds what its record says."""
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nCOPY data /data\nRUN sha256sum /data/* > /sums\n"
    )
    shutil.rmtree(context / "data", ignore_errors=True)
    (context / "data").mkdir()
    writer = subprocess.Popen(
        ["sh", "-c", f"i=0; while :; do i=$((i+1)); printf %08d $i > {context}/data/f; done"]
    )
    try:
        results = [pybuild("-t", f"x:{n}", context, check=False) for n in range(5)]
    finally:
        writer.kill()
        writer.wait()
    for number, result in enumerate(results):
        if result.returncode != 0:
            assert "keeps changing" in result.stderr
            continue
        out = pybuild(
            "run", "--rm", f"x:{number}", "sh", "-c", "sha256sum /data/*; cat /sums"
        ).stdout
        assert len(set(out.splitlines())) == 1
    (context / "data/f").write_text("settled")
    pybuild("-t", "last", context)
    assert pybuild("run", "--rm", "last", "cat", "/data/f").stdout == "settled"
