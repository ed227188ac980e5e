"""COPY and ADD beyond the cases of testdata/builds: caching, times, names of any bytes, limits."""

import os
from pathlib import Path

import pytest

from store.trash import delete_tree

pytestmark = pytest.mark.kernel


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


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
