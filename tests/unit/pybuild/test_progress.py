"""Plain progress has BuildKit's form."""

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
)
from pybuild.cli.progress import PlainProgress


def shown(*events: Event) -> str:
    out = io.StringIO()
    progress = PlainProgress(out)
    for event in events:
        progress(event)
    progress.finish()
    return out.getvalue()


def test_a_step_has_a_heading_its_lines_and_an_end() -> None:
    assert shown(
        StepStarted(5, "[build 2/4] RUN apt-get update"),
        StepOutput(5, 1, b"one\ntwo\n", 0.3121),
        StepDone(5, 1.23),
    ) == (
        "#5 [build 2/4] RUN apt-get update\n"
        "#5 0.312 one\n"
        "#5 0.312 two\n"
        "#5 DONE 1.2s\n\n"
    )  # fmt: skip


def test_cached_failed_and_canceled() -> None:
    assert shown(StepStarted(1, "a"), StepCached(1)) == "#1 a\n#1 CACHED\n\n"
    assert shown(StepStarted(1, "a"), StepFailed(1, "exit code: 2", 0.5)) == (
        "#1 a\n#1 ERROR: exit code: 2\n\n"
    )
    assert shown(StepStarted(1, "a"), StepCanceled(1)) == "#1 a\n#1 CANCELED\n\n"


def test_a_line_is_shown_when_it_is_whole_with_the_time_of_its_first_byte() -> None:
    assert (
        shown(
            StepStarted(1, "a"),
            StepOutput(1, 1, b"be", 0.1),
            StepOutput(1, 1, b"gun\nnext ", 0.2),
            StepOutput(1, 1, b"line", 0.3),
            StepDone(1, 0.4),
        )
        == "#1 a\n#1 0.100 begun\n#1 0.200 next line\n#1 DONE 0.4s\n\n"
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
        == "#1 a\n#1 0.200 err\n#1 0.100 out!\n#1 DONE 0.4s\n\n"
    )


def test_steps_side_by_side_repeat_their_heading() -> None:
    assert shown(
        StepStarted(1, "a"),
        StepStarted(2, "b"),
        StepOutput(1, 1, b"x\n", 0.5),
        StepDone(1, 1.0),
        StepDone(2, 2.0),
    ) == (
        "#1 a\n#1 ...\n\n"
        "#2 b\n#2 ...\n\n"
        "#1 a\n#1 0.500 x\n#1 DONE 1.0s\n\n"
        "#2 b\n#2 DONE 2.0s\n\n"
    )  # fmt: skip


def test_messages_and_carriage_returns() -> None:
    assert shown(
        StepStarted(1, "exporting"),
        StepMessage(1, "naming to docker.io/library/x:latest"),
        StepOutput(1, 1, b"10%\r50%\r100%\r\n", 0.5),
        StepDone(1, 0.0),
    ) == (
        "#1 exporting\n"
        "#1 naming to docker.io/library/x:latest\n"
        "#1 0.500 100%\n"
        "#1 DONE 0.0s\n\n"
    )  # fmt: skip


def test_bytes_that_are_no_text_are_shown_somehow() -> None:
    assert "\N{REPLACEMENT CHARACTER}" in shown(
        StepStarted(1, "a"), StepOutput(1, 1, b"\xff\n", 0.0), StepDone(1, 0.0)
    )


def test_warnings_come_at_the_end() -> None:
    assert shown(
        BuildWarning("JSONArgsRecommended", "use JSON", 3),
        StepStarted(1, "a"),
        StepDone(1, 0.0),
        BuildWarning("Other", "something", None),
    ).endswith(
        "2 warnings found:\n - JSONArgsRecommended: use JSON (line 3)\n - Other: something\n"
    )
