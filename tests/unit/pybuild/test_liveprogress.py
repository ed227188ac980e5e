"""Live progress, read from the screen of a terminal that pyte plays."""

import io
import os

import pytest

from builder.events import (
    BuildWarning,
    Event,
    Planned,
    PlannedStep,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
    StepTransfer,
)
from pybuild.cli.colours import Colours
from pybuild.cli.liveprogress import LiveProgress, log_lines_of
from pybuild.cli.painter import Painter, Row

pyte = pytest.importorskip("pyte")
PLAIN = Colours("", "", "", "", "")


class Terminal(io.RawIOBase):
    """What is written appears on `screen`; `written` counts the bytes."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=0.1)
        self.stream = pyte.ByteStream(self.screen)
        self.written = 0

    def write(self, data: bytes) -> int:
        self.written += len(data)
        self.stream.feed(bytes(data))
        return len(data)

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.screen.columns, self.screen.lines))

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)

    def rows(self) -> list[str]:
        """Return what is on the screen, without blank lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    def scrolled_away(self) -> list[str]:
        """Return what has left the screen at its top."""
        width = self.screen.columns
        lines = self.screen.history.top
        return ["".join(line[x].data for x in range(width)).rstrip() for line in lines]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Build:
    """A build that is shown; time goes on by command."""

    def __init__(self, columns: int = 60, lines: int = 20, *events: Event) -> None:
        self.terminal, self.clock = Terminal(columns, lines), Clock()
        painter = Painter(self.terminal, self.terminal.size)  # type: ignore[arg-type]
        self.live = LiveProgress(painter, PLAIN, clock=self.clock)
        self.say(*events)

    def say(self, *events: Event) -> None:
        for event in events:
            self.live(event)

    def rows(self, at: float | None = None) -> list[str]:
        if at is not None:
            self.clock.now = at
        self.live.paint()
        return self.terminal.rows()


PLAN = Planned(tuple(PlannedStep(name, (), name) for name in ("sha256:a", "sha256:b", "sha256:c")))


def test_steps_with_times_and_the_tail_of_their_output() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(10))
    build = Build(
        40,
        20,
        StepStarted(1, "[internal] load"),
        StepDone(1, 0.04),
        PLAN,
        StepStarted(2, "[a 1/1] FROM x", "sha256:a"),
        StepCached(2),
        StepStarted(3, "[a 1/2] RUN make", "sha256:b"),
        StepOutput(3, 1, lines + b"half", 1.0),
    )
    assert build.rows(3.44) == [
        "[+] Building 3.4s (2/4)",
        " => [internal] load                 0.0s",
        " => CACHED [a 1/1] FROM x           0.0s",
        " => [a 1/2] RUN make                3.4s",
        " => => # line 5",
        " => => # line 6",
        " => => # line 7",
        " => => # line 8",
        " => => # line 9",
        " => => # half",
    ]
    build.say(StepDone(3, 3.5))
    assert build.rows(3.5) == [
        "[+] Building 3.5s (3/4)",
        " => [internal] load                 0.0s",
        " => CACHED [a 1/1] FROM x           0.0s",
        " => [a 1/2] RUN make                3.5s",
    ]


def test_how_it_ends() -> None:
    build = Build(
        60,
        20,
        StepStarted(1, "a"),
        StepStarted(2, "b"),
        StepStarted(3, "c"),
        StepFailed(1, "exit code: 1", 0.5),
        StepCanceled(2),
        StepDone(3, 0.2),
        BuildWarning("Rule", "words", 3),
    )
    build.rows(1.0)
    assert build.terminal.screen.cursor.hidden
    build.live.finish()
    assert [row.split() for row in build.terminal.rows()] == [
        ["[+]", "Building", "1.0s", "(3/3)", "FINISHED"],
        ["=>", "ERROR", "a", "0.5s"],
        ["=>", "CANCELED", "b", "0.0s"],
        ["=>", "c", "0.2s"],
        [],
        ["1", "warning", "found:"],
        ["-", "Rule:", "words", "(line", "3)"],
    ]
    assert not build.terminal.screen.cursor.hidden
    assert (build.terminal.screen.cursor.x, build.terminal.screen.cursor.y) == (0, 7)


def test_a_bar_is_one_line() -> None:
    build = Build(60, 20, StepStarted(1, "a"), StepOutput(1, 2, b"\r10%\r\x1b[32m20%\x1b[0m", 0.1))
    assert build.rows()[2:] == [" => => # 20%"]


def test_a_layer_on_its_way() -> None:
    layer = "sha256:" + "0" * 64
    build = Build(50, 20, StepStarted(1, "pull"), StepTransfer(1, layer, 10**6, 3 * 10**6))
    assert build.rows(1.0)[2] == " => => sha256:000000000000000000000 1MB / 3MB 1.0s"
    build.say(StepTransfer(1, layer, 3 * 10**6, 3 * 10**6, done=True))
    assert build.rows(5.0)[2] == " => => sha256:000000000000000000000 3MB / 3MB 1.0s"
    build.say(StepDone(1, 5.0))
    assert len(build.rows(6.0)) == 2


def test_messages_are_shown_while_the_step_runs() -> None:
    build = Build(60, 20, StepStarted(1, "exporting"), StepMessage(1, "naming to x"))
    assert build.rows()[2:] == [" => => # naming to x"]


def test_a_step_that_starts_again_keeps_its_line() -> None:
    build = Build(60, 20, StepStarted(1, "COPY", "sha256:a"), StepFailed(1, "changed", 0.1))
    build.say(StepStarted(2, "COPY", "sha256:a"))
    assert build.rows()[0] == "[+] Building 0.0s (0/1)"
    assert len(build.rows()) == 2


def many(count: int) -> list[Event]:
    ended = [event for n in range(count) for event in (StepStarted(n, f"step {n}"), StepDone(n, 0))]
    return [*ended, StepStarted(count, "running"), StepOutput(count, 1, b"a\nb\nc\n", 0.1)]


def test_few_rows_show_what_runs_and_never_scroll() -> None:
    build = Build(40, 6, *many(50))
    for moment in range(5):
        rows = build.rows(float(moment))
    assert [row.split("  ")[0] for row in rows] == [
        "[+] Building 4.0s (50/51)",
        " => running",
        " => => # a",
        " => => # b",
        " => => # c",
    ]
    assert build.terminal.scrolled_away() == []
    build.live.finish()
    assert len(build.terminal.scrolled_away()) + 6 == 1 + 51 + 1


@pytest.mark.parametrize("lines", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 5, 20])
def test_the_smallest_windows(columns: int, lines: int) -> None:
    build = Build(columns, lines, *many(5))
    build.rows(1.0)
    rows = build.rows(2.0)
    assert rows[0] == "[+] Building 2.0s (5/6)"[:columns].rstrip()
    assert build.terminal.scrolled_away() == []


def test_text_that_is_wider_than_the_window_is_cut() -> None:
    build = Build(30, 10, StepStarted(1, "RUN " + "日本語" * 20), StepOutput(1, 1, b"x" * 99, 0.1))
    rows = build.rows(1.0)
    assert len(rows) == 3
    assert rows[1].endswith(" 1.0s")
    assert rows[2] == " => => # " + "x" * 21


def test_a_window_that_changes_leaves_nothing_behind() -> None:
    build = Build(60, 20, *many(4))
    build.terminal.write(b"before\r\n")
    # pyte cuts a lower window at its top, as no terminal does: tmux judges those, elsewhere.
    for columns, lines in ((30, 20), (80, 20), (20, 20), (100, 30)):
        build.rows(1.0)
        build.terminal.resize(columns, lines)
    rows = build.rows(2.0)
    seen = [*build.terminal.scrolled_away(), *rows]
    assert sum("Building" in row for row in seen) == 1
    assert sum("running" in row for row in seen) == 1
    assert seen[0] == "before"


def test_only_what_changed_is_written() -> None:
    build = Build(60, 20, *many(10))
    build.rows(1.0)
    before = build.terminal.written
    build.rows(1.0)
    assert build.terminal.written == before
    build.rows(1.1)  # the header and the running step
    assert build.terminal.written - before < 2 * 60 + 60


def test_rows_come_and_go() -> None:
    terminal = Terminal(20, 10)
    painter = Painter(terminal, terminal.size)  # type: ignore[arg-type]
    for texts in (["a"], ["a", "b", "c"], ["a", "x"], [], ["1", "2", "3", "4"], ["1", "", "3"]):
        painter.paint([Row(text) for text in texts], terminal.size())
        assert terminal.rows() == (texts or [""])
        assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 0)


def test_a_terminal_that_is_gone_is_no_trouble() -> None:
    def size() -> os.terminal_size:
        raise OSError

    assert Painter(Terminal(1, 1), size).size() == (80, 24)  # type: ignore[arg-type]


def test_how_many_lines_of_output() -> None:
    assert log_lines_of({}) == 6
    assert log_lines_of({"BUILDKIT_TTY_LOG_LINES": "12"}) == 12
    assert log_lines_of({"BUILDKIT_TTY_LOG_LINES": "0"}) == 6
    assert log_lines_of({"BUILDKIT_TTY_LOG_LINES": "many"}) == 6


def test_it_is_drawn_by_itself_and_stops() -> None:
    terminal = Terminal(60, 20)
    painter = Painter(terminal, terminal.size)  # type: ignore[arg-type]
    live = LiveProgress(painter, PLAIN).start()
    live(StepStarted(1, "a"))
    live(StepDone(1, 0.1))
    live.finish()
    assert "FINISHED" in terminal.rows()[0]
