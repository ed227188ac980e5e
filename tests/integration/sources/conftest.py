"""Servers of files and of git repositories, on this machine.

Two sorts of git server: one that only hands out files (git's "dumb" protocol, without shallow
fetches or single commits), and git's own http-backend.
"""

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
from builds.gitrepo import run_git


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


def commit_files(folder: Path, files: dict[str, str], message: str = "m") -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", message)
    return run_git(folder, "rev-parse", "HEAD")


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
    run_git(library, "init", "-q")
    commit_files(library, {"lib.c": "lib"})
    run_git(tmp_path, "clone", "-q", "--bare", "library", "served/lib.git")

    work = tmp_path / "work"
    work.mkdir()
    run_git(work, "init", "-q")
    first = commit_files(work, {"f": "one", "sub/dir/g": "g", "run.sh": "#!/bin/sh\n"})
    run_git(work, "tag", "light")
    os.chmod(work / "run.sh", 0o755)
    os.symlink("f", work / "link")
    os.symlink("/etc", work / "out")
    # Relative to where the repository is cloned from, as forges like it.
    text = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n'
    (work / ".gitmodules").write_text(text)
    run_git(work, "clone", "-q", str(tmp_path / "served/lib.git"), "lib")
    second = commit_files(work, {"f": "two"})
    run_git(work, "tag", "-a", "-m", "t", "heavy")
    run_git(work, "checkout", "-q", "-b", "other", first)
    commit_files(work, {"f": "other"})
    run_git(work, "tag", "both", first)
    run_git(work, "branch", "both")
    run_git(work, "checkout", "-q", "main")
    bare = tmp_path / "served/repo.git"
    run_git(tmp_path, "clone", "-q", "--bare", "work", str(bare))
    for path in (bare, tmp_path / "served/lib.git"):
        run_git(path, "update-server-info")
    return Repository(work, bare, first, second)


@pytest.fixture
def git() -> Callable[..., str]:
    """Return a function: git(folder, *words) runs git there, as nobody in particular."""
    return run_git


@pytest.fixture
def commit() -> Callable[..., str]:
    """Return a function: commit(folder, files) writes files, commits all, returns the name."""
    return commit_files


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
