"""Other tools read what we write, and see in it what we see."""

import hashlib
import json
import os
import stat
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime import bundle, spec
from runtime.mounting import open_overlay
from store.root import Store

pytestmark = pytest.mark.kernel

NAME = "agree:1"

# What the process sees of itself; every line must be the same in every runtime. Left out:
# /dev/core, which runc does not make, and how the machine's cgroup hierarchies are shown.
PROBE = """\
id; pwd; env | sort
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
cat /proc/sys/kernel/core_pattern > /dev/null && echo core_pattern is readable
(echo x > /proc/sysrq-trigger) 2>/dev/null || echo sysrq-trigger is not writable
wc -c < /proc/keys
ls /dev | grep -v '^core$' | sort
cut -d' ' -f5 /proc/self/mountinfo | sort | grep -vE '^(/etc|/sys/fs/cgroup)/'
"""

# One of everything that a layer can say; what it cannot say has tests in the store's room.
DOCKERFILE = r"""
FROM busybox:test AS made
RUN mkdir -p /tree/empty /tree/sticky /tree/gone /tree/replaced /tree/deep \
 && chmod 1777 /tree/sticky \
 && echo one > /tree/one && ln /tree/one /tree/hard && ln -s one /tree/soft \
 && ln -s /nowhere/at/all /tree/dangling \
 && echo tool > /tree/setuid && chmod 4755 /tree/setuid \
 && echo group > /tree/setgid && chown 1000:50 /tree/setgid && chmod 2750 /tree/setgid \
 && echo big > /tree/bigowner && chown 3000000:4000000 /tree/bigowner \
 && mkfifo /tree/fifo && mknod /tree/device c 1 3 \
 && truncate -s 1M /tree/sparse && echo end >> /tree/sparse \
 && echo old > /tree/old && touch -d '2001-02-03 04:05:06' /tree/old \
 && echo x > /tree/gone/x && echo y > /tree/replaced/y && echo z > /tree/deleted
RUN name=$(printf 'n%.0s' $(seq 1 120)) \
 && mkdir -p "/tree/deep/$name/$name/$name" && echo far > "/tree/deep/$name/$name/$name/file" \
 && echo far > "/tree/$name" && ln -s "$name/$name" "/tree/longlink" \
 && echo umlaut > /tree/größe && echo raw > "/tree/$(printf 'raw\377')" \
 && echo 'a  b' > '/tree/blank and "quote"'
RUN rm -r /tree/gone /tree/deleted && rm -r /tree/replaced && mkdir /tree/replaced \
 && echo new > /tree/replaced/new && rm /bin/vi && chmod 700 /home/app && chown 1000:1000 /home/app

FROM made
ENV COLOUR="dark blue" EMPTY=
LABEL org.example.title="agree"
WORKDIR /work
USER app:staff
EXPOSE 8080/tcp 53/udp
VOLUME /data
STOPSIGNAL SIGINT
COPY --chown=1000:50 files /work/files
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo from the image; pwd; id -u; id -g; echo $COLOUR"]
"""


@pytest.fixture
def archive(pybuild, busybox_image: str, context: Path, tmp_path: Path) -> Path:
    """Return an OCI archive of an image that is also in the store."""
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "files").mkdir()
    (context / "files" / "script").write_text("#!/bin/sh\n")
    (context / "files" / "script").chmod(0o755)
    (context / "files" / "link").symlink_to("script")
    out = tmp_path / "image.oci.tar"
    pybuild("build", "-t", NAME, context)
    pybuild("build", "-t", NAME, "--output", f"type=oci,dest={out}", context)
    return out


@pytest.fixture
def layout(archive: Path, tool, tmp_path: Path) -> Path:
    """Return the archive as an OCI layout that skopeo wrote, having checked every digest."""
    folder = tmp_path / "layout"
    run(tool("skopeo"), "copy", "--insecure-policy", f"oci-archive:{archive}", f"oci:{folder}:t")
    return folder


def run(*argv: str | Path) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def blob(layout: Path, digest: str) -> bytes:
    data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.partition(":")[2]
    return data


@dataclass(frozen=True, slots=True)
class Entry:
    """What a tar can say about a file, but for its name."""

    mode: int
    owner: tuple[int, int]
    mtime_s: int
    content: str
    device: int
    links: tuple[str, ...]
    xattrs: tuple[tuple[str, bytes], ...]


def read_tree(root: str) -> dict[str, Entry]:
    """Return every file below `root` by its name there, hard links as groups of names."""
    names = []
    for folder, folders, files in os.walk(root):
        names += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    stats = {name: os.lstat(os.path.join(root, name)) for name in names}
    groups: dict[int, list[str]] = defaultdict(list)
    for name, info in stats.items():
        if not stat.S_ISDIR(info.st_mode):
            groups[info.st_ino].append(name)
    return {
        name: Entry(
            info.st_mode,
            (info.st_uid, info.st_gid),
            int(info.st_mtime),
            content_of(os.path.join(root, name), info.st_mode),
            info.st_rdev,
            tuple(sorted(groups.get(info.st_ino, ()))),
            xattrs_of(os.path.join(root, name)),
        )
        for name, info in stats.items()
    }


def content_of(path: str, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return os.readlink(path)
    if stat.S_ISREG(mode):
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return ""


def xattrs_of(path: str) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def our_tree(store_root: Path, name: str) -> dict[str, Entry]:
    """Return the files of an image as our own store and mounts present them."""
    with Store.open(store_root, create=False) as store:
        image = store.images.find(name)
        root = open_overlay(store.snapshots.view(image.config.diff_ids))
        try:
            return read_tree(f"/proc/self/fd/{root}/")
        finally:
            os.close(root)


def test_skopeo_reads_the_archive(pybuild, archive: Path, tool) -> None:
    skopeo = tool("skopeo")
    seen = json.loads(run(skopeo, "inspect", f"oci-archive:{archive}"))
    config = json.loads(run(skopeo, "inspect", "--config", f"oci-archive:{archive}"))
    (ours,) = json.loads(pybuild("inspect", NAME).stdout)

    assert seen["Os"] == "linux"
    assert seen["Labels"] == {"org.example.title": "agree"}
    assert "COLOUR=dark blue" in seen["Env"]
    assert config["rootfs"]["diff_ids"] == ours["RootFS"]["Layers"]
    assert len(seen["Layers"]) == len(config["rootfs"]["diff_ids"])
    assert config["config"]["User"] == "app:staff"
    assert config["config"]["WorkingDir"] == "/work"
    assert config["config"]["ExposedPorts"] == {"8080/tcp": {}, "53/udp": {}}
    assert config["config"]["Volumes"] == {"/data": {}}
    assert config["config"]["StopSignal"] == "SIGINT"
    assert config["config"]["Entrypoint"] == ["/bin/sh", "-c"]


def test_skopeo_copies_the_archive_and_every_digest_holds(pybuild, layout: Path) -> None:
    (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(layout, descriptor["digest"]))
    config = blob(layout, manifest["config"]["digest"])
    (ours,) = json.loads(pybuild("inspect", NAME).stdout)

    assert manifest["config"]["digest"] == ours["Id"]
    diff_ids = []
    for layer in manifest["layers"]:
        data = blob(layout, layer["digest"])
        assert len(data) == layer["size"]
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        tar = subprocess.run(["gzip", "-dc"], input=data, check=True, capture_output=True).stdout
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
    assert diff_ids == json.loads(config)["rootfs"]["diff_ids"]
    history = [step for step in json.loads(config)["history"] if not step.get("empty_layer")]
    assert len(history) == len(diff_ids)


def test_umoci_unpacks_the_tree_that_we_mount(
    layout: Path, store_root: Path, tool, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    run(tool("umoci"), "unpack", "--image", f"{layout}:t", bundle)
    theirs, ours = read_tree(str(bundle / "rootfs")), our_tree(store_root, NAME)

    assert "tree/hard" in theirs["tree/one"].links, "the example lost its hard link"
    assert "tree/deleted" not in theirs
    assert "tree/replaced/y" not in theirs
    different = {
        name: (theirs.get(name), ours.get(name))
        for name in theirs.keys() | ours.keys()
        if theirs.get(name) != ours.get(name)
    }
    assert not different


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_runtime_runs_the_bundle_that_we_make(
    runtime: str, pybuild, layout: Path, store_root: Path, tool, peers, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    run(tool("umoci"), "unpack", "--image", f"{layout}:t", folder)
    with Store.open(store_root, create=False) as store:
        config = store.images.find(NAME).config.config
    rootfs = os.open(folder / "rootfs", os.O_RDONLY | os.O_DIRECTORY)
    try:
        options = bundle.RunOptions(args=(PROBE,), network="none", env=("HOSTNAME=probe",))
        made = bundle.make_spec(config, options, rootfs)
    finally:
        os.close(rootfs)
    (folder / "config.json").write_bytes(spec.to_json(made))

    words = ("--root", tmp_path / runtime, "run", "--bundle", folder, f"agree-{os.getpid()}")
    theirs = peers(runtime)(*words)
    ours = pybuild("run", "--rm", "--network", "none", "-e", "HOSTNAME=probe", NAME, PROBE).stdout
    assert "Seccomp:\t2" in ours
    assert theirs.splitlines() == ours.splitlines()


def test_podman_loads_and_runs_the_archive(archive: Path, peers) -> None:
    podman = peers("podman")
    podman("load", "--quiet", "--input", archive)
    (image,) = podman("images", "--quiet", "--no-trunc").split()
    output = podman("run", "--rm", "--network", "none", image)
    assert output == "from the image\n/work\n1000\n50\ndark blue\n"


def test_what_podman_sees_is_what_we_run(pybuild, archive: Path) -> None:
    assert archive.exists()
    output = pybuild("run", "--rm", "--network", "none", NAME).stdout
    assert output == "from the image\n/work\n1000\n50\ndark blue\n"
