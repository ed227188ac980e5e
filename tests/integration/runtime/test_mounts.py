"""Mounts of the caller's: binds, memory, files, snapshots; and the mount points made for them."""

import os
import subprocess
from pathlib import Path

import pytest

from runtime.errors import InvalidSpec, MountFailed
from runtime.executor import Bind, FileMount, Tmpfs
from store.mount import OverlayMount

pytestmark = pytest.mark.kernel


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("text\n")
    return folder


def test_nothing_lands_in_the_layer(run, snapshot):
    assert run("true", hostname="box").code == 0
    assert snapshot.changed() == []


def test_nothing_lands_in_the_layer_of_an_empty_image(run, snapshot):
    """No stubs and no /etc: the mount points are made, and taken away again."""
    program = snapshot.base / "program"
    program.mkdir()
    os.link(snapshot.layer / "bin/busybox", program / "busybox")
    mount = OverlayMount(str(snapshot.base), ("program",), "upper", "work")
    ran = run(("/busybox", "ls", "/", "/etc"), mount=mount, hostname="box")
    assert ran.out.split() == [
        *("/:", "busybox", "dev", "etc", "proc", "sys"),
        *("/etc:", "hostname", "hosts", "resolv.conf"),
    ]
    assert snapshot.changed() == []


def test_writing_to_generated_files_changes_no_layer(run, snapshot):
    assert run("echo x >> /etc/hosts && echo y > /etc/resolv.conf").code == 0
    assert snapshot.changed() == []


def test_bind_of_a_folder(run, folder):
    ran = run(
        "cat /mnt/in/file; echo new > /mnt/in/new; touch /tmp/made",
        binds=(Bind(str(folder), "/mnt/in"),),
    )
    assert (ran.out, ran.code) == ("text\n", 0)
    assert (folder / "new").read_text() == "new\n"


def test_bind_of_a_folder_of_the_store_itself(run, snapshot):
    cache = snapshot.base / "caches/one"
    cache.mkdir(parents=True)
    assert run("touch /cache/x", binds=(Bind(str(cache), "/cache"),)).code == 0
    assert (cache / "x").exists()


def test_bind_of_a_file(run, folder):
    ran = run(
        "cat /etc/x/file; echo more >> /etc/x/file",
        binds=(Bind(str(folder / "file"), "/etc/x/file"),),
    )
    assert ran.out == "text\n"
    assert (folder / "file").read_text() == "text\nmore\n"


def test_read_only_bind_and_what_is_mounted_below_it(run, folder, tmp_path):
    script = "touch /in/x || echo refused; touch /in/sub/y || echo refused"
    subprocess.run(["mount", "-t", "tmpfs", "x", str(folder / "sub")], check=True)
    try:
        assert run(script, binds=(Bind(str(folder), "/in", read_only=True),)).out == "refused\n" * 2
        assert run(script, binds=(Bind(str(folder), "/in"),)).code == 0
        assert (folder / "sub/y").exists()
    finally:
        subprocess.run(["umount", str(folder / "sub")], check=True)


def test_mounts_inside_mounts_in_any_order(run, folder):
    binds = (
        Bind(str(folder / "file"), "/a/b/c"),
        Tmpfs("/a/b"),
        Bind(str(folder), "/a"),
    )
    assert run("cat /a/b/c; ls /a/b", binds=binds).out == "text\nc\n"


def test_tmpfs(run):
    ran = run(
        "cat /proc/mounts; busybox stat -c %a /scratch",
        binds=(Tmpfs("/scratch", 1 << 20, 0o755),),
    )
    (line,) = [line for line in ran.out.splitlines() if " /scratch " in line]
    assert "size=1024k" in line
    assert ran.out.endswith("755\n")


def test_file_in_memory(run, snapshot):
    secret = FileMount("/run/secrets/key", b"s3cret", 0o400, 1000, 1000)
    script = "cat /run/secrets/key; busybox stat -c ' %a %u:%g' /run/secrets/key"
    assert run(script, binds=(secret,), user="app").out == "s3cret 400 1000:1000\n"
    assert run("echo x > /run/secrets/key || echo refused", binds=(secret,)).out == "refused\n"
    (line,) = run("grep /run/secrets/key /proc/mounts", binds=(secret,)).out.splitlines()
    assert {"ro", "nosuid", "nodev", "noexec"} < set(line.split()[3].split(","))
    program = FileMount("/dev/pipes/x", b"#!/bin/sh\necho $0\n", 0o755)
    assert run("/dev/pipes/x", binds=(program,)).out == "/dev/pipes/x\n"
    assert snapshot.changed() == []
    found = subprocess.run(["grep", "-rl", "s3cret", str(snapshot.base)], capture_output=True)
    assert found.stdout == b""


def test_path_of_another_snapshot(run, snapshot):
    other = snapshot.base / "other/deep"
    other.mkdir(parents=True)
    (other / "file").write_text("of the other\n")
    (snapshot.base / "other/link").symlink_to("/deep")
    (snapshot.base / "other/out").symlink_to("../" * 9 + "etc")
    view = OverlayMount(str(snapshot.base), ("other", "stubs"))
    for subpath in ("deep", "/link", ""):
        bind = Bind(view, "/in", read_only=True, subpath=subpath)
        path = "/in/file" if subpath else "/in/deep/file"
        assert run(f"cat {path}; touch /in/x", binds=(bind,)).out == "of the other\n"
    inside = run("ls /in", binds=(Bind(view, "/in", subpath="out"),)).out
    assert inside.split() == ["hostname", "hosts", "resolv.conf"]  # the stubs' etc, not the host's


def test_mount_points_are_removed_and_times_put_back(run, snapshot, folder):
    home = snapshot.layer / "home/app"
    os.utime(home, (1_000_000_000, 1_000_000_000))
    binds = (
        Bind(str(folder), "/home/app/.cache/deep"),
        Bind(str(folder / "file"), "/home/app/.netrc"),
    )
    assert run("cat /home/app/.netrc", binds=binds).out == "text\n"
    assert [p for p in snapshot.changed() if "cache" in p or "netrc" in p] == []
    if (snapshot.upper / "home/app").exists():
        assert (snapshot.upper / "home/app").stat().st_mtime == 1_000_000_000


def test_mount_points_that_the_container_filled_stay(run, snapshot, folder):
    run(
        "touch /new/beside",
        binds=(Bind(str(folder), "/new/inner"),),
    )
    assert snapshot.changed() == ["new", "new/beside"]


def test_targets_are_resolved_inside_the_root(run, snapshot, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (snapshot.layer / "way").symlink_to("../" * 9 + str(outside))
    try:
        run("ls /way", binds=(Bind(str(folder), "/way/in"),))
    except MountFailed:
        assert not (snapshot.upper / "way/in").exists()
    assert list(outside.iterdir()) == []


def test_errors_name_the_mount(run, folder):
    with pytest.raises(MountFailed, match="/no/such"):
        run("true", binds=(Bind("/no/such", "/in"),))
    with pytest.raises(MountFailed, match="cannot mount a file: the mount point is a directory"):
        run("true", binds=(Bind(str(folder / "file"), "/bin"),))
    with pytest.raises(InvalidSpec, match="below /"):
        run("true", binds=(Bind(str(folder), "/"),))


def test_resolv_conf_and_hosts(run):
    ran = run("cat /etc/resolv.conf", dns=("9.9.9.9",))
    assert "nameserver 9.9.9.9\n" in ran.out
    ran = run("cat /etc/hosts", extra_hosts=(("db", "10.0.0.7"),))
    assert "10.0.0.7\tdb\n" in ran.out
    assert run("cat /etc/resolv.conf").out == Path("/etc/resolv.conf").read_text()
