"""Bad input: one clear message, a non-zero exit, and a store that is as it was."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

# Dockerfile -> what the message must hold: where, what, and what to do.
CASES = {
    "FROM {base}\nRUM echo\n": ["Dockerfile:2", 'unknown instruction "RUM"', "RUN"],
    "FROM {base}\nCOPY\n": ["Dockerfile:2"],
    "FROM {base}\nENV\n": ["Dockerfile:2"],
    "FROM {base}\nCOPY --frm=x a b\n": ["Dockerfile:2", "--frm", "--from"],
    "FROM {base}\nCOPY missing.txt /\n": ["Dockerfile:2", '"/missing.txt": not found'],
    "FROM {base}\nCOPY hidden.txt /\n": [
        "Dockerfile:2",
        '"/hidden.txt": not found',
        ".dockerignore",
    ],
    "FROM {base} AS a\nFROM a\nCOPY --from=b /x /\n": ["Dockerfile:3", '"b"', "stages: a"],
    "FROM {base} AS build\nCOPY --from=build /x /\n": ["Dockerfile:2", "itself"],
    "FROM no-such-image:9\n": ["Dockerfile:1", "no-such-image:9", "not found"],
    "FROM {base}\nRUN --device=v.com/c,required true\n": ["Dockerfile:2", "is not registered"],
    "FROM {base}\nRUN --mount=type=cache,target=/ true\n": ["Dockerfile:2", "mount target"],
    "FROM {base}\nRUN --mount=target=/x,source=none true\n": ["Dockerfile:2", '"/none": not found'],
    "FROM {base}\nRUN --mount=type=cahe,target=/x true\n": ["Dockerfile:2", "cahe", "cache?"],
    "FROM {base}\nRUN --mount=type=secret,id=s,required true\n": ["Dockerfile:2", "--secret id=s"],
    "FROM {base}\nRUN --security=insecure true\n": ["Dockerfile:2", "--allow security.insecure"],
    "FROM {base}\nRUN --network=host true\n": ["Dockerfile:2", "--allow network.host"],
    'FROM {base}\nRUN ["/no/such/program"]\n': ["Dockerfile:2", "/no/such/program"],
    "FROM {base}\nUSER nosuchuser\nRUN true\n": ["Dockerfile:3", "nosuchuser"],
    "FROM {base}\nRUN mkdir /d\nCOPY file /d/\nRUN mkdir -p /e/file\nCOPY file /e/\n": [
        "Dockerfile:5",
        "file",
    ],
    "FROM {base}\nCOPY loop /x\n": ["Dockerfile:2", '"/loop"', "too many levels of symbolic"],
    "FROM {base}\nRUN --mount=target=/x,source=loop true\n": [
        "Dockerfile:2",
        'RUN failed: "/loop": too many levels of symbolic links',
    ],
    "FROM {base} AS a\nRUN ln -s l /l\nFROM a\nRUN --mount=target=/x,from=a,source=/l true\n": [
        "Dockerfile:4",
        'RUN failed: "/l": too many levels of symbolic links',
    ],
    "FROM {base}\nWORKDIR /bin/sh\n": ["Dockerfile:2", "WORKDIR /bin/sh", "not a directory"],
    f"FROM {{base}}\nWORKDIR /{'n' * 300}\n": ["Dockerfile:2", "WORKDIR /n", "name too long"],
    f"FROM {{base}}\nCOPY file /{'n' * 300}\n": ["Dockerfile:2", "/nnn", "name too long"],
    "FROM {base}\nCOPY sock /x\n": ["Dockerfile:2", '"/sock": a socket cannot be copied'],
    "FROM {base}\nENV A=${{B:?is-needed}}\n": ["Dockerfile:2", "is-needed"],
    "FROM {base}\nEXPOSE none\n": ["Dockerfile:2", "none"],
    "FROM {base}\nADD broken.tar /d/\n": ["Dockerfile:2", "broken.tar"],
    "FROM {base}\nCOPY <<EOF /x\nno end\n": ["Dockerfile:2", "heredoc"],
    "": ["empty"],
    "# nothing\n": ["Dockerfile"],
    "RUN true\n": ["Dockerfile:1", "FROM"],
}


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Return what is in a store's folders of images, layers and blobs.

    Not in that of snapshots, where a RUN that failed is kept to be entered.
    """
    kept = ("blobs", "layers", "images", "chains", "l", "tmp", "trash")
    return {
        str(path.relative_to(root)): (path.lstat().st_size, path.lstat().st_mode)
        for name in kept
        for path in sorted((root / name).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("text", CASES, ids=lambda text: text.replace("\n", " / ")[:60] or "empty")
def test_dockerfile(
    pybuild, busybox_image, context, store_root, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (context / "Dockerfile").write_text(text.format(base=busybox_image))
    (context / "hidden.txt").write_text("")
    (context / "loop").symlink_to("loop")
    monkeypatch.chdir(context)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("sock")
    (context / "file").write_text("")
    (context / "broken.tar").write_bytes(valid_tar()[:700])
    (context / ".dockerignore").write_text("hidden.txt\n")
    made_before_it = "mkdir /d" in text or "ln -s" in text
    before = snapshot(store_root)
    result = pybuild("-t", "never:1", context, check=False)
    assert result.returncode == 1
    message = result.stderr[result.stderr.rindex("error: ") :]
    whole = result.stderr
    for part in CASES[text]:
        assert part in whole
    assert message.count("error: ") == 1
    assert "Traceback" not in whole
    assert "never:1" not in pybuild.image_names()
    assert pybuild("system", "check", "--deep").returncode == 0
    if not made_before_it:
        assert snapshot(store_root) == before
    kept = list((store_root / "snapshots").glob("*/kept"))
    assert len(kept) <= text.count("RUN ")


def valid_tar() -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("big")
        member.size = 5000
        archive.addfile(member, io.BytesIO(b"x" * 5000))
    return buffer.getvalue()


def test_a_syntax_error_shows_the_line_and_a_caret(pybuild, context) -> None:
    (context / "Dockerfile").write_text("FROM scratch\n  RUM echo hi\n")
    result = pybuild(context, check=False)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == "RUM echo hi")
    assert lines[at + 1].index("^") == lines[at].index("RUM")


def test_a_failing_run_shows_code_last_lines_and_log(
    pybuild, busybox_image, context, store_root
) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN for i in $(seq 1 50); do echo line $i; done; exit 7\n"
    )
    result = pybuild("-t", "x", context, check=False)
    assert result.returncode == 1
    tail = result.stderr[result.stderr.rindex("------\n > ") - 400 :]
    assert "exit code: 7" in tail
    assert "line 50" in tail
    assert "line 30\n" not in tail[tail.index(" > ") :]
    path = Path(tail.split("the whole log is in ")[1].split("\n")[0])
    assert path.is_relative_to(store_root)
    assert path.read_text() == "".join(f"line {i}\n" for i in range(1, 51))
    assert ">>> RUN" in tail


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["nosuchfolder"], 1, "no such directory"),
        (["-f", "nosuchfile", "."], 1, "nosuchfile"),
        (["-t", "UPPER:x", "."], 1, "UPPER"),
        (["--target", "none", "."], 1, "none"),
        (["--platform", "foo", "."], 1, "invalid platform"),
        (["--output", "type=local", "."], 1, "dest is required"),
        (["--output", "type=nosuch,dest=x", "."], 1, "invalid --output type=nosuch"),
        (["--add-host", "x:1", "."], 2, "invalid IP address"),
        (["--squash", "."], 1, "not supported yet"),
        (["--secret", "id=x,src=nosuchfile", "."], 1, "secret x: nosuchfile: no such file"),
        (["--ssh", "x=nosuchfile", "."], 1, "ssh agent x: nosuchfile: no such file"),
        (["--nosuchflag", "."], 2, "--nosuchflag"),
        ([], 2, ""),
        ([".", "."], 2, ""),
    ],
)
def test_command_line(pybuild, context, arguments: list[str], code: int, part: str) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nENV A=1\n")
    result = pybuild("build", *arguments, cwd=context, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)
    assert part in result.stderr


def test_an_output_that_cannot_be_written_leaves_nothing(pybuild, context, tmp_path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nENV A=1\n")
    result = pybuild("-o", f"type=oci,dest={tmp_path}/none/x.tar", context, check=False)
    assert result.returncode == 1
    assert f"{tmp_path}/none/x.tar" in result.stderr


def test_root_that_may_not_mount_has_a_user_namespace(context, tmp_path, project) -> None:
    (context / "Dockerfile").write_text('FROM scratch\nENV A=1\nRUN ["/none"]\n')
    dropped = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable]
    result = subprocess.run(
        [*dropped, "-m", "pybuild", "--root", str(tmp_path / "s"), "build", str(context)],
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    # It got as far as to look for the program in a container's own root.
    assert result.returncode == 1
    assert 'exec: "/none": stat /none: no such file or directory' in result.stderr
