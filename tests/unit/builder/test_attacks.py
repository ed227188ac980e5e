"""Files that want out: archives, contexts, root file systems and layouts that lead elsewhere.

Each attack is tried twice: against the guard, and with that guard off, when it has to succeed. So
it is the guard that holds, and the attack is one.
"""

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builder.definition import SourceTree, ignore_file_of, read_dockerfile
from builder.errors import ContextError
from builder.gitcheckout import GitFailure, move_contents
from builder.ops.copyfiles import Target, copy_match
from builder.ownership import find_owner
from builder.request import BuildRequest
from builder.rootpath import Follow, resolve
from builder.tree import PathNotFound, Tree
from store.archivesource import opened
from store.confinement import Confinement
from store.contents import PLAIN_ARCHIVE
from store.entries import CREATE
from store.errors import BadArchive
from store.folder import Folder
from store.linux import open_beneath
from store.root import Store
from store.tarreader import Member, TarReader
from store.unpack import Unpacker
from values.classes import replace

SECRET = "secretword:x:4242:4242::/:\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder with a secret, beside the one that things happen in."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    (folder / "passwd").write_text(SECRET)
    return folder


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    return folder


def follow_as_the_kernel(root: str, path: str) -> str:
    """Follow links wherever they lead: `resolve` without its guard."""
    real = os.path.realpath(os.path.join(root, path.lstrip("/")))
    return os.path.relpath(real, os.path.realpath(root))


# -- archives


def any_name(_member: Member, path: bytes) -> tuple[bytes, bytes]:
    """Take a name as it is."""
    return os.path.split(path)


def open_anywhere(folder_fd: int, path: bytes | str, flags: int) -> int:
    """Open what a path leads to."""
    return os.open(path or b".", flags, dir_fd=folder_fd)


GUARDED = PLAIN_ARCHIVE.confinement
OFF = Confinement(name=any_name, open_below=open_anywhere)
Rows = Sequence[tuple[str, bytes, str]]  # name, type, link target or content


def tar_of(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, what in rows:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(what)
            else:
                member.linkname = what
            archive.addfile(member, io.BytesIO(what.encode()))
    return buffer.getvalue()


def unpack(inside: Path, rows: Rows, confinement: Confinement) -> None:
    root_fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    try:
        policy = replace(PLAIN_ARCHIVE, confinement=confinement)
        Unpacker(root_fd, policy).run(TarReader(iter([tar_of(rows)])))
    finally:
        os.close(root_fd)


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
WRITING: dict[str, tuple[Rows, Confinement]] = {
    "dot dot": ([("../outside/planted", FILE, "x")], OFF),
    "dot dot inside": ([("a/../../outside/planted", FILE, "x")], OFF),
    "absolute": ([("{outside}/planted", FILE, "x")], OFF),
    "below an absolute link": (
        [("s", LINK, "{outside}"), ("s/planted", FILE, "x")],
        Confinement(name=GUARDED.name, open_below=open_anywhere),
    ),
    "below a relative link": (
        [("s", LINK, "../outside"), ("s/planted", FILE, "x")],
        Confinement(name=GUARDED.name, open_below=open_anywhere),
    ),
    "over a link": (
        [("s", LINK, "{outside}/planted"), ("s", FILE, "x")],
        Confinement(name=GUARDED.name, create=CREATE & ~(os.O_EXCL | os.O_NOFOLLOW)),
    ),
}


@pytest.mark.parametrize("attack", WRITING)
def test_an_archive_writes_nothing_outside(attack: str, inside: Path, outside: Path) -> None:
    rows, off = WRITING[attack]
    real = [(n.format(outside=outside), kind, w.format(outside=outside)) for n, kind, w in rows]
    if "inside" in attack:
        (inside / "a").mkdir()
    unpack(inside, real, GUARDED)
    assert not (outside / "planted").exists()
    for name in os.listdir(inside):
        if (inside / name).is_symlink():
            os.unlink(inside / name)
    unpack(inside, real, off)
    assert (outside / "planted").read_text() == "x"


@pytest.mark.parametrize("target", ["../outside/secret", "{outside}/secret"])
def test_a_hard_link_of_an_archive_brings_nothing_in(
    target: str, inside: Path, outside: Path
) -> None:
    rows = [("h", HARD, target.format(outside=outside))]
    with pytest.raises(BadArchive, match="which is no file of this archive"):
        unpack(inside, rows, GUARDED)
    assert os.listdir(inside) == []
    unpack(inside, rows, OFF)
    assert (inside / "h").read_text() == SECRET


# -- contexts and root file systems as sources


@pytest.fixture
def tree(inside: Path) -> Callable[[Follow], Tree]:
    return lambda follow: Tree(os.open(inside, os.O_RDONLY | os.O_DIRECTORY), follow=follow)


@pytest.mark.parametrize("pattern", ["file", "up", "dir/secret", "dir/*", "chain"])
def test_a_source_reads_nothing_outside(pattern, tree, inside: Path, outside: Path) -> None:
    for name, target in (
        ("file", f"{outside}/secret"),
        ("up", "../outside/secret"),
        ("dir", str(outside)),
        ("chain", "up"),
    ):
        (inside / name).symlink_to(target)
    with tree(resolve) as guarded, pytest.raises(PathNotFound):
        guarded.select(pattern)
    with tree(follow_as_the_kernel) as off:
        found = off.select(pattern).matches
        read = [Path(off.root, m.path, e.path) for m in found for e in m.entries]
        assert SECRET in [path.read_text() for path in read if path.is_file()]


@pytest.mark.parametrize(
    "destination", ["/abs/", "/abs/planted", "/up/planted", "/toroot{outside}/"]
)
def test_a_destination_writes_nothing_outside(destination, inside, outside, tmp_path) -> None:
    (inside / "abs").symlink_to(outside)
    (inside / "up").symlink_to("../outside")
    (inside / "toroot").symlink_to("/")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/planted").write_text("x")
    with Tree(os.open(tmp_path / "source", os.O_RDONLY)) as source:
        (match,) = source.select("planted").matches
        place = destination.format(outside=outside)
        copy_match(source.root, match, place, Target(str(inside)))
        assert not (outside / "planted").exists()
        copy_match(source.root, match, place, Target(str(inside), follow=follow_as_the_kernel))
        assert (outside / "planted").read_text() == "x"


def test_names_are_not_looked_up_outside(inside: Path, outside: Path) -> None:
    (inside / "etc").symlink_to(outside)
    assert find_owner("secretword", str(inside)).unknown == "secretword"
    assert find_owner("secretword", str(inside), follow_as_the_kernel).uid == 4242


# -- the texts of a context


@pytest.mark.parametrize("is_local", [True, False])
def test_a_dockerfile_is_not_read_outside(is_local: bool, inside: Path, outside: Path) -> None:
    (inside / "Dockerfile").symlink_to(outside / "secret")
    request = BuildRequest(context=str(inside))
    source = SourceTree(str(inside), "shown", is_local)
    with pytest.raises(ContextError, match="no such file"):
        read_dockerfile(request, source)
    off = replace(source, follow=follow_as_the_kernel)
    assert read_dockerfile(request, off).data == SECRET.encode()


@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.dockerignore"])
def test_an_ignore_file_is_not_read_outside(name: str, inside: Path, outside: Path) -> None:
    (inside / "Dockerfile").write_text("FROM scratch\n")
    (inside / name).symlink_to(outside / "secret")
    source = SourceTree(str(inside), "shown")
    dockerfile = read_dockerfile(BuildRequest(context=str(inside)), source)
    assert ignore_file_of(source, dockerfile) is None
    off = ignore_file_of(replace(source, follow=follow_as_the_kernel), dockerfile)
    assert off is not None
    assert Path(off).read_text() == SECRET


# -- git and layouts


def test_a_directory_of_a_repository_is_not_one_outside(inside: Path, outside: Path) -> None:
    (inside / "tree").mkdir()
    (inside / "target").mkdir()
    (inside / "tree/sub").symlink_to("../../outside")
    places = str(inside / "tree"), "sub", str(inside / "target")
    with pytest.raises(GitFailure, match="no such directory"):
        move_contents(*places)
    assert (outside / "secret").exists()
    move_contents(*places, follow_as_the_kernel)
    assert (inside / "target/secret").read_text() == SECRET


@pytest.mark.parametrize("name", ["blobs/sha256/../../../outside/secret", "blobs/sha256/aa"])
def test_a_blob_of_a_layout_is_not_read_outside(name: str, inside, outside, tmp_path) -> None:
    """A digest that climbs, and a blob that is a link; the first is no digest either."""
    (inside / "blobs/sha256").mkdir(parents=True)
    (inside / "blobs/sha256/aa").symlink_to(outside / "secret")
    with Store.open(tmp_path / "store") as store:
        folder: Folder = store.folder
        with opened(inside, folder, open_beneath) as archive, pytest.raises(BadArchive):
            archive.read(name, "index.json")
        with opened(inside, folder, open_anywhere) as archive:
            assert archive.read(name, "index.json").decode() == SECRET
