"""Plain progress has BuildKit's form, and loses nothing."""

import io

from builder.events import (
    BuildWarning,
    Event,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
    StepTransfer,
)
from pybuild.cli.plainprogress import PlainProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(*events: Event) -> str:
    out = io.BytesIO()
    progress = PlainProgress(out, Clock())
    for event in events:
        progress(event)
    progress.finish()
    return out.getvalue().decode("utf-8", "surrogateescape")


def test_a_step_has_a_heading_its_lines_and_an_end() -> None:
    assert shown(
        StepStarted(5, "[build 2/4] RUN apt-get update"),
        StepOutput(5, 1, b"one\ntwo\n", 0.3121),
        StepDone(5, 1.23),
    ) == (
        "#5 [build 2/4] RUN apt-get update\n"
        "#5 0.312 one\n"
        "#5 0.312 two\n"
        "#5 DONE 1.2s\n"
    )  # fmt: skip


def test_cached_failed_and_canceled() -> None:
    assert shown(StepStarted(1, "a"), StepCached(1)) == "#1 a\n#1 CACHED\n"
    assert shown(StepStarted(1, "a"), StepFailed(1, "exit code: 2", 0.5)) == (
        "#1 a\n#1 ERROR: exit code: 2\n"
    )
    assert shown(StepStarted(1, "a"), StepCanceled(1)) == "#1 a\n#1 CANCELED\n"


def test_a_line_is_shown_when_it_is_whole_with_the_time_of_its_first_byte() -> None:
    assert (
        shown(
            StepStarted(1, "a"),
            StepOutput(1, 1, b"be", 0.1),
            StepOutput(1, 1, b"gun\nnext ", 0.2),
            StepOutput(1, 1, b"line", 0.3),
            StepDone(1, 0.4),
        )
        == "#1 a\n#1 0.100 begun\n#1 0.200 next line\n#1 DONE 0.4s\n"
    )


def test_stdout_and_stderr_do_not_mix_within_a_line() -> None:
    assert (
        shown(
            StepStarted(1, "a"),
            StepOutput(1, 1, b"out", 0.1),
            StepOutput(1, 2, b"err\n", 0.2),
            StepOutput(1, 1, b"!\n", 0.3),
            StepDone(1, 0.4),
        )
        == "#1 a\n#1 0.200 err\n#1 0.100 out!\n#1 DONE 0.4s\n"
    )


def test_the_text_stays_with_a_step_until_it_ends() -> None:
    assert shown(
        StepStarted(1, "a"),
        StepStarted(2, "b"),
        StepOutput(2, 1, b"y\n", 0.25),
        StepOutput(1, 1, b"x\n", 0.5),
        StepDone(1, 1.0),
        StepDone(2, 2.0),
    ) == (
        "#1 a\n#1 0.500 x\n#1 DONE 1.0s\n\n"
        "#2 b\n#2 0.250 y\n#2 DONE 2.0s\n"
    )  # fmt: skip


def test_a_step_that_ends_is_shown_at_once_and_whole() -> None:
    assert shown(
        StepStarted(1, "a"),
        StepStarted(2, "b"),
        StepOutput(2, 1, b"y", 0.25),
        StepFailed(2, "exit code: 1", 1.0),
        StepOutput(1, 1, b"x\n", 1.5),
        StepCanceled(1),
    ) == (
        "#1 a\n#1 ...\n\n"
        "#2 b\n#2 0.250 y\n#2 ERROR: exit code: 1\n\n"
        "#1 a\n#1 1.500 x\n#1 CANCELED\n"
    )  # fmt: skip


def test_no_step_waits_for_ever() -> None:
    out, clock = io.BytesIO(), Clock()
    progress = PlainProgress(out, clock)
    progress(StepStarted(1, "a"))
    progress(StepStarted(2, "b"))
    progress(StepOutput(2, 1, b"y\n", 0.25))
    progress.tick()
    assert out.getvalue() == b"#1 a\n"
    clock.now += 2
    progress.tick()
    assert out.getvalue() == b"#1 a\n#1 ...\n\n#2 b\n#2 0.250 y\n"
    progress.finish()


def test_what_waits_does_not_grow_without_end() -> None:
    out = io.BytesIO()
    progress = PlainProgress(out, Clock())
    progress(StepStarted(1, "a"))
    progress(StepStarted(2, "b"))
    progress(StepOutput(2, 1, b"y\n" * 100_000, 0.25))
    assert out.getvalue().count(b"y\n") == 100_000
    progress.finish()


def test_what_is_held_is_there_when_the_build_breaks_off() -> None:
    assert shown(
        StepStarted(1, "a"), StepStarted(2, "b"), StepOutput(2, 1, b"half a line", 0.25)
    ).endswith("#2 b\n#2 0.250 half a line\n")


def test_messages_and_carriage_returns() -> None:
    assert shown(
        StepStarted(1, "exporting"),
        StepTransfer(1, "transferring dockerfile:", 259, 0, done=True),
        StepMessage(1, "trying again: reset"),
        StepMessage(1, "naming to docker.io/library/x:latest", done=True),
        StepOutput(1, 1, b"\r10%\r50%", 0.5),
        StepOutput(1, 1, b"\r100%\r", 0.75),
        StepOutput(1, 1, b"\nend\r\n\r\n", 0.8),
        StepDone(1, 0.0),
    ) == (
        "#1 exporting\n"
        "#1 transferring dockerfile: 259B done\n"
        "#1 trying again: reset\n"
        "#1 naming to docker.io/library/x:latest done\n"
        "#1 0.500 10%\n#1 0.500 50%\n#1 0.750 100%\n"
        "#1 0.800 end\n#1 0.800 \n"
        "#1 DONE 0.0s\n"
    )  # fmt: skip


def test_bytes_that_are_no_text_are_passed_on_untouched() -> None:
    every = bytes(range(256)).replace(b"\r", b"")
    text = shown(StepStarted(1, "a"), StepOutput(1, 1, every + b"\n", 0.0), StepDone(1, 0.0))
    lines = text.encode("utf-8", "surrogateescape").split(b"\n")
    assert [line.removeprefix(b"#1 0.000 ") for line in lines[1:3]] == every.split(b"\n")


def test_times_have_as_many_digits_as_buildkits() -> None:
    events = [StepOutput(1, 1, b"x\n", seconds) for seconds in (9.9994, 12.345, 123.45)]
    lines = shown(StepStarted(1, "a"), *events, StepDone(1, 124.0)).splitlines()
    assert lines[1:4] == ["#1 9.999 x", "#1 12.35 x", "#1 123.5 x"]


def test_a_transfer_is_said_now_and_then() -> None:
    out, clock = io.BytesIO(), Clock()
    progress = PlainProgress(out, clock)
    progress(StepStarted(1, "pull"))
    for percent in range(100):
        progress(StepTransfer(1, "sha256:1", percent * 10**6, 10**8))
        clock.now += 0.125 if percent < 80 else 1
    progress(StepTransfer(1, "sha256:1", 10**8, 10**8, done=True))
    progress.finish()
    lines = out.getvalue().decode().splitlines()[1:]
    assert [line.split()[2] for line in lines] == [
        *[f"{megabytes}MB" if megabytes else "0B" for megabytes in range(0, 81, 8)],
        *["85MB", "90MB", "95MB", "100MB"],
    ]
    assert lines[-1] == "#1 sha256:1 100MB / 100MB 30.0s done"


def test_warnings_come_at_the_end() -> None:
    assert shown(
        BuildWarning("JSONArgsRecommended", "use JSON", 3),
        StepStarted(1, "a"),
        StepDone(1, 0.0),
        BuildWarning("Other", "something", None),
    ).endswith(
        "\n\n2 warnings found:\n - JSONArgsRecommended: use JSON (line 3)\n - Other: something\n"
    )
