"""The steps of a build: a line each, and inside it why it ran, what it took, and its whole log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.report.markup import escaped, log_html
from pybuild.sizes import human_seconds, human_size

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalStep


def step_html(step: JournalStep, log_path: str | None, of_build: str = "") -> Iterator[str]:
    """Yield a step as HTML.

    log_path: the file with its log, None where there is none. of_build: the build that wrote it,
    where that is another one.
    """
    status = escaped(step.row.status)
    name = escaped(" ".join(step.name.split()))
    why = escaped(step.causes[0].text) if step.causes else ""
    time = human_seconds(step.seconds) if step.ran else _saved(step)
    added = human_size(step.size_bytes) if step.size_bytes else ""
    yield (
        f'<details class="step" id="step-{step.row.number}"><summary>'
        f'<span class="name mono">{name}{_why(why)}</span>'
        f'<span><span class="pill {status}">{status}</span></span>'
        f'<span class="number{"" if step.ran else " soft"}">{escaped(time)}</span>'
        f'<span class="number soft">{added}</span></summary>\n<div class="inside">\n'
    )
    if step.causes:
        yield "<ul>" + "".join(f"<li>{escaped(cause.text)}</li>" for cause in step.causes)
        yield "</ul>\n"
    facts = "".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in _facts(step))
    yield f'<dl class="facts">{facts}</dl>\n'
    if of_build:
        text = f"It was cached. Its log in build {escaped(of_build)}, which ran it:"
        yield f'<p class="note">{text}</p>'
    yield from _log(step, log_path)
    yield "</div></details>\n"


def _why(text: str) -> str:
    return f'<span class="why">{text}</span>' if text else ""


def _saved(step: JournalStep) -> str:
    return f"-{human_seconds(step.saved_s)}" if step.saved_s else ""


def _facts(step: JournalStep) -> Iterator[tuple[str, str]]:
    if step.line:
        yield "Line", str(step.line)
    yield "Took", human_seconds(step.seconds)
    if step.saved_s:
        yield "Saved", f"{human_seconds(step.saved_s)}: it took that long when it ran"
    if step.cpu_seconds is not None:
        yield "CPU", human_seconds(step.cpu_seconds)
    if step.peak_memory_bytes:
        yield "Peak memory", human_size(step.peak_memory_bytes)
    if step.size_bytes is not None:
        yield "Layer", human_size(step.size_bytes)
    yield from _said_of_policies(step)
    stands_on = [*step.bases, *(f"#{number}" for number in step.inputs)]
    if stands_on:
        yield "Stands on", ", ".join(stands_on)
    yield "Cache key", step.row.key


def _said_of_policies(step: JournalStep) -> Iterator[tuple[str, str]]:
    if step.policies:
        yield "Policies", step.policies
    if step.tries > 1:
        yield "Tries", str(step.tries)
    if step.failure.startswith("exceeded "):
        yield "Failed", f"it {step.failure}"
    elif step.row.exit_code:
        yield "Exit code", str(step.row.exit_code)


def _log(step: JournalStep, log_path: str | None) -> Iterator[str]:
    if step.log_bytes is not None and step.log_bytes < 0:
        yield '<p class="note">Its log was pruned.</p>\n'
    if not log_path:
        return
    # A parser drops a line end that follows <pre> at once.
    yield '<pre class="log">\n'
    with open(log_path, "rb") as file:
        yield from log_html(file)
    yield "</pre>\n"
