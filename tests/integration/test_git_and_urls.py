"""ADD of git repositories and URLs, from servers on this machine.

Two sorts of git server: one that only hands out files (git's "dumb" protocol, without shallow
fetches or single commits), and git's own http-backend.
"""

import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

Files = Callable[..., dict[str, str]]


@dataclass
class Server:
    """An HTTP server of one folder; `requests` are the paths that were asked for."""

    address: str
    folder: Path
    requests: list[str] = field(default_factory=list)
    authorization: list[tuple[str, str | None]] = field(default_factory=list)
    backend: bool = False

    def sent(self, prefix: str) -> set[str | None]:
        """Return the Authorization headers that came with requests below a path."""
        return {header for path, header in self.authorization if path.startswith(prefix)}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, or what git's own server program answers."""

    known: Server

    def __init__(self, *args: object) -> None:
        super().__init__(*args, directory=str(self.known.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.known.requests.append(self.path)
        self.known.authorization.append((self.path, self.headers.get("Authorization")))
        if self.known.backend:
            self.answer(b"")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.known.requests.append(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(data)

    def answer(self, data: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.known.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(data)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
        }
        made = subprocess.run(
            ["git", "http-backend"], input=data, env=environment, capture_output=True, check=True
        )
        head, _, body = made.stdout.partition(b"\r\n\r\n")
        rows = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        fields = {name.lower(): value for name, value in rows}
        self.send_response(int(fields.pop("status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server of a folder."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path, *, backend: bool = False) -> Server:
        handler = type("Known", (Handler,), {})
        running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        known = Server(f"http://127.0.0.1:{running.server_port}", folder, backend=backend)
        handler.known = known
        servers.append(running)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        return known

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


def git(folder: Path, *words: str) -> str:
    """Run git in a repository, as nobody in particular."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        **{f"GIT_{who}_NAME": "n" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "e@e" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_DATE": "1600000000 +0000" for who in ("AUTHOR", "COMMITTER")},
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str], message: str = "m") -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Repository:
    """A repository with two commits, two branches, tags, and a submodule."""

    work: Path
    bare: Path
    first: str
    second: str


@pytest.fixture
def repository(tmp_path: Path, tool) -> Repository:
    """Return a repository whose bare form is `repo.git` in a folder to be served."""
    tool("git")
    (tmp_path / "served").mkdir()
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    commit(library, {"lib.c": "lib"})
    git(tmp_path, "clone", "-q", "--bare", "library", "served/lib.git")

    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    first = commit(work, {"f": "one", "sub/dir/g": "g", "run.sh": "#!/bin/sh\n"})
    git(work, "tag", "light")
    os.chmod(work / "run.sh", 0o755)
    os.symlink("f", work / "link")
    os.symlink("/etc", work / "out")
    # Relative to where the repository is cloned from, as forges like it.
    text = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n'
    (work / ".gitmodules").write_text(text)
    git(work, "clone", "-q", str(tmp_path / "served/lib.git"), "lib")
    second = commit(work, {"f": "two"})
    git(work, "tag", "-a", "-m", "t", "heavy")
    git(work, "checkout", "-q", "-b", "other", first)
    commit(work, {"f": "other"})
    git(work, "tag", "both", first)
    git(work, "branch", "both")
    git(work, "checkout", "-q", "main")
    bare = tmp_path / "served/repo.git"
    git(tmp_path, "clone", "-q", "--bare", "work", str(bare))
    for path in (bare, tmp_path / "served/lib.git"):
        git(path, "update-server-info")
    return Repository(work, bare, first, second)


@pytest.fixture(params=["dumb", "backend"])
def address(request, repository: Repository, serve) -> str:
    """Return the address of the repository, at either sort of server."""
    server = serve(repository.bare.parent, backend=request.param == "backend")
    return f"{server.address}/repo.git"


def added(context: Path, files_of: Files, *lines: str) -> dict[str, str]:
    (context / "Dockerfile").write_text("FROM scratch\n" + "\n".join(lines) + "\n")
    return files_of(context)


WHOLE = {
    "/r": "dir 755 0:0",
    "/r/.gitmodules": 'file 644 0:0 [submodule "lib"]\n\tpath = lib\n\turl = ../lib.git',
    "/r/f": "file 644 0:0 two",
    "/r/lib": "dir 755 0:0",
    "/r/lib/lib.c": "file 644 0:0 lib",
    "/r/link": "link f 0:0",
    "/r/out": "link /etc 0:0",
    "/r/run.sh": "file 755 0:0 #!/bin/sh",
    "/r/sub": "dir 755 0:0",
    "/r/sub/dir": "dir 755 0:0",
    "/r/sub/dir/g": "file 644 0:0 g",
}


def test_a_repository(address, context, files_of) -> None:
    old = os.umask(0o077)
    try:
        assert added(context, files_of, f"ADD {address} /r") == WHOLE
    finally:
        os.umask(old)


REFS = {
    "#main": "two",
    "#other": "other",
    "#light": "one",
    "#heavy": "two",
    "#refs/heads/other": "other",
    "#heads/other": "other",
    "#tags/light": "one",
    "#both": "other",
    "?tag=both": "one",
    "?branch=both": "other",
    "#{first}": "one",
    "?commit={first}": "one",
    "?ref=main&checksum={second}": "two",
    "?ref=heavy&checksum={short}": "two",
}


def test_refs(repository, serve, context, files_of) -> None:
    server = serve(repository.bare.parent, backend=True)
    names = {"first": repository.first, "second": repository.second}
    lines = [
        f"ADD --exclude=lib {server.address}/repo.git"
        f"{rest.format(**names, short=repository.second[:7])} /r{number}"
        for number, rest in enumerate(REFS)
    ]
    found = added(context, files_of, *lines)
    seen = {rest: found[f"/r{number}/f"] for number, rest in enumerate(REFS)}
    assert seen == {rest: f"file 644 0:0 {text}" for rest, text in REFS.items()}


def test_a_commit_by_name_from_a_server_that_knows_only_files(
    repository, serve, context, files_of
) -> None:
    server = serve(repository.bare.parent)
    source = f"{server.address}/repo.git#{repository.first}"
    assert added(context, files_of, f"ADD {source} /r")["/r/f"] == "file 644 0:0 one"


def test_a_directory_of_a_repository(address, context, files_of) -> None:
    found = added(
        context, files_of, f"ADD {address}#main:sub /r", f"ADD {address}?subdir=/sub/dir /s"
    )
    assert found["/r/dir/g"] == "file 644 0:0 g"
    assert found["/s/g"] == "file 644 0:0 g"
    assert "/r/f" not in found


def test_submodules_can_be_left_out(address, context, files_of) -> None:
    found = added(context, files_of, f"ADD {address}?submodules=false /r")
    assert found["/r/lib"] == "dir 755 0:0"
    assert "/r/lib/lib.c" not in found


def test_the_git_directory_is_kept_on_request(
    address, repository, busybox_image, context, pybuild, tmp_path
) -> None:
    lines = [f"ADD --keep-git-dir {address}#heavy /r", f"ADD {address}?keep-git-dir=1#:sub /s"]
    (context / "Dockerfile").write_text("FROM scratch\n" + "\n".join(lines) + "\n")
    pybuild("-o", f"type=oci,dest={tmp_path}/x.tar", "-t", "x", context)
    (kept,) = [
        path
        for path in pybuild.root.glob("layers/sha256/*/fs/r/.git")
        if (path / "config").exists()
    ]
    assert git(kept.parent, "rev-parse", "heavy^{commit}") == repository.second
    assert git(kept.parent, "status", "--porcelain") == ""
    assert git(kept.parent, "remote", "get-url", "origin") == address.partition("?")[0]
    assert git(kept.parent, "describe", "--tags") == "heavy"
    assert not (kept / "FETCH_HEAD").exists()
    assert not (kept / "hooks").exists()
    assert not list(pybuild.root.glob("layers/sha256/*/fs/s/.git"))


def test_files_may_have_the_commits_time(address, busybox_image, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nADD {address}?mtime=commit /r\n")
    pybuild("-t", "x", context)
    times = pybuild("run", "--rm", "x", "stat", "-c", "%Y", "/r/f", "/r/sub", "/r/lib/lib.c").stdout
    assert times.split() == ["1600000000"] * 3


def test_a_branch_is_asked_for_each_time_and_fetched_once(
    repository, serve, context, pybuild
) -> None:
    server = serve(repository.bare.parent, backend=True)
    text = f"FROM scratch\nADD --exclude=lib {server.address}/repo.git#main /r\n"
    (context / "Dockerfile").write_text(text)
    pybuild(context)
    server.requests.clear()
    again = pybuild(context)
    assert again.stderr.count("CACHED") == 2
    assert [path.partition("?")[0] for path in server.requests] == [
        "/repo.git/info/refs",
        "/repo.git/git-upload-pack",
    ]
    server.requests.clear()
    (context / "Dockerfile").write_text(text.replace("#main", f"#{repository.second}"))
    assert pybuild(context).stderr.count("CACHED") == 2
    assert server.requests == []
    commit(repository.work, {"f": "three"})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    (context / "Dockerfile").write_text(text)
    assert pybuild(context).stderr.count("CACHED") == 0


def test_what_is_said_when_git_cannot(repository, serve, context, pybuild, tmp_path) -> None:
    server = serve(repository.bare.parent, backend=True)
    url = f"{server.address}/repo.git"
    cases = {
        f"{url}#nosuchref /r": "repository does not contain ref nosuchref",
        f"{server.address}/none.git /r": "not found",
        f"{url}#main:none /r": "subdir none: no such directory",
        f"--checksum={'0' * 40} {url}#main /r": "expected checksum to match",
        f"--checksum=xyz {url} /r": "invalid checksum",
        f"{url}#{'0' * 40} /r": "git fetch",
        f"--keep-git-dir=false {url}?keep-git-dir=1 /r": "inconsistent keep-git-dir",
        "http://u:secretword@127.0.0.1:1/x.git /r": "git ls-remote http://u:xxxxx@127.0.0.1:1/x.git",
    }
    for words, part in cases.items():
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {words}\n")
        result = pybuild("build", context, check=False)
        assert result.returncode == 1
        assert part in result.stderr
        assert "Dockerfile:2" in result.stderr
        assert "Traceback" not in result.stderr
        if "secretword" in words:
            assert "secretword" not in result.stderr.partition("-----")[0]
    empty = tmp_path / "bin"
    empty.mkdir()
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {url} /r\n")
    result = pybuild("build", context, check=False, env={"PATH": str(empty)})
    assert "git is not installed" in result.stderr
    assert "hint: install the package git" in result.stderr


def test_a_token_goes_to_its_server_as_a_header(repository, serve, context, pybuild) -> None:
    server = serve(repository.bare.parent, backend=True)
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.address}/repo.git /r\n")
    host = "127.0.0.1"
    secrets = [
        "--secret",
        "id=GIT_AUTH_TOKEN,env=A",
        "--secret",
        f"id=GIT_AUTH_HEADER.{host},env=B",
    ]
    pybuild("build", *secrets[:2], context, env={"A": "tok", "B": "Bearer x"})
    assert server.sent("/repo.git") == {"basic eC1hY2Nlc3MtdG9rZW46dG9r"}
    assert server.sent("/lib.git") == {None}
    server.authorization.clear()
    pybuild("build", "--no-cache", *secrets, context, env={"A": "tok", "B": "Bearer x"})
    assert server.sent("/repo.git") == {"Bearer x"}


def test_hostile_repositories_stay_inside(tmp_path, serve, context, files_of, pybuild) -> None:
    """A subdirectory that is a link out, a link for .gitmodules' path: nothing outside is read."""
    work = tmp_path / "hostile"
    work.mkdir()
    git(work, "init", "-q")
    os.symlink("/etc", work / "sub")
    (work / ".gitattributes").write_text("f filter=evil\n")
    commit(work, {"f": "f"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "-q", "--bare", "hostile", "served/repo.git")
    server = serve(tmp_path / "served", backend=True)
    (context / "Dockerfile").write_text(
        f"FROM scratch\nADD {server.address}/repo.git#main:sub /r\n"
    )
    result = pybuild("build", context, check=False)
    assert "subdir sub: no such directory" in result.stderr
    mark = tmp_path / "mark"
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "filter.evil.smudge",
        "GIT_CONFIG_VALUE_0": f"touch {mark}; cat",
    }
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.address}/repo.git /r\n")
    pybuild("build", context, env=settings)
    assert not mark.exists()


# -- URLs


def archive_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}") as archive:
        member = tarfile.TarInfo("in/tar")
        member.size, member.mode, member.uid, member.gid = 1, 0o640, 5, 6
        archive.addfile(member, io.BytesIO(b"t"))
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path: Path, serve) -> Server:
    folder = tmp_path / "site"
    (folder / "dir").mkdir(parents=True)
    (folder / "f.txt").write_text("text\n")
    (folder / "a b").write_text("blank\n")
    os.utime(folder / "f.txt", (0, 1_500_000_000))
    (folder / "dir/index.html").write_text("index\n")
    for mode in ("gz", "bz2", "xz"):
        (folder / f"a.{mode}").write_bytes(archive_bytes(mode))
    (folder / "plain").write_bytes(archive_bytes(""))
    return serve(folder)


def test_urls(site, context, files_of) -> None:
    url = site.address
    digest = hashlib.sha256(b"text\n").hexdigest()
    found = added(
        context,
        files_of,
        f"ADD {url}/f.txt /",
        f"ADD {url}/f.txt /name",
        f"ADD {url}/a%20b /d/",
        f"ADD {url}/dir/ /d/",
        f"ADD {url} /d/",
        f"ADD --chmod=640 --chown=3:4 {url}/f.txt /e/",
        f"ADD --checksum=sha256:{digest} {url}/f.txt?x=1 /g/",
        f"ADD {url}/a.gz /h/",
        f"ADD {url}/f.txt {url}/plain /i/",
    )
    assert found["/f.txt"] == "file 600 0:0 text"
    assert found["/name"] == "file 600 0:0 text"
    assert found["/d/a b"] == "file 600 0:0 blank"
    assert found["/d/dir"] == "file 600 0:0 index"
    assert found["/d/__unnamed__"].startswith("file 600 0:0 <!DOCTYPE")
    assert found["/e/f.txt"] == "file 640 3:4 text"
    assert found["/g/f.txt"] == "file 600 0:0 text"
    assert found["/h/a.gz"].startswith("file 600 0:0 ")
    assert found["/i/plain"].startswith("file 600 0:0 in/tar")


def test_archives_at_an_address_are_unpacked_on_request(site, context, files_of) -> None:
    lines = [f"ADD --unpack {site.address}/a.{mode} /{mode}" for mode in ("gz", "bz2", "xz")]
    found = added(
        context,
        files_of,
        *lines,
        f"ADD --unpack {site.address}/plain /plain",
        f"ADD --unpack --chown=1:2 {site.address}/plain /owned/",
        f"ADD --unpack {site.address}/f.txt /text",
        f"ADD --unpack=false {site.address}/plain /packed",
    )
    for name in ("gz", "bz2", "xz", "plain"):
        assert found[f"/{name}/in/tar"] == "file 640 5:6 t"
    assert found["/owned/in/tar"] == "file 640 1:2 t"
    assert found["/text"] == "file 600 0:0 text"
    assert found["/packed"].startswith("file 600 0:0 in/tar")


def test_a_wrong_checksum(site, context, pybuild) -> None:
    text = f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {site.address}/f.txt /\n"
    (context / "Dockerfile").write_text(text)
    result = pybuild("build", context, check=False)
    assert result.returncode == 1
    assert f"expected sha256:{'0' * 64}" in result.stderr
    assert "Dockerfile:2" in result.stderr


def test_a_changed_file_is_noticed_by_the_server_being_asked(site, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {site.address}/f.txt /\n")
    pybuild(context)
    assert pybuild(context).stderr.count("CACHED") == 2
    (site.folder / "f.txt").write_text("changed\n")
    assert pybuild(context).stderr.count("CACHED") == 0


def test_a_token_for_a_download(site, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {site.address}/f.txt /\n")
    secret = ["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=A"]
    pybuild("build", *secret, context, env={"A": "tok"})
    assert site.sent("/f.txt") == {"Bearer tok"}
    site.authorization.clear()
    secret = ["--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,env=A"]
    pybuild("build", "--no-cache", *secret, context, env={"A": "Basic abc"})
    assert site.sent("/f.txt") == {"Basic abc"}
