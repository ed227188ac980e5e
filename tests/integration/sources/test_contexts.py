"""Build contexts of every kind, and named ones."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

pytestmark = pytest.mark.kernel

PACKERS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def tar_of(files: dict[str, str | tarfile.TarInfo], uid: int = 0) -> bytes:
    """Return a tar of files; a TarInfo goes in as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, what in files.items():
            if isinstance(what, tarfile.TarInfo):
                archive.addfile(what)
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(what), 0o640, uid, uid
            archive.addfile(member, io.BytesIO(what.encode()))
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def nothing_left(store: Path) -> bool:
    folders = (store / "tmp", store / "snapshots")
    return not any(os.listdir(folder) for folder in folders if folder.exists())


def test_a_dockerfile_on_standard_input(files_of, pybuild) -> None:
    assert files_of("-", input="FROM scratch\nCOPY . /d\nCOPY <<EOF /f\nt\nEOF\n") == {
        "/d": "dir 755 0:0",
        "/f": "file 644 0:0 t",
    }
    assert nothing_left(pybuild.root)
    result = pybuild("build", "-", input="FROM scratch\nRUM x\n", check=False)
    assert "Dockerfile:2" in result.stderr


@pytest.mark.parametrize("packer", PACKERS)
def test_an_archive_on_standard_input(packer: str, files_of, pybuild) -> None:
    files = {"Dockerfile": "FROM scratch\nCOPY . /d/\n", "f": "text", ".dockerignore": "f\n"}
    data = PACKERS[packer](tar_of(files, uid=77))
    found = files_of("-", input=data)
    # As BuildKit: owners are the archive's, and its ignore file is a file like others.
    assert found["/d/f"] == "file 640 77:77 text"
    assert found["/d/Dockerfile"].startswith("file 640 77:77")
    assert nothing_left(pybuild.root)
    again = pybuild("build", "-", input=data)
    assert again.stderr.count("CACHED") == 1


def test_the_dockerfile_may_be_elsewhere_in_an_archive(files_of, context, pybuild) -> None:
    data = tar_of({"sub/My.Dockerfile": "FROM scratch\nCOPY f /\n", "f": "text"})
    assert files_of("-f", "sub/My.Dockerfile", "-", input=data) == {"/f": "file 640 0:0 text"}
    (context / "D").write_text("FROM scratch\nCOPY f /g\n")
    assert files_of("-f", context / "D", "-", input=data) == {"/g": "file 640 0:0 text"}
    result = pybuild("build", "-", input=data, check=False)
    assert "read Dockerfile Dockerfile of -: no such file" in result.stderr


REFUSED = {
    ("-", "-f", "-"): (b"", "standard input cannot be both"),
    ("-", "-f", "x"): (b"FROM scratch\n", "ambiguous Dockerfile source"),
    ("-",): (b"", "empty"),
    ("-", "--pull"): (gzip.compress(b"no tar at all" * 100), "build context standard input"),
    ("-", "--no-cache"): (tar_of({"../out": "x"}), "read Dockerfile Dockerfile of -: no such file"),
    ("-", "--pull=false"): (tar_of({"Dockerfile": link("Dockerfile", "")}), "without a proper"),
    ("-", "--push"): (tar_of({"f": "x" * 3000})[:1500], "build context standard input"),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_standard_input_cannot_be(arguments: tuple[str, ...], pybuild, tmp_path) -> None:
    data, part = REFUSED[arguments]
    result = pybuild("build", "-t", "localhost:1/x", *arguments, input=data, check=False)
    assert result.returncode in (1, 2)
    assert part in result.stderr
    assert "Traceback" not in result.stderr
    if pybuild.root.exists():
        assert nothing_left(pybuild.root)


def test_an_archive_reaches_nothing_outside(files_of, pybuild, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("FROM scratch\nCOPY secretword /\n")
    outside = {"Dockerfile": link("Dockerfile", str(secret))}
    result = pybuild("build", "-", input=tar_of(outside), check=False)
    assert result.returncode == 1
    assert "secretword" not in result.stderr
    files = {
        "Dockerfile": "FROM scratch\nCOPY out /\n",
        "out": link("out", str(secret)),
        "dir": link("dir", str(tmp_path)),
        "dir/planted": "x",
    }
    result = pybuild("build", "-", input=tar_of(files), check=False)
    assert '"/out": not found' in result.stderr
    assert not (tmp_path / "planted").exists()


def test_a_context_of_a_killed_build_goes_with_the_next_collection(busybox_image, pybuild) -> None:
    text = f"FROM {busybox_image}\nCOPY f /\nRUN echo run-ning; exec sleep 1000\n"
    with subprocess.Popen(
        pybuild.command("build", "-"),
        env=pybuild.full_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(tar_of({"Dockerfile": text, "f": "text"}))
        process.stdin.close()
        for line in process.stderr:
            if b"run-ning" in line and b"RUN" not in line:
                break
        process.kill()
    assert os.listdir(pybuild.root / "tmp")
    pybuild("system", "prune", "-f")
    assert nothing_left(pybuild.root)
    assert pybuild("system", "check").returncode == 0


# -- addresses


def test_a_git_repository(repository, git, commit, serve, files_of, pybuild) -> None:
    text = "FROM scratch\nCOPY . /d/\n"
    commit(repository.work, {"Dockerfile": text, "sub/Dockerfile": text, ".dockerignore": "f"})
    commit(repository.work, {"sub/Other": text})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    server = serve(repository.bare.parent, backend=True)
    url = f"{server.address}/repo.git"
    found = files_of(url)
    assert found["/d/f"] == "file 644 0:0 two"
    assert found["/d/lib/lib.c"] == "file 644 0:0 lib"
    assert "/d/.git" not in found
    assert nothing_left(pybuild.root)
    assert pybuild("build", url).stderr.count("CACHED") == 1
    assert set(files_of(f"{url}#main:sub")) == {
        *("/d", "/d/Dockerfile", "/d/Other", "/d/dir", "/d/dir/g")
    }
    assert "/d/sub" in files_of("-f", "sub/Other", url)
    kept = files_of(f"{url}?submodules=0&keep-git-dir=1")
    assert kept["/d/.git/HEAD"].startswith("file 644 0:0 ")
    kept = files_of("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", url)
    assert kept["/d/.git/HEAD"].startswith("file 644 0:0 ")
    other = pybuild("build", f"{url}#other", check=False)
    assert f"read Dockerfile Dockerfile of {url}#other: no such file" in other.stderr
    missing = pybuild("build", f"{url}#nosuch", check=False)
    assert f"build context {url}#nosuch: git ls-remote" in missing.stderr
    assert nothing_left(pybuild.root)


def test_a_listing_is_of_the_same_files(repository, serve, tmp_path, pybuild) -> None:
    server = serve(repository.bare.parent)
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM nowhere/base\nCOPY sub run.sh none /d\n")
    address = f"{server.address}/repo.git#main"
    done = pybuild(
        "context", "ls", "-f", dockerfile, "--why", "--format", "{{.Path}} {{.UsedBy}}", address
    )
    assert done.stdout.splitlines() == [
        *(".gitmodules ", "f ", "lib/lib.c ", "link ", "out "),
        *("run.sh Dockerfile:2", "sub/dir/g Dockerfile:2"),
    ]
    assert done.stderr.startswith('warning: Dockerfile:2: COPY failed: "/none": not found\n')
    assert nothing_left(pybuild.root)
    sizes = pybuild("context", "ls", "-f", dockerfile, "--size", repository.work / "sub").stdout
    assert sizes == "SIZE   PATH\n1B     dir/g\n1 file in the context, 1B; 0 files left out, 0B\n"
    failed = pybuild("context", "ls", address, check=False)
    assert (failed.returncode, "read Dockerfile Dockerfile of http" in failed.stderr) == (1, True)


def test_an_archive_at_an_address(tmp_path, serve, files_of, pybuild) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    files = {"Dockerfile": "FROM scratch\nCOPY . /d/\n", "f": "text", ".dockerignore": "f\n"}
    (folder / "context").write_bytes(gzip.compress(tar_of(files, uid=7)))
    server = serve(folder)
    assert files_of(f"{server.address}/context")["/d/f"] == "file 640 7:7 text"
    assert nothing_left(pybuild.root)
    again = pybuild("build", f"{server.address}/context")
    assert again.stderr.count("CACHED") == 1
    result = pybuild("build", f"{server.address}/none", check=False)
    assert result.returncode == 1
    assert "404" in result.stderr


def test_a_dockerfile_at_an_address(tmp_path, serve, files_of, context) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "some.file").write_text("FROM scratch\nCOPY . /d/\n")
    server = serve(folder)
    url = f"{server.address}/some.file"
    assert files_of(url) == {
        "/d": "dir 755 0:0",
        "/d/context": "file 600 0:0 FROM scratch\nCOPY . /d/",
    }
    (context / "f").write_text("text")
    assert files_of("-f", url, context) == {
        "/d": "dir 755 0:0",
        "/d/f": "file 644 0:0 text",
    }


def test_checks_look_at_the_same_dockerfile(tmp_path, serve, pybuild) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "d").write_text("from scratch AS Upper\n")
    server = serve(folder)
    for arguments, data in (((f"{server.address}/d",), None), (("-",), "from scratch AS Upper\n")):
        result = pybuild("build", "--check", *arguments, input=data, check=False)
        assert "StageNameCasing" in result.stdout + result.stderr
        answer = pybuild("build", "--call", "targets,format=json", *arguments, input=data).stdout
        assert "upper" in answer


# -- named contexts


@pytest.fixture
def more(tmp_path: Path) -> Path:
    folder = tmp_path / "more"
    (folder / "dir").mkdir(parents=True)
    (folder / "f").write_text("more")
    (folder / "hidden").write_text("hidden")
    (folder / "dir/g").write_text("g")
    (folder / ".dockerignore").write_text("hidden\n.dockerignore\n")
    return folder


def write_dockerfile(context: Path, text: str) -> None:
    (context / "Dockerfile").write_text(text)


def test_a_folder_by_name(context, more, files_of, pybuild) -> None:
    (context / "f").write_text("main")
    write_dockerfile(context, "FROM scratch\nCOPY f /\nCOPY --from=more . /d/\n")
    option = ("--build-context", f"more={more}")
    assert files_of(*option, context) == {
        "/f": "file 644 0:0 main",
        "/d": "dir 755 0:0",
        "/d/f": "file 644 0:0 more",
        "/d/dir": "dir 755 0:0",
        "/d/dir/g": "file 644 0:0 g",
    }
    assert pybuild("build", *option, context).stderr.count("CACHED") == 2
    (more / "dir/g").write_text("changed")
    assert pybuild("build", *option, context).stderr.count("CACHED") == 1
    write_dockerfile(context, "FROM scratch\nCOPY --from=more hidden /d/\n")
    result = pybuild("build", *option, context, check=False)
    assert '"/hidden": not found' in result.stderr
    assert ".dockerignore hides it, line 1: hidden" in result.stderr


def test_a_folder_as_a_root_file_system(busybox_image, context, more, files_of, pybuild) -> None:
    write_dockerfile(context, "FROM more AS x\nCOPY Dockerfile /\nFROM x\n")
    option = ("--build-context", f"more={more}")
    found = files_of(*option, context)
    assert found["/f"] == "file 644 0:0 more"
    assert "/hidden" not in found
    assert "/Dockerfile" in found
    pybuild("build", *option, "-t", "x", context)
    config = json.loads(pybuild("inspect", "x").stdout)[0]["Config"]
    assert config["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_a_folder_as_a_mount(busybox_image, context, more, files_of) -> None:
    write_dockerfile(
        context,
        f"FROM {busybox_image}\nRUN --mount=from=more,target=/m cp -r /m /d && ls -a /m > /names\n",
    )
    found = files_of("--build-context", f"more={more}", context)
    assert found["/d/dir/g"] == "file 644 0:0 g"
    assert found["/names"] == "file 644 0:0 .\n..\ndir\nf"


def test_a_stage_is_replaced(busybox_image, context, more, files_of) -> None:
    text = f"""\
FROM {busybox_image} AS Build
RUN exit 1
FROM build AS next
COPY Dockerfile /
FROM scratch
COPY --from=next /f /one
COPY --from=build /f /two
COPY --from=0 /dir /three
"""
    write_dockerfile(context, text)
    found = files_of("--build-context", f"build={more}", context)
    assert found == {
        "/one": "file 644 0:0 more",
        "/two": "file 644 0:0 more",
        "/three": "dir 755 0:0",
        "/three/g": "file 644 0:0 g",
    }


def test_images_by_name(busybox_image, context, files_of, pybuild) -> None:
    write_dockerfile(context, f"FROM {busybox_image}\nENV A=1\nONBUILD COPY Dockerfile /fired\n")
    pybuild("-t", "parent:1", context)
    text = "FROM golang AS a\nRUN test $A = 1\nFROM scratch\nCOPY --from=other:1 /bin/sh /s\n"
    write_dockerfile(context, text + "COPY --from=a /fired /\n")
    found = files_of(
        "--build-context",
        "golang=docker-image://parent:1",
        "--build-context",
        f"docker.io/library/other:1=docker-image://{busybox_image}",
        context,
    )
    assert found["/fired"].startswith("file 644 0:0 FROM golang")
    assert found["/s"].startswith("file 755 0:0")
    write_dockerfile(context, "FROM golang\nCOPY Dockerfile /\n")
    found = files_of("--build-context", "golang=docker-image://scratch", context)
    assert set(found) == {"/Dockerfile"}
    found = files_of("--build-context", "golang::linux/amd64=docker-image://scratch", context)
    assert set(found) == {"/Dockerfile"}


def test_oci_layouts(context, tmp_path, files_of, pybuild) -> None:
    layout = tmp_path / "layout"
    for number in ("1", "2"):
        write_dockerfile(context, f"FROM scratch\nENV N={number}\nCOPY <<EOF /n\n{number}\nEOF\n")
        archive = tmp_path / f"{number}.tar"
        pybuild("build", "-t", f"img:{number}", "-o", f"type=oci,dest={archive}", context)
        with tarfile.open(archive) as tar:
            tar.extractall(layout, filter="data")
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"]
    pybuild("rmi", "img:2", check=False)
    write_dockerfile(context, "FROM base\nCOPY --from=base /n /m\n")
    before = pybuild.image_names()
    for suffix in ("", ":2", f"@{digest}"):
        found = files_of("--build-context", f"base=oci-layout://{layout}{suffix}", context)
        assert found == {"/n": "file 644 0:0 2", "/m": "file 644 0:0 2"}
    assert pybuild.image_names() - before <= {"<none>:<none>"}
    result = pybuild(
        "build", "--build-context", f"base=oci-layout://{layout}:9", context, check=False
    )
    assert "it has no tag 9" in result.stderr
    assert "tags: 2" in result.stderr
    blob = layout / "blobs/sha256" / digest[7:]
    blob.write_bytes(blob.read_bytes() + b" ")
    result = pybuild(
        "build", "--build-context", f"base=oci-layout://{layout}", context, check=False
    )
    assert "is damaged" in result.stderr


def test_a_layer_of_a_layout_with_another_digest(context, tmp_path, pybuild) -> None:
    """One that the specification allows and we do not know; and one that leads elsewhere."""
    write_dockerfile(context, "FROM base\nCOPY --from=base /n /m\n")
    for digest, said in (
        (f"sha512:{'a' * 128}", "is not supported"),
        ("sha256:../../../../etc/passwd", "is no digest"),
    ):
        layout = layout_of(tmp_path / digest[:6], digest)
        result = pybuild(
            "build", "--build-context", f"base=oci-layout://{layout}", context, check=False
        )
        assert said in result.stderr
        assert "bug" not in result.stderr


def layout_of(folder: Path, layer: str) -> Path:
    """Make an OCI layout whose only layer has the digest `layer`."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(kind: str, content: dict[str, object]) -> dict[str, object]:
        data = json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs/sha256" / digest).write_bytes(data)
        media_type = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    config = blob("config", {"architecture": "amd64", "os": "linux", "rootfs": rootfs})
    tar = "application/vnd.oci.image.layer.v1.tar"
    layers = [{"mediaType": tar, "digest": layer, "size": 1}]
    manifest = blob("manifest", {"schemaVersion": 2, "config": config, "layers": layers})
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return folder


def test_git_and_addresses_by_name(repository, serve, context, files_of, busybox_image) -> None:
    server = serve(repository.bare.parent, backend=True)
    plain = serve(context)
    (context / "f").write_text("text")
    text = f"""\
FROM {busybox_image} AS run
RUN --mount=from=src,target=/m cat /m/f > /f
FROM src AS whole
FROM scratch
COPY --from=src /sub /sub
COPY --from=whole /run.sh /
COPY --from=run /f /f
COPY --from=file /context /g
"""
    write_dockerfile(context, text)
    found = files_of(
        "--build-context",
        f"src={server.address}/repo.git#light",
        "--build-context",
        f"file={plain.address}/f",
        context,
    )
    assert found["/sub/dir/g"] == "file 644 0:0 g"
    assert found["/run.sh"] == "file 644 0:0 #!/bin/sh"
    assert found["/f"] == "file 644 0:0 one"
    assert found["/g"] == "file 600 0:0 text"


WRONG = {
    "more": (2, "is no NAME=WHERE"),
    "=x": (2, "is no NAME=WHERE"),
    "a b=.": (1, "invalid context name"),
    "x=nosuchfolder": (1, "build context x: nosuchfolder: no such directory"),
    "x=Dockerfile": (1, "build context x: Dockerfile: not a directory"),
    "x=docker-image://UPPER": (1, "build context x"),
    "x=oci-layout://nosuch": (1, "nosuch"),
    "x=oci-layout://.@sha256:1": (1, "invalid digest sha256:1"),
    "x=ftp://h/f": (1, "unsupported context source ftp://h/f"),
    "x=https://h/r.git?tag=a&branch=b": (1, "branch conflicts with tag"),
    "x::nosuch=.": (1, "invalid platform"),
}


@pytest.mark.parametrize("option", WRONG)
def test_named_contexts_that_cannot_be(option: str, context, pybuild) -> None:
    write_dockerfile(context, "FROM x\n")
    code, part = WRONG[option]
    result = pybuild("build", "--build-context", option, ".", cwd=context, check=False)
    assert result.returncode == code
    assert part in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fifo_as_ignore_file_or_dockerfile_does_not_hang(context, more, pybuild) -> None:
    os.mkfifo(context / "Dockerfile")
    result = pybuild("build", context, check=False, timeout=20)
    assert result.returncode == 1


# -- directories and their ignore files


def test_directories_that_cannot_be(context, pybuild, tmp_path) -> None:
    (tmp_path / "file").write_text("FROM scratch\n")
    (tmp_path / "loop").symlink_to("loop")
    for name, cause in (
        ("nowhere", "no such directory"),
        ("file", "not a directory"),
        ("loop", "no such directory"),
        ("", "no such directory"),
    ):
        result = pybuild("build", name, cwd=tmp_path, check=False)
        assert result.returncode == 1
        assert f"build context {name}: {cause}" in result.stderr
    (tmp_path / "link").symlink_to(context)
    write_dockerfile(context, "FROM scratch\nCOPY . /d/\n")
    pybuild("build", "link", cwd=tmp_path)
    pybuild("build", f"{tmp_path}/link/../context/", cwd=tmp_path)


def test_an_ignore_file_of_a_dockerfile(context, tmp_path, files_of, pybuild) -> None:
    """`NAME.dockerignore` beside the Dockerfile replaces the context's, wherever that lies."""
    for name in ("a", "b", "c"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("a\n.dockerignore\n")
    write_dockerfile(context, "FROM scratch\nCOPY . /d/\n")
    assert {"/d/b", "/d/c"} == set(files_of(context)) - {"/d", "/d/Dockerfile"}
    (context / "Dockerfile.dockerignore").write_text("b\nDocker*\n.docker*\n")
    assert set(files_of(context)) == {"/d", "/d/a", "/d/c"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "Other").write_text("FROM scratch\nCOPY . /d/\n")
    (elsewhere / "Other.dockerignore").write_text("**\n!c\n")
    assert set(files_of("-f", elsewhere / "Other", context)) == {"/d", "/d/c"}
    (elsewhere / "Other.dockerignore").write_text("[\n")
    result = pybuild("build", "-f", elsewhere / "Other", context, check=False)
    assert result.returncode == 1
    assert 'Other.dockerignore:1: bad pattern "["' in result.stderr
    (elsewhere / "Other.dockerignore").write_text("x\n\n# y\n!\n")
    result = pybuild("build", "-f", elsewhere / "Other", context, check=False)
    assert "Other.dockerignore:4: illegal exclusion pattern: !" in result.stderr


def test_addresses_that_cannot_be(site, context, files_of, pybuild) -> None:
    write_dockerfile(context, "FROM scratch\nCOPY --from=x /context /\n")
    for address, cause in (
        (f"{site.address}/none", "404"),
        ("http://127.0.0.1:1/f", "connection refused"),
        ("http://[/f", "invalid"),
    ):
        result = pybuild("build", "--build-context", f"x={address}", context, check=False)
        assert result.returncode == 1
        assert cause in result.stderr.lower()
        assert "Traceback" not in result.stderr
    # An archive stays one: only the main context is unpacked.
    found = files_of("--build-context", f"x={site.address}/a.gz", context)
    assert found["/context"].startswith("file 600 0:0 ")
