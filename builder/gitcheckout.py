"""Checking out git repositories: what `git` is told, and which of its files are kept.

git is called, as BuildKit calls it. Talking to a server, it has the configuration and credentials
of whoever builds; making files, it has none, so that the same commit gives the same files
everywhere. Nothing of the repository's own runs: no hooks, no filters.
"""

import base64
import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

from builder.errors import Canceled
from builder.gitref import GitRef, is_commit, without_credentials, without_password
from builder.rootpath import Follow, is_dir, resolve
from runtime.cancel import Cancel
from values.classes import dataclass

_TAIL_BYTES = 4000
# What a repository that we run in would pass on. Source: git rev-parse --local-env-vars.
_LOCAL = re.compile(
    "GIT_(ALTERNATE_OBJECT_DIRECTORIES|CONFIG|OBJECT_DIRECTORY|DIR|WORK_TREE|IMPLICIT_WORK_TREE"
    "|GRAFT_FILE|INDEX_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|PREFIX|SHALLOW_FILE|COMMON_DIR"
    "|NAMESPACE)"
)
_SETTINGS = (
    ("advice.detachedHead", "false"),
    ("core.autocrlf", "false"),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("filter.lfs.process", ""),
    ("filter.lfs.required", "false"),
    ("filter.lfs.smudge", ""),
    ("init.defaultBranch", "master"),
    ("protocol.file.allow", "never"),
)
_UMASK = 0o022


class GitFailure(Exception):
    """git could not do what was asked; `hint` says what to do, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class TooSlow(GitFailure):
    """git took longer than it may."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a `GitRef` leads to now.

    name: of the commit, or of the annotated tag if its own name was meant. ref: by which it is
    fetched; "" for a commit that was named itself. commit: where a tag leads, else `name`.
    """

    name: str
    ref: str
    commit: str


Secret = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Git:
    """Calls git. secret: gives GIT_AUTH_TOKEN and GIT_AUTH_HEADER, by name.

    agent: gives the socket of the key agent that ssh is to use, None for the caller's own.
    settings: given to each call. protocols: what git may fetch by, a submodule too. isolated:
    nobody's configuration counts where files are made. deadline: when a call ends that has not
    (time.monotonic()).
    """

    cancel: Cancel
    secret: Secret
    on_output: Callable[[bytes], None] = lambda data: None
    agent: Callable[[], str | None] = lambda: None
    settings: tuple[tuple[str, str], ...] = _SETTINGS
    protocols: str = "http:https:ssh:git"
    isolated: bool = True
    deadline: float | None = None

    def find(self, ref: GitRef) -> Commit:
        """Ask the server what `ref` is. Raises GitFailure.

        A branch comes before a tag of the same name, as in `git checkout`.
        """
        if is_commit(ref.ref):
            return checked(Commit(ref.ref, "", ref.ref), ref)
        wanted = [ref.ref, f"{ref.ref}^{{}}"] if ref.ref else ["HEAD"]
        text = self.ask(["ls-remote", "--symref", "--", ref.remote, *wanted], ref.remote)
        return checked(choose(text.decode("utf-8", "replace"), ref), ref)

    def check_out(self, ref: GitRef, commit: Commit, scratch: str, target: str) -> None:
        """Make the files of a commit in the empty directory `target`.

        scratch: an empty directory of the same file system, for git's own files. Raises
        GitFailure.
        """
        subdir = ref.subdir.strip("/")
        keeps = bool(ref.keep_git_dir) and subdir in ("", ".")
        tree = os.path.join(scratch, "tree") if subdir not in ("", ".") else target
        os.makedirs(tree, exist_ok=True)
        repository = os.path.join(target if keeps else scratch, ".git")
        self.fetch(ref, commit, repository, tree)
        self.local(["checkout", "--quiet", "--force", "--detach", commit.name], repository, tree)
        if ref.submodules is not False and os.path.lexists(os.path.join(tree, ".gitmodules")):
            self.update_submodules(ref, repository, tree)
        if ref.commit_time:
            set_times(tree, int(self.local(["log", "-1", "--format=%ct"], repository, tree)))
        if keeps:
            self.tidy(ref, repository, tree)
        else:
            remove_git_files(tree)
        if tree != target:
            move_contents(tree, subdir, target)

    def fetch(self, ref: GitRef, commit: Commit, repository: str, tree: str) -> None:
        """Bring a commit into a new repository: it alone where the server knows how."""
        self.local(["init", "--quiet", "--template="], repository, tree)
        self.local(["remote", "add", "origin", ref.remote], repository, tree)
        attempts = [
            ["--depth=1", "origin", commit.name],
            ["origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"],
        ]
        if commit.ref.startswith("refs/"):
            attempts.insert(0, ["--depth=1", "origin", f"+{commit.ref}:{commit.ref}"])
        failure: GitFailure | None = None
        for words in attempts:
            command = ["fetch", "--quiet", "--update-head-ok", "--no-tags", *words]
            try:
                self.remote(command, ref, repository, tree)
            except GitFailure as error:
                failure = failure or error
                continue
            if self.has(commit.name, repository, tree):
                return
        raise failure or GitFailure(
            f"git fetch {without_password(ref.remote)}: there is no commit {commit.name}"
        )

    def has(self, name: str, repository: str, tree: str) -> bool:
        """Tell whether a commit is in a repository."""
        try:
            self.local(["cat-file", "-e", f"{name}^{{commit}}"], repository, tree)
        except GitFailure:
            return False
        return True

    def update_submodules(self, ref: GitRef, repository: str, tree: str) -> None:
        """Check out the submodules, and theirs: shallow where the server knows how."""
        words = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"]
        try:
            self.remote([*words, "--depth=1"], ref, repository, tree)
        except GitFailure:
            self.remote(words, ref, repository, tree)

    def tidy(self, ref: GitRef, repository: str, tree: str) -> None:
        """Take out of a repository that is kept what a later command might trip over, or tell."""
        address = without_credentials(ref.remote)
        self.local(["remote", "set-url", "origin", address], repository, tree)
        self.local(["reflog", "expire", "--all", "--expire=now"], repository, tree)
        for name in ("FETCH_HEAD", "ORIG_HEAD"):
            path = os.path.join(repository, name)
            if os.path.lexists(path):
                os.unlink(path)

    # -- calling

    def ask(self, words: Sequence[str], remote: str) -> bytes:
        """Run a command that needs no repository."""
        return self._run(words, {**self._inherited(), **self._credentials(remote)}, "/", remote)

    def remote(self, words: Sequence[str], ref: GitRef, repository: str, tree: str) -> bytes:
        """Run a command that talks to a server."""
        places = {"GIT_DIR": repository, "GIT_WORK_TREE": tree}
        environment = {**self._inherited(), **places, **self._credentials(ref.remote)}
        return self._run(words, environment, tree, ref.remote)

    def local(self, words: Sequence[str], repository: str, tree: str) -> bytes:
        """Run a command that makes files."""
        environment = {**self._inherited(), "GIT_DIR": repository, "GIT_WORK_TREE": tree}
        if self.isolated:
            kept = {name: value for name, value in environment.items() if "CONFIG" not in name}
            nothing = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
            environment = {**kept, **nothing}
        return self._run(words, environment, tree, "")

    def _credentials(self, remote: str) -> dict[str, str]:
        """Return what gives git a key agent or a server's header, by environment only."""
        found = re.match(r"https?://(?:[^/@]*@)?([^/]+)(?:/|$)", remote)
        if found is None:
            agent = self.agent()
            return {} if agent is None else {"SSH_AUTH_SOCK": agent}
        header = self._header(found[1])
        if header is None:
            return {}
        inherited = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        return {
            "GIT_CONFIG_COUNT": str(inherited + 1),
            f"GIT_CONFIG_KEY_{inherited}": f"http.{without_credentials(remote)}.extraHeader",
            f"GIT_CONFIG_VALUE_{inherited}": f"Authorization: {header}",
        }

    def _header(self, host: str) -> str | None:
        """Return the header for a host, which may have a port; secrets may name it without."""
        for suffix in (f".{host}", f".{host.partition(':')[0]}", ""):
            header = self.secret(f"GIT_AUTH_HEADER{suffix}")
            if header is not None:
                return os.fsdecode(header).strip()
            token = self.secret(f"GIT_AUTH_TOKEN{suffix}")
            if token is not None:
                pair = b"x-access-token:" + token.strip()
                return f"basic {base64.b64encode(pair).decode()}"
        return None

    def _inherited(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not _LOCAL.fullmatch(name)}
        kept.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        return {
            **kept,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": self.protocols,
            "LC_ALL": "C",
        }

    def _run(
        self, words: Sequence[str], environment: Mapping[str, str], cwd: str, remote: str
    ) -> bytes:
        settings = [part for item in self.settings for part in ("-c", "=".join(item))]
        try:
            process = subprocess.Popen(
                ["git", *settings, *words],
                env=environment,
                cwd=cwd,
                umask=_UMASK,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitFailure(
                "git is not installed", hint="install the package git to use git repositories"
            ) from error
        output, tail = self._read(process)
        if process.wait() != 0:
            what = f"git {words[0]} {without_password(remote)}".rstrip()
            raise GitFailure(f"{what}: {_cause(tail, process.returncode)}")
        return output

    def _read(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """Return what git prints, and the end of its complaints. Raises Canceled, TooSlow."""
        output, tail = b"", b""
        assert process.stdout is not None and process.stderr is not None
        with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
            selector.register(self.cancel.fd, selectors.EVENT_READ)
            streams: set[IO[bytes]] = {process.stdout, process.stderr}
            for stream in streams:
                selector.register(stream, selectors.EVENT_READ)
            while streams:
                left_s = None if self.deadline is None else self.deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    _kill(process)
                    raise TooSlow("git")
                for key, _ in selector.select(left_s):
                    if key.fileobj == self.cancel.fd:
                        _kill(process)
                        raise Canceled
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                        streams = {stream for stream in streams if stream is not key.fileobj}
                    elif key.fileobj is process.stdout:
                        output += data
                    else:
                        tail = (tail + data)[-_TAIL_BYTES:]
                        self.on_output(data)
        return output, tail


def choose(text: str, ref: GitRef) -> Commit:
    """Return the commit that `git ls-remote --symref` means for a ref. Raises GitFailure."""
    rows = dict(_rows(text))
    if not ref.ref:
        branch = re.search(r"^ref: (\S+)\tHEAD$", text, re.MULTILINE)
        if "HEAD" not in rows:
            raise GitFailure(
                f"git ls-remote {without_password(ref.remote)}: the default branch is not known",
                hint="name a branch, a tag or a commit: …#REF",
            )
        return Commit(rows["HEAD"], branch[1] if branch else "HEAD", rows["HEAD"])
    short = ref.ref.removeprefix("refs/")
    full = (f"refs/{short}", f"refs/heads/{ref.ref}", f"refs/tags/{ref.ref}")
    for name in full:
        if name in rows:
            return Commit(rows[name], name, rows.get(f"{name}^{{}}", rows[name]))
    raise GitFailure(
        f"git ls-remote {without_password(ref.remote)}: repository does not contain ref {ref.ref}",
        hint="a commit has to be given by its whole name",
    )


def checked(commit: Commit, ref: GitRef) -> Commit:
    """Return `commit`, a tag's commit where git's own files are not kept. Raises GitFailure."""
    if ref.checksum and not any(
        name.startswith(ref.checksum) for name in (commit.name, commit.commit)
    ):
        found = " or ".join(dict.fromkeys((commit.name, commit.commit)))
        raise GitFailure(
            f"git {without_password(ref.remote)}: expected checksum to match {ref.checksum}, "
            f"got {found}"
        )
    return commit


def _rows(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, ref = line.partition("\t")
        if is_commit(name):
            yield ref, name


def _cause(tail: bytes, code: int) -> str:
    lines = without_password(tail.decode("utf-8", "replace")).splitlines()
    told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    return told[0].partition(": ")[2] or told[0] if told else f"exit code {code}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End git and its helpers: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def set_times(tree: str, seconds: int) -> None:
    """Give all files of a tree one time, but git's own."""
    for folder, folders, files in os.walk(tree, topdown=False):
        if ".git" in os.path.relpath(folder, tree).split("/"):
            continue
        for name in (*files, *folders):
            os.utime(os.path.join(folder, name), (seconds, seconds), follow_symlinks=False)
    os.utime(tree, (seconds, seconds))


def remove_git_files(tree: str) -> None:
    """Remove what in a checked out tree leads to git's own files: submodules have a `.git`."""
    for folder, folders, files in os.walk(tree):
        if ".git" in files:
            os.unlink(os.path.join(folder, ".git"))
        folders[:] = [name for name in folders if name != ".git"]


def move_contents(tree: str, subdir: str, target: str, follow: Follow = resolve) -> None:
    """Move what is in `subdir` of a tree to `target`; no link leads out. Raises GitFailure."""
    source = os.path.join(tree, follow(tree, subdir))
    if not is_dir(source):
        raise GitFailure(f"subdir {subdir}: no such directory in the repository")
    for name in os.listdir(source):
        os.rename(os.path.join(source, name), os.path.join(target, name))
    status = os.stat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
