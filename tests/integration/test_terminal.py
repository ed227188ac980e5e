"""Live progress on a real terminal: tmux plays it, and says what is on the screen."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
PATIENCE_S = 20


class Terminal:
    """A tmux server with one window in which a shell runs."""

    def __init__(self, tmux: str, socket: Path, columns: int, lines: int) -> None:
        self._tmux = [tmux, "-S", os.fspath(socket), "-f", "/dev/null"]
        size = ["-x", str(columns), "-y", str(lines)]
        shell = ["env", "TERM=screen-256color", "PS1=$ ", "sh", "-i"]
        self("new-session", "-d", "-s", "t", *size, *shell)
        self.wait_for("$")

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, check=True, text=True)
        return done.stdout

    def type(self, command: str) -> None:
        """Type a line."""
        self("send-keys", "-t", "t", "-l", command)
        self("send-keys", "-t", "t", "Enter")

    def press(self, key: str) -> None:
        self("send-keys", "-t", "t", key)

    def resize(self, columns: int, lines: int) -> None:
        self("resize-window", "-t", "t", "-x", str(columns), "-y", str(lines))

    def rows(self) -> list[str]:
        """Return what is on the screen, without blank rows at the end."""
        return self("capture-pane", "-p", "-t", "t").rstrip("\n").split("\n")

    def cursor(self) -> tuple[bool, int, int]:
        """Return whether the cursor is shown, its row and its column."""
        shown, row, column = self(
            "display", "-p", "-t", "t", "#{cursor_flag} #{cursor_y} #{cursor_x}"
        ).split()
        return shown == "1", int(row), int(column)

    def wait_for(self, pattern: str) -> list[str]:
        """Wait until the screen has `pattern`, and return its rows."""
        return self.wait_until(lambda rows: re.search(pattern, "\n".join(rows)) is not None)

    def is_idle(self) -> bool:
        """Tell whether the shell waits for a command: no other process has the terminal."""
        shell = self("display", "-p", "-t", "t", "#{pane_pid}").strip()
        # Fields from the third on, behind the name in brackets; see proc_pid_stat(5).
        fields = Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()
        group, in_front = fields[2], fields[5]
        return group == in_front

    def wait_until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the screen is as it should be, and return its rows."""
        end = time.monotonic() + PATIENCE_S
        while not holds(rows := self.rows()):
            assert time.monotonic() < end, "\n".join(rows)
            time.sleep(0.02)
        return rows


@pytest.fixture
def terminal(tool, store_root, tmp_path: Path) -> Iterator[Callable[[int, int], Terminal]]:
    """Return a function: terminal(columns, lines) opens a window.

    Before the store goes, what was begun in a window has to be over.
    """
    opened: list[Terminal] = []

    def open_one(columns: int, lines: int) -> Terminal:
        opened.append(Terminal(tool("tmux"), tmp_path / f"tmux{len(opened)}", columns, lines))
        return opened[-1]

    yield open_one
    for one in opened:
        try:
            one.wait_until(lambda _rows, window=one: window.is_idle())
        finally:
            one("kill-server")


@pytest.fixture
def script(pybuild, tmp_path: Path) -> Path:
    """Return a program that clears the screen, runs pybuild and says how it ended."""
    path = tmp_path / "b"
    names = ("PYBUILD_ROOT", "PYTHONPATH")
    environment = pybuild.full_environment({})
    exports = "".join(f"export {name}={shlex.quote(environment[name])}\n" for name in names)
    command = shlex.join(pybuild.command())
    begun = f"#!/bin/sh\n{exports}clear\necho before\n"
    path.write_text(f'{begun}{command} "$@"\necho ended with $?\n')
    # The same as the shell's own child, whose stop it waits for.
    direct = path.with_name("direct")
    direct.write_text(f'{begun}exec {command} "$@"\n')
    for made in (path, direct):
        made.chmod(0o755)
    return path


def test_a_build_then_the_same_from_the_cache(terminal, script, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\n"
        "RUN for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; sleep 2\n"
        "RUN echo 日本語\n"
    )
    window = terminal(100, 30)
    window.type(f"{script} -t x {context}")
    rows = window.wait_for("# line 9")
    assert rows[0] == "before"
    assert re.fullmatch(r"\[\+\] Building [0-9.]+s \(3/5\)", rows[1])
    tail = [row for row in rows if row.startswith(" => => # ")]
    assert tail == [f" => => # line {number}" for number in range(4, 10)]
    assert all(len(row) == 100 for row in rows[2:6]), "the times stand at the right"
    assert window.cursor() == (False, 1, 0)
    rows = window.wait_for("ended with 0")
    assert re.fullmatch(r"\[\+\] Building [0-9.]+s \(6/6\) FINISHED", rows[1])
    assert not [row for row in rows if "# line" in row]
    assert rows[-2:] == ["ended with 0", "$"]
    assert window.cursor()[0]
    window.type(f"{script} -t x {context}")
    rows = window.wait_until(lambda rows: sum("CACHED" in row for row in rows) == 3)
    assert "日本語" in "".join(rows)


def test_a_failure_shows_log_and_excerpt(terminal, script, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN for i in $(seq 30); do echo line $i; done; exit 3\n"
    )
    window = terminal(90, 60)
    window.type(f"{script} {context}")
    rows = window.wait_for("ended with 1")
    assert any(re.fullmatch(r" => ERROR \[2/2\] RUN for .* [0-9.]+s", row) for row in rows)
    assert [row for row in rows if row.startswith("line")] == [f"line {n}" for n in range(1, 31)]
    assert any(row.startswith("   2 | >>> RUN for i in") for row in rows)
    assert "exit code: 3" in "".join(rows)
    assert window.cursor()[0]


def test_ctrl_c(terminal, script, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo on; sleep 1000\n")
    window = terminal(80, 24)
    window.type(f"{script} {context}")
    window.wait_for("# on")
    window.press("C-c")
    rows = window.wait_for(r"ended with|\n\$")
    assert any(row.startswith(" => CANCELED [2/2] RUN echo on; sleep 1000") for row in rows)
    assert "build canceled" in rows
    assert sum("Building" in row for row in rows) == 1
    assert window.cursor()[0]


def test_ctrl_z(terminal, script, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS wait\n"
        "RUN --mount=type=cache,target=/m echo on; until [ -e /m/go ]; do sleep 0.1; done\n"
        f"FROM {busybox_image} AS go\n"
        "RUN --mount=type=cache,target=/m touch /m/go\n"
    )
    window = terminal(80, 30)
    window.type(f"{script.with_name('direct')} --target=wait {context}")
    window.wait_for("# on")
    window.press("C-z")
    window.wait_until(lambda rows: rows[-1] == "$")
    assert window.cursor()[0]
    window.type(f"{script} -q --target=go {context}; fg; echo ended with $?")
    rows = window.wait_for("FINISHED(.|\n)*ended with 0\n\\$")
    assert window.cursor()[0]
    assert any("[wait 2/2] RUN --mount=type=cache,target=/m echo on" in row for row in rows)


def test_windows_that_change(terminal, script, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN for i in $(seq 20); do echo $i; sleep 0.1; done; sleep 1000\n"
    )
    window = terminal(80, 40)
    window.type(f"{script} {context}")
    window.wait_for("# 20")
    # What no longer fits goes into the terminal's history before anybody can draw anew, and comes
    # back from there when the window grows: so it grows first.
    # At the end there must be room for the last word and the shell's lines after it.
    sizes = ((40, 40), (100, 40), (60, 40), (60, 12), (60, 5), (30, 5), (30, 2), (30, 12))
    for columns, lines in sizes:
        window.resize(columns, lines)
        rows = window.wait_until(lambda rows, width=columns: is_whole(rows, width))
        assert len(rows) <= lines
    window.press("C-c")
    window.wait_for("build canceled")


def is_whole(rows: list[str], columns: int) -> bool:
    """Tell whether there is one picture of the build on the screen, fitted to its width."""
    if sum("Building" in row for row in rows) != 1:
        return False
    shown = [row for row in rows if row.startswith(" => ")]
    if len(rows) > 2 and not shown:
        return False
    timed = [row for row in shown if re.search(r" [0-9]+\.[0-9]s\Z", row)]
    return all(len(row) == columns for row in timed)
