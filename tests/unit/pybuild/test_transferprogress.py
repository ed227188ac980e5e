"""The progress of pulls and pushes: docker's words, and a screen that is drawn anew."""

import io
import os

import pytest

from pybuild.cli.painter import Painter
from pybuild.cli.transferprogress import LiveTransfer, PlainTransfer, transfer_progress
from registry_client.events import BlobDone, BlobFound, BlobMoved, Event, Outcome, Retrying
from store.digest import Digest

pyte = pytest.importorskip("pyte")
ONE = Digest(f"sha256:{'1' * 64}")
TWO = Digest(f"sha256:{'2' * 64}")


def plain(*events: Event, pushes: bool = False) -> str:
    out = io.StringIO()
    progress = PlainTransfer(out, pushes=pushes)
    for event in events:
        progress(event)
    progress.finish()
    return out.getvalue()


class Terminal(io.RawIOBase):
    """What is written appears on a screen that pyte plays."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.written = 0

    def write(self, data: bytes) -> int:
        self.written += len(data)
        self.stream.feed(bytes(data))
        return len(data)


class Screen:
    """A terminal on which a transfer is shown."""

    def __init__(self, columns: int = 120, lines: int = 24, *, pushes: bool = False) -> None:
        self.terminal = Terminal(columns, lines)
        self.now = 100.0
        size = os.terminal_size((columns, lines))
        painter = Painter(self.terminal, lambda: size)  # type: ignore[arg-type]
        self.progress = LiveTransfer(painter, pushes=pushes, clock=lambda: self.now)

    def take(self, *events: Event, after_s: float = 1.0) -> None:
        for event in events:
            self.now += after_s
            self.progress(event)

    def lines(self) -> list[str]:
        rows = [row.rstrip() for row in self.terminal.screen.display]
        return [row for row in rows if row]


def test_plain_pull() -> None:
    assert plain(
        BlobFound(ONE, 100),
        BlobFound(TWO, 100),
        BlobMoved(ONE, 50, 100),
        BlobDone(TWO, Outcome.EXISTS),
        Retrying("pull x: reset"),
        BlobDone(ONE, Outcome.PULLED),
    ) == (
        "111111111111: Pulling fs layer\n"
        "222222222222: Pulling fs layer\n"
        "222222222222: Already exists\n"
        "trying again: pull x: reset\n"
        "111111111111: Pull complete\n"
    )


def test_plain_push() -> None:
    assert plain(
        BlobFound(ONE, 100),
        BlobDone(ONE, Outcome.PUSHED),
        BlobDone(ONE, Outcome.EXISTS),
        BlobDone(ONE, Outcome.MOUNTED, "team/app"),
        pushes=True,
    ) == (
        "111111111111: Preparing\n"
        "111111111111: Pushed\n"
        "111111111111: Layer already exists\n"
        "111111111111: Mounted from team/app\n"
    )


def test_live_bytes_and_speed() -> None:
    screen = Screen()
    screen.take(BlobFound(ONE, 4_000_000), BlobFound(TWO, 10))
    screen.take(BlobMoved(ONE, 1_000_000, 4_000_000), BlobMoved(ONE, 2_000_000, 4_000_000))
    bar = f"[{'=' * 14}>{' ' * 15}]"
    assert screen.lines() == [
        f"111111111111: Downloading {bar} 2MB/4MB 2MB/s",
        "222222222222: Waiting",
    ]
    screen.take(BlobMoved(ONE, 4_000_000, 4_000_000))
    assert screen.lines()[0] == "111111111111: Extracting"
    screen.take(BlobDone(ONE, Outcome.PULLED), BlobDone(TWO, Outcome.EXISTS))
    screen.progress.finish()
    assert screen.lines() == ["111111111111: Pull complete", "222222222222: Already exists"]


def test_live_is_not_drawn_at_every_event() -> None:
    screen = Screen()
    screen.take(BlobFound(ONE, 1000))
    before = screen.terminal.written
    screen.take(*(BlobMoved(ONE, count, 1000) for count in range(1, 50)), after_s=0.001)
    assert screen.terminal.written == before


def test_live_on_a_small_screen() -> None:
    screen = Screen(columns=30, lines=6)
    digests = [Digest(f"sha256:{number:064x}") for number in range(20)]
    screen.take(*(BlobFound(digest, 100) for digest in digests))
    screen.take(*(BlobDone(digest, Outcome.PULLED) for digest in digests[:10]))
    lines = screen.lines()
    assert len(lines) == 5
    assert lines[-1] == "10 of 20 layers done"
    screen.progress.finish()
    assert not screen.terminal.screen.cursor.hidden
    assert len(screen.lines()) == 5  # what scrolled away, and all that came with it


def test_live_retrying_goes_when_bytes_come() -> None:
    screen = Screen(pushes=True)
    screen.take(BlobFound(ONE, 100), Retrying("reset"))
    assert screen.lines()[-1] == "trying again: reset"
    screen.take(BlobMoved(ONE, 50, 100))
    assert len(screen.lines()) == 1
    assert screen.lines()[0].startswith("111111111111: Pushing [")


def test_elsewhere_it_is_plain() -> None:
    assert isinstance(transfer_progress(io.StringIO(), pushes=False), PlainTransfer)
