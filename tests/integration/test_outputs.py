"""`build --output`: folders, tars and archives, and what other tools make of them."""

import functools
import http.server
import io
import json
import os
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM busybox:test AS base
RUN rm /bin/vi /bin/ed
FROM scratch
COPY --from=base /bin/busybox /bin/busybox
COPY --chown=1000:50 --chmod=4711 file /dir/file
COPY --from=base /etc /etc
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN cd /dir && ln file hard && ln -s /etc/passwd soft && mkfifo -m 640 pipe && rm /etc/group
CMD ["/bin/busybox", "cat", "/dir/file"]
"""


@pytest.fixture
def made(pybuild, busybox_image, context: Path) -> Path:
    """Return the context of a build of several layers, with links, owners and a deletion."""
    (context / "file").write_text("content\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    return context


def tree(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return path → kind and mode, owner, link count of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(folder))
        found[name] = (stat.filemode(status.st_mode), status.st_uid, status.st_nlink)
    return found


@pytest.mark.parametrize("short", [True, False])
def test_local(pybuild, made: Path, tmp_path: Path, short: bool) -> None:
    out = tmp_path / "new" / "out"
    words = ["-o", str(out)] if short else ["--output", f"type=local,dest={out}"]
    done = pybuild("build", *words, made)
    assert "exporting to client directory" in done.stderr
    seen = tree(out)
    assert seen["dir/file"] == ("-rws--x--x", os.geteuid(), 2)
    assert seen["dir/hard"] == seen["dir/file"]
    assert (out / "dir/file").stat().st_ino == (out / "dir/hard").stat().st_ino
    assert os.readlink(out / "dir/soft") == "/etc/passwd"
    assert seen["dir/pipe"][0] == "prw-r-----"
    assert "etc/group" not in seen, "a deletion is none of a file's"
    assert sorted(os.listdir(out)) == ["bin", "dir", "etc"]
    assert pybuild.image_names() == {"busybox:test"}, "no image is made"


def test_local_merges_with_what_is_there(pybuild, made: Path, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (out / "dir" / "file").mkdir(parents=True)
    (out / "dir" / "mine").write_text("kept\n")
    (out / "etc").symlink_to(outside)
    pybuild("build", "-o", out, made)
    pybuild("build", "-o", out, made)
    assert (out / "dir/file").read_text() == "content\n"
    assert (out / "dir/mine").read_text() == "kept\n"
    assert (out / "etc/passwd").is_file()
    assert list(outside.iterdir()) == [], "no link of the folder leads out of it"
    assert sorted(os.listdir(out)) == ["bin", "dir", "etc"]


def test_local_clears_what_is_not_in_the_result(pybuild, made: Path, tmp_path: Path) -> None:
    work, out, outside = tmp_path / "work", tmp_path / "work/out", tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    pybuild("-o", f"type=local,dest={out}", made)
    wanted = sorted(path.relative_to(out) for path in out.rglob("*"))
    folder = next(path for path in sorted(out.iterdir()) if path.is_dir() and any(path.iterdir()))
    (folder / "old").write_text("old")
    (out / "old/deep").mkdir(parents=True)
    (out / "link").symlink_to(outside)
    words = ["-o", f"type=local,dest={out},mode=delete"]
    refused = pybuild(*words, made, cwd=outside, check=False)
    assert refused.returncode == 1
    assert "is not inside of the working directory" in refused.stderr
    assert (out / "old").exists()
    pybuild(*words, made, cwd=work)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == wanted
    assert (outside / "kept").exists(), "no link is followed"
    (out / "old").write_text("old")
    pybuild(*words, "--allow=buildx.local.delete", made, cwd=outside)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == wanted


def test_tar_and_stdout_are_the_same(pybuild, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tar"
    pybuild("build", "--output", f"type=tar,dest={path}", made)
    streamed = subprocess.run(
        pybuild.command("build", "-o", "-", made),
        env=pybuild.full_environment({}),
        capture_output=True,
        check=True,
    )
    assert streamed.stdout == path.read_bytes()
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
    assert [*members] == sorted(members)
    assert (members["dir/file"].uid, members["dir/file"].gid) == (1000, 50)
    assert members["dir/file"].mode == 0o4711
    assert (members["dir/hard"].type, members["dir/hard"].linkname) == (b"1", "dir/file")
    assert members["dir/pipe"].isfifo()
    assert members["dir/soft"].linkname == "/etc/passwd"
    assert "etc/group" not in members
    pybuild("import", path, "again:1")
    shown = pybuild("run", "--rm", "again:1", "/bin/busybox", "cat", "/dir/hard")
    assert shown.stdout == "content\n"


def test_docker_archive(pybuild, made: Path, tmp_path: Path, peers) -> None:
    path = tmp_path / "image.tar"
    pybuild("build", "-t", "made:1", "-o", f"type=docker,dest={path}", made)
    seen = json.loads(peers("skopeo")("inspect", "--config", f"docker-archive:{path}"))
    image = pybuild("inspect", "-f", "{{json .RootFS.Layers}}", "made:1").stdout
    assert seen["rootfs"]["diff_ids"] == json.loads(image)
    podman = peers("podman")
    assert "made:1" in podman("load", "-i", path)
    assert podman("run", "--rm", "--network=none", "made:1") == "content\n"


def test_docker_without_dest_is_the_store(pybuild, made: Path) -> None:
    pybuild("build", "-t", "made:1", "-o", "type=docker", made)
    assert "made:1" in pybuild.image_names()


def test_oci_layout_as_a_folder(pybuild, made: Path, tmp_path: Path, tool, peers) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    pybuild("build", "-t", "made:1", "-o", f"type=oci,tar=false,dest={layout}", made)
    assert peers("skopeo")("inspect", "--raw", f"oci:{layout}:1")
    umoci = [tool("umoci"), "unpack", "--image", f"{layout}:1", str(bundle)]
    subprocess.run(umoci, check=True, capture_output=True)
    status = (bundle / "rootfs/dir/file").stat()
    assert (status.st_uid, status.st_gid) == (1000, 50)
    loaded = pybuild("load", "-i", layout)
    assert loaded.stdout == "Loaded image: made:1\n"


def test_several_outputs_of_one_build(pybuild, made: Path, tmp_path: Path) -> None:
    pybuild(
        "build",
        *("-t", "made:1", "-o", f"type=tar,dest={tmp_path}/a.tar", "-o", f"{tmp_path}/b"),
        *("-o", "type=image"),
        made,
    )
    assert (tmp_path / "a.tar").stat().st_size > 0
    assert (tmp_path / "b/dir/file").is_file()
    assert "made:1" in pybuild.image_names()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=local", "dest is required"),
        ("type=local,dest=-", "dest cannot be stdout"),
        ("type=local,dest=plain", "destination directory plain is a file"),
        ("type=tar,dest=folder", "destination file folder is a directory"),
        ("type=oci,dest=folder", "destination file folder is a directory"),
        ("type=oci,tar=false,dest=plain", "destination directory plain is a file"),
        ("type=docker,dest=none/x.tar", "none/x.tar: no such file or directory"),
        ("type=tar,dest=plain/x.tar", "not a directory"),
    ],
)
def test_bad_destinations_stop_before_the_build(
    pybuild, made: Path, tmp_path: Path, output: str, message: str
) -> None:
    work = tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    (work / "plain").write_text("precious")
    done = pybuild("build", "--output", output, made, cwd=work, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "RUN" not in done.stderr
    assert sorted(os.listdir(work)) == ["folder", "plain"]
    assert (work / "plain").read_text() == "precious"


def test_a_full_disk_leaves_nothing_half_made(pybuild, made: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = f"""
        mount -t tmpfs -o size=64k tmpfs {small} || exit 99
        "$@" -o type=local,dest={small}/out {made}; echo $?
        "$@" -o type=tar,dest={small}/out.tar {made}; echo $?
        ls -A {small}
    """
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *pybuild.command("build")],
        env=pybuild.full_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n1\n", done.stderr
    assert "no space left on device" in done.stderr


def test_export_of_a_container(pybuild, made: Path, tmp_path: Path, tool) -> None:
    pybuild("build", "-q", "-t", "made:1", made)
    words = ["/bin/busybox", "sh", "-c", "/bin/busybox rm /etc/passwd; echo x > /new"]
    pybuild("run", "--name", "ended", "made:1", *words)
    path = tmp_path / "rootfs.tar"
    pybuild("export", "-o", path, "ended")
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
        assert archive.extractfile("new").read() == b"x\n"  # type: ignore[union-attr]
    assert "etc/passwd" not in members
    assert members["dir/file"].uid == 1000
    assert not [name for name in members if ".wh." in name]
    subprocess.run([tool("tar"), "-tf", path], check=True, capture_output=True)
    pybuild("import", "-c", 'CMD ["/bin/busybox", "cat", "/new"]', path, "again:1")
    assert pybuild("run", "--rm", "again:1").stdout == "x\n"


def test_export_of_a_running_container(pybuild, busybox_image) -> None:
    script = "trap exit TERM; echo x > /new; rm /etc/group; echo up; sleep 60 & wait"
    words = ["sh", "-c", script]
    process = pybuild.start("run", "--rm", "--name", "up", busybox_image, *words)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        streamed = subprocess.run(
            pybuild.command("container", "export", "up"),
            env=pybuild.full_environment({}),
            capture_output=True,
            check=True,
        )
    finally:
        process.terminate()
        process.communicate()
    with tarfile.open(fileobj=io.BytesIO(streamed.stdout)) as archive:
        assert archive.extractfile("new").read() == b"x\n"  # type: ignore[union-attr]
        assert "etc/group" not in archive.getnames()


def test_export_of_nothing(pybuild, busybox_image, tmp_path: Path) -> None:
    done = pybuild("export", "-o", tmp_path / "x.tar", "nothing", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no such container: nothing\n")
    assert not (tmp_path / "x.tar").exists()


def test_container_prune(pybuild, busybox_image) -> None:
    pybuild("run", "--name", "one", busybox_image, "sh", "-c", "echo 12345 > /file")
    pybuild("run", "--name", "two", "--label", "keep=1", busybox_image, "true")
    one = pybuild("inspect", "-f", "{{.Id}}", "one").stdout.strip()
    assert pybuild("container", "prune", input="").stdout.startswith(
        "WARNING! This will remove all stopped containers.\n"
    )
    done = pybuild("container", "prune", "-f", "--filter", "label!=keep")
    assert done.stdout == f"Deleted Containers:\n{one}\n\nTotal reclaimed space: 6B\n"
    assert pybuild("ps", "-a", "--format", "{{.Names}}").stdout == "two\n"
    assert pybuild("container", "prune", "-f", "--filter", "until=1h").stdout == (
        "Total reclaimed space: 0B\n"
    )


def test_import_from_an_address(pybuild, busybox_rootfs: Path, tmp_path: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=busybox_rootfs.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            pybuild("import", f"{address}/{busybox_rootfs.name}", "far:1")
            done = pybuild("import", f"{address}/nothing.tar", "none:1", check=False)
        finally:
            server.shutdown()
    assert (done.returncode, "404" in done.stderr) == (1, True)
    assert pybuild("run", "--rm", "far:1", "echo", "x").stdout == "x\n"
    assert pybuild.image_names() == {"far:1"}


def test_quiet_leaves_stdout_to_the_archive(pybuild, busybox_image, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\n")
    done = subprocess.run(
        pybuild.command("build", "-q", "-o", "type=oci", context),
        env=pybuild.full_environment({}),
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert "index.json" in archive.getnames()
    assert done.stdout.endswith(bytes(1024)), "nothing follows the archive"
