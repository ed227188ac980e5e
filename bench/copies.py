"""The rows whose contexts hold files: a rebuild that finds everything cached, and COPY.

The contexts lie in the work folder, one for each contestant, and are on disk (synced) before a
command is measured.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contestants import DEBIAN, Contestant
from rows import Job, Row

CACHED_FILES = 2_000
MANY_FILES = 20_000
FILE_BYTES = 4096
BIG_BYTES = 1 << 30
MIB = 1 << 20

_CACHED = (
    f"20 instructions, a context of {CACHED_FILES:,} files, every step in every tool's cache; "
    "nothing is compressed or pushed."
)
_COPIED = "FROM scratch; every file is new to every tool; nothing is compressed or pushed."
ROWS = {
    "b": Row("b", "rebuild, nothing changed", _CACHED, repeats=3),
    "b-tag": Row("b-tag", "the same with a new tag", _CACHED, repeats=3),
    "b-unused": Row("b-unused", "the same, one file touched that no step uses", _CACHED, repeats=3),
    "d1": Row("d1", f"COPY of {MANY_FILES:,} files of 4 KiB, cold", _COPIED),
    "d2": Row("d2", f"rebuild after one of the {MANY_FILES:,} files changed", "as d1."),
    "d3": Row("d3", "COPY of one random file of 1 GiB, cold", _COPIED),
}


def cached_dockerfile() -> str:
    """Return a Dockerfile of 20 instructions: 6 RUN, 4 COPY, metadata between them."""
    lines = [f"FROM {DEBIAN}", 'LABEL title="bench" version="1"', "ENV LANG=C.UTF-8 MODE=prod"]
    lines += ["ARG LEVEL=2", "WORKDIR /app", "RUN echo base > /base"]
    lines += ["COPY one.txt /etc/one", "RUN cat /etc/one", "ENV STEP=1", "COPY src /app/src"]
    lines += ["RUN ls /app/src > /listing", "USER daemon", "USER root", "EXPOSE 8080"]
    lines += ["COPY one.txt /etc/two", "RUN echo $LEVEL > /level", "VOLUME /data"]
    lines += ["RUN echo last > /last", 'ENTRYPOINT ["/bin/cat"]', 'CMD ["/last"]']
    return "\n".join([*lines, ""])


def fill(folder: Path, count: int, *, size_bytes: int, nonce: str) -> None:
    """Write `count` different files, 200 in a directory."""
    for number in range(count):
        if number % 200 == 0:
            (folder / f"d{number // 200:04}").mkdir(parents=True)
        head = f"{nonce} {number}\n".encode()
        path = folder / f"d{number // 200:04}" / f"f{number:06}.txt"
        path.write_bytes(head.ljust(size_bytes, b"%d" % (number % 10)))


def random_file(path: Path) -> None:
    """Write a random file of BIG_BYTES."""
    with path.open("wb") as file:
        for _ in range(BIG_BYTES // MIB):
            file.write(os.urandom(MIB))


@dataclass(frozen=True, slots=True)
class Copies:
    """One row's contexts for one contestant; `folder` is empty at the beginning."""

    row: Row
    contestant: Contestant
    folder: Path

    def jobs(self) -> Iterator[Job]:
        """Yield the row's command, again and again."""
        name = self.row.name
        if name.startswith("b"):
            yield from self._cached()
        elif name == "d2":
            yield from self._one_changed()
        else:
            yield from self._cold()

    def _argv(self, context: Path, tag: str) -> list[str]:
        assert self.contestant.build_argv is not None
        return self.contestant.build_argv(context, f"localhost/bench-{self._who}:{tag}")

    @property
    def _who(self) -> str:
        return re.sub("[^a-z0-9]+", "-", f"{self.row.name} {self.contestant.name}".lower())

    def _job(self, argv: list[str], prepare: Callable[[], None], tag: str) -> Job:
        assert self.contestant.forget_argv is not None
        forget = self.contestant.forget_argv(f"localhost/bench-{self._who}:{tag}")
        return Job(argv, forget, prepare)

    def _cached(self) -> Iterator[Job]:
        context = self.folder / self._who
        fill(context / "src", CACHED_FILES - 12, size_bytes=500, nonce=self._who)
        for number in range(10):
            (context / f"unused-{number}.md").write_text(f"{number}\n")
        (context / "one.txt").write_text("one\n")
        (context / "Dockerfile").write_text(cached_dockerfile())
        os.sync()
        self.contestant.quietly(self._argv(context, "x"))
        number = 0
        while True:
            number += 1

            def prepare(number: int = number) -> None:
                if self.row.name == "b-unused":
                    (context / "unused-3.md").write_text(f"{number}\n")

            new_tag = self.row.name == "b-tag"
            yield Job(self._argv(context, str(number) if new_tag else "x"), prepare=prepare)

    def _one_changed(self) -> Iterator[Job]:
        context = self.folder / self._who
        fill(context / "files", MANY_FILES, size_bytes=FILE_BYTES, nonce=self._who)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY files /files\n")
        os.sync()
        self.contestant.quietly(self._argv(context, "x"))
        number = 0
        while True:
            number += 1

            def prepare(number: int = number) -> None:
                path = context / "files/d0050/f010000.txt"
                path.write_bytes(f"changed {number}\n".encode().ljust(FILE_BYTES, b"x"))
                os.sync()

            yield Job(self._argv(context, "x"), prepare=prepare)

    def _cold(self) -> Iterator[Job]:
        number = 0
        while True:
            number += 1
            context = self.folder / f"{self._who}-{number}"

            def prepare(number: int = number, context: Path = context) -> None:
                self._clear(number - 1)
                context.mkdir()
                (context / "Dockerfile").write_text("FROM scratch\nCOPY files /files\n")
                if self.row.name == "d1":
                    nonce = f"{self._who} {number}"
                    fill(context / "files", MANY_FILES, size_bytes=FILE_BYTES, nonce=nonce)
                else:
                    (context / "files").mkdir()
                    random_file(context / "files" / "big")
                os.sync()

            yield self._job(self._argv(context, str(number)), prepare, str(number))

    def _clear(self, number: int) -> None:
        """Remove a context, and what the tool remembers: a gigabyte a round fills the disk."""
        shutil.rmtree(self.folder / f"{self._who}-{number}", ignore_errors=True)
        if self.row.name == "d3" and self.contestant.prune_argv:
            subprocess.run(
                self.contestant.prune_argv,
                env=self.contestant.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )


def jobs(row: Row, contestant: Contestant, folder: Path) -> Iterator[Job]:
    """Yield a row's command for a contestant; folder: for the contexts of all of them."""
    return Copies(row, contestant, folder).jobs()
