"""Build cases whose context comes another way than as a directory: testdata/builds/contexts.toml.

What has to come out is what another builder made of the same bytes, in recorded.json beside what
it made of the other cases. `sent`: `text` (a Dockerfile on standard input), `archive` (a tar there,
`archive tar.gz` a packed one), `http text`, `http archive`, `git`: a repository with two commits on
`main`, a branch `other`, in which the file `f` says `other`, and a tag `v1` on the first commit.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from builds import cases, sources
from builds.gitrepo import run_git

TABLE = cases.FOLDER / "contexts.toml"


@dataclass(frozen=True, slots=True)
class ContextCase:
    """One case. file: what `-f` names. ref: what stands behind the address, as `#main`.

    cut: how many bytes are missing at the end of what is sent. refused: what our error says.
    """

    name: str
    sent: str
    dockerfile: str
    rows: tuple[sources.Row, ...]
    file: str = ""
    ref: str = ""
    cut: int = 0
    refused: str = ""

    @property
    def is_served(self) -> bool:
        """Tell whether a server hands the context out."""
        return self.sent.startswith(("http", "git"))

    def data(self) -> bytes:
        """Return what is sent, unless that is a repository."""
        if self.sent.endswith("text"):
            return self.dockerfile.encode()
        kind = self.sent.rpartition(" ")[2] if "tar" in self.sent else "tar"
        packed = sources.packed(kind, self.rows)
        return packed[: len(packed) - self.cut]

    def serve_from(self, folder: Path) -> None:
        """Put what a server hands out into a folder: `context`, or `context.git`."""
        if self.sent != "git":
            (folder / "context").write_bytes(self.data())
            return
        work = folder / "work"
        sources.make_files(work, self.rows)
        run_git(work, "init", "-q")
        commit(work)
        run_git(work, "tag", "v1")
        (work / "f").write_text("second\n")
        commit(work)
        run_git(work, "checkout", "-q", "-b", "other")
        (work / "f").write_text("other\n")
        commit(work)
        run_git(work, "checkout", "-q", "main")
        run_git(folder, "clone", "-q", "--bare", "work", "context.git")

    def words(self, http: str, git: str) -> list[str]:
        """Return the arguments of `build`, given the addresses of both servers."""
        where = {"http": f"{http}/context", "git": f"{git}/context.git{self.ref}"}
        named = ["-f", self.file] if self.file else []
        return [*named, where.get(self.sent.partition(" ")[0], "-")]


def commit(folder: Path) -> None:
    """Commit all that is there."""
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", "m")


def read_context_cases() -> list[ContextCase]:
    """Return all cases; a case without files has those of the table."""
    table = tomllib.loads(TABLE.read_text())
    found = []
    for row in table["context"]:
        files = row.pop("files", table["files"])
        text = row.pop("dockerfile", "")
        own = [["Dockerfile", "file 644", text]] if text else []
        found.append(ContextCase(**row, dockerfile=text, rows=tuple(map(tuple, [*own, *files]))))
    return found
