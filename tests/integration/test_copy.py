"""COPY and ADD: what ends up in the image, by the Dockerfile reference and BuildKit's ways.

The cases are in testdata/copies.
"""

import io
import os
import socket
import tarfile
import tomllib
from pathlib import Path

import pytest

from builder.build import build
from builder.request import BuildRequest, Output
from runtime.cancel import Cancel
from store.root import Store
from store.trash import delete_tree

pytestmark = pytest.mark.kernel

BASE = """\
FROM {base} AS base
RUN mkdir /real /keep && echo t > /real/target && ln -s /real /dirlink \
 && ln -s /real/target /filelink && ln -s nowhere /dangling && ln -s target /real/inner \
 && chmod 2771 /keep && chown 5:6 /keep && touch -d 2001-02-03 /keep && echo x > /plain
FROM base
"""

CASES = tomllib.loads((Path(__file__).parents[2] / "testdata/copies/cases.toml").read_text())[
    "case"
]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one of everything that can be copied."""
    folder = tmp_path_factory.mktemp("source")
    make_source(folder)
    return folder


def make_source(folder: Path) -> None:
    write(folder, {"f": "f", "inner": "inner", "dir/a": "a", "dir/sub/b": "b", "[odd]*": "odd"})
    write(folder, {"with blank": "blank", "behind/deep/through": "through", "notar.tar": "text"})
    write(folder, {"special/setuid": "s", "special/capable": "c", "hard/one": "1"})
    os.chmod(folder / "dir/sub", 0o750)
    os.chmod(folder / "dir/sub/b", 0o600)
    os.symlink("behind/deep", folder / "linked")
    os.symlink("f", folder / "flink")
    (folder / "links").mkdir()
    for name, target in (("rel", "../f"), ("gone", "nowhere"), ("abs", "/etc/passwd")):
        os.symlink(target, folder / "links" / name)
    os.link(folder / "hard/one", folder / "hard/two")
    make_special(folder / "special")
    with tarfile.open(folder / "a.tar", "w") as archive:
        member = tarfile.TarInfo("in/tar")
        member.size, member.mode, member.uid, member.gid = 1, 0o640, 5, 6
        archive.addfile(member, io.BytesIO(b"t"))
    os.chown(folder / "f", 77, 78)


def make_special(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.chmod(folder / "fifo", 0o640)
    os.mknod(folder / "null", 0o20622, os.makedev(1, 3))
    os.chmod(folder / "null", 0o622)
    os.chmod(folder / "setuid", 0o4755)
    os.chmod(folder / "capable", 0o755)
    # cap_net_raw, effective: linux/capability.h, VFS_CAP_REVISION_2
    os.setxattr(
        folder / "capable", "security.capability", bytes.fromhex("010000020020" + "00" * 14)
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))


def test_cases(pybuild, busybox_image, source, tmp_path, tree_of_archive) -> None:
    """All cases on one store, in this process: starting a command takes longer than a build."""
    archive = tmp_path / "image.tar"
    output = Output("oci", (("dest", str(archive)), ("compression", "none")))
    wrong = {}
    with Store.open(pybuild.root) as store:
        for case in CASES:
            text = BASE.format(base=busybox_image) + case["dockerfile"] + "\n"
            request = BuildRequest(
                context=str(source),
                dockerfile="-",
                dockerfile_text=text.encode(),
                outputs=(output,),
            )
            build(store, request, lambda event: None, Cancel())
            found = tree_of_archive(archive)
            expected = case.get("files", {})
            seen = {path: found.get(path, "").split("\0")[0] for path in expected}
            surplus = [path for path in case.get("absent", ()) if path in found]
            if seen != expected or surplus:
                wrong[case["dockerfile"]] = (seen, surplus)
    assert not wrong


def test_buildah_agrees(peers, busybox_rootfs, source, tmp_path, tree_of_archive, rounds) -> None:
    buildah = peers("buildah")
    container = buildah("from", "scratch").strip()
    buildah("add", container, busybox_rootfs, "/")
    buildah("commit", "-q", container, "localhost/base")
    judged = [case for case in CASES if case.get("buildah")]
    count = rounds(len(judged), 6)
    step = len(judged) // count
    for case in judged[::step][:count]:
        text = BASE.format(base="localhost/base") + case["dockerfile"] + "\n"
        (tmp_path / "Dockerfile").write_text(text)
        archive = tmp_path / "judged.tar"
        archive.unlink(missing_ok=True)
        words = ("--layers", "-q", "-f", tmp_path / "Dockerfile", "-t", "localhost/judged")
        buildah("build", *words, source)
        buildah("push", "-q", "localhost/judged", f"oci-archive:{archive}")
        found = tree_of_archive(archive)
        seen = {path: found.get(path, "").split("\0")[0] for path in case.get("files", {})}
        assert seen == case.get("files", {}), case["dockerfile"]
        assert not [path for path in case.get("absent", ()) if path in found], case["dockerfile"]


@pytest.fixture
def steps(pybuild):
    """Return a function: steps(*args) builds and returns the instructions that were not cached."""

    def ran(*args: str | Path) -> list[str]:
        lines = pybuild("build", *args).stderr.splitlines()
        names: dict[str, str] = {}
        for line in lines:
            names.setdefault(line.split()[0] if line else "", line)
        done = {line.split()[0] for line in lines if line.partition(" ")[2].startswith("DONE")}
        found = [names[number].partition("] ")[2] for number in names if number in done]
        return [name for name in found if name.startswith(("COPY", "ADD", "RUN"))]

    return ran


def test_a_linked_layer_does_not_depend_on_what_is_below(
    busybox_image, context, steps, files_of
) -> None:
    text = f"FROM {busybox_image}\nRUN echo 1 > /one\nCOPY --link f /d/\nRUN cat /d/f\n"
    write(context, {"f": "f", "Dockerfile": text})
    assert len(steps(context)) == 3
    write(context, {"Dockerfile": text.replace("echo 1", "echo 2")})
    assert steps(context) == ["RUN echo 2 > /one", "RUN cat /d/f"]
    write(context, {"Dockerfile": "FROM scratch\nCOPY f /d/\n"})
    assert steps(context) == []
    assert files_of(context) == {"/d": "dir 755 0:0", "/d/f": "file 644 0:0 f"}


def test_times(busybox_image, context, pybuild) -> None:
    """Files keep theirs, a directory that was there too; a new one has its source's."""
    write(context, {"dir/sub/f": "f"})
    for path, time in (("dir/sub/f", 1), ("dir/sub", 2), ("dir", 3)):
        os.utime(context / path, (0, time * 1_000_000))
    base = f"FROM {busybox_image}\nRUN mkdir /old && touch -d @4000000 /old\n"
    show = "stat -c '%n %Y' /old /old/sub /old/sub/f /new"
    text = base + "COPY dir /old\nCOPY dir /new\n"
    (context / "Dockerfile").write_text(text)
    pybuild("-t", "x", context)
    shown = pybuild("run", "--rm", "x", "sh", "-c", show).stdout
    assert shown.split() == [
        *("/old", "4000000", "/old/sub", "2000000", "/old/sub/f", "1000000", "/new", "3000000")
    ]


def test_names_of_any_bytes_and_long_paths(context, pybuild, files_of) -> None:
    source = os.fsencode(context / "source")
    os.mkdir(source)
    names = [bytes([byte]) * 3 for byte in range(1, 256) if byte not in b"./"]
    names += ["ä€😀".encode(), b"...", b"-", b"a" * 255, b" ", b"~", b"$HOME", b"\xf0\x9f"]
    for name in names:
        Path(os.fsdecode(os.path.join(source, name))).write_bytes(name)
    deep = source
    for level in range(14):
        deep = os.path.join(deep, bytes([97 + level]) * 250)
        os.mkdir(deep)
    Path(os.fsdecode(deep), "f").write_text("deep")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY source /d\n")
    found = files_of(context)
    for name in names:
        assert f"/d/{os.fsdecode(name)}" in found
    assert found["/d/" + os.path.relpath(os.fsdecode(deep), os.fsdecode(source)) + "/f"]
    assert len(found) == 1 + len(names) + 14 + 1
    assert pybuild("system", "check", "--deep").returncode == 0


def test_deeper_than_pythons_stack(context, store_root, files_of) -> None:
    folder = str(context / "source")
    for _ in range(1201):
        os.mkdir(folder)
        folder += "/a"
    (context / "Dockerfile").write_text("FROM scratch\nCOPY source /d\n")
    assert len(files_of(context)) == 1201
    for path in (context, store_root):
        delete_tree(str(path))  # pytest's own way recurses


def test_holes_stay_holes(context, pybuild, store_root) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY sparse /\n")
    with open(context / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"end")
    pybuild("-t", "x", context)
    (copied,) = store_root.glob("layers/sha256/*/fs/sparse")
    assert copied.stat().st_size == (1 << 30) + 3
    assert copied.stat().st_blocks * 512 < 1 << 20
    with open(copied, "rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 30)
        assert file.read() == b"end"


REFUSED = {
    "COPY --chown=app f /": ["app", "numbers"],
    "COPY --link --chown=app f /": ["app", "numbers"],
    "USER app\nWORKDIR /x": ["app", "numbers"],
    "COPY --chmod=9 f /": ["--chmod", '"9"'],
    "COPY --chmod=17777 f /": ["--chmod"],
    "COPY [a /": ["bad pattern"],
    "COPY --exclude=[a f /": ["bad pattern"],
    "COPY --parents missing/f /": ['"/missing/f": not found'],
    "COPY --parents dir/./missing /": ['"/dir/missing": not found'],
    "COPY --parents hidden /": ['"/hidden": not found', ".dockerignore", "line 1"],
    "COPY f /x\nCOPY dir /x": ["cannot copy to non-directory: /x"],
    "COPY dir /x\nCOPY dir/a /x/sub/y/z\nCOPY dir /x/a": ["cannot copy to non-directory: /x/a"],
    "COPY f /x/a/\nCOPY dir /x": ["cannot replace to directory", "a"],
    "COPY f /x/sub\nCOPY dir /x": ["cannot copy to non-directory: /x/sub"],
    "COPY git://h/r.git /": ["can't be a URL or git ref for COPY"],
    "COPY user@h:r.git /": ["can't be a URL or git ref for COPY"],
    "ADD --checksum=sha256:1 f /": ["--checksum requires"],
    "ADD --checksum=sha256:1 http://127.0.0.1:1/f /": ["invalid checksum digest format"],
    "ADD .wh.x /": [".wh."],
}


@pytest.mark.parametrize("instructions", REFUSED)
def test_refused(context, pybuild, instructions: str) -> None:
    write(context, {"f": "f", "dir/a": "a", "dir/sub/b": "b", "hidden": "h", ".wh.x": "w"})
    write(context, {".dockerignore": "hidden", "Dockerfile": f"FROM scratch\n{instructions}"})
    result = pybuild("build", context, check=False)
    assert result.returncode == 1
    for part in (*REFUSED[instructions], "Dockerfile:"):
        assert part in result.stderr
    assert "Traceback" not in result.stderr
