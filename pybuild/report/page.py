"""The page as a whole: head, figures, graph, time line, steps, layers.

Owns what stands where. Everything that comes from a build is escaped, and the page's own policy
forbids scripts but its own and whatever would be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, BinaryIO

from pybuild.report.graph import graph_svg
from pybuild.report.layers import layers
from pybuild.report.longest import longest_path
from pybuild.report.markup import escaped
from pybuild.report.steps import step_html
from pybuild.report.timeline import timeline
from pybuild.sizes import human_seconds, human_size

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalBuild
    from store.root import Store

_STATUSES = ("done", "adopted", "cached", "failed", "cancelled", "running", "killed")


def write(store: Store, build: JournalBuild, out: BinaryIO) -> None:
    """Write the page of a build to `out`, UTF-8. Raises OSError, StoreError."""
    for piece in _page(store, build):
        out.write(piece.encode("utf-8", "backslashreplace"))


def _page(store: Store, build: JournalBuild) -> Iterator[str]:
    path = longest_path(build.steps)
    yield from _head(build)
    yield from _figures(build)
    yield from _error(build)
    if build.steps:
        yield '<section id="graph"><h2>Graph</h2>\n<p class="note">What each step stands on.'
        yield " A click on a step leads to its log.</p>\n"
        yield _key(build)
        yield '<div class="scroll">\n'
        yield from graph_svg(build.steps, path)
        yield '</div></section>\n<section id="timeline"><h2>Time line</h2>\n'
        yield f'<p class="note">{_said_of_path(build, path)}</p>\n'
        yield from timeline(build, path)
        yield "</section>\n"
    yield from _steps(store, build)
    yield '<section id="layers"><h2>Layers</h2>\n'
    yield from layers(store, build.build.image_id)
    yield "</section>\n<footer>Written by pybuild from its journal of builds.</footer></main>\n"
    yield f"<script>{_resource('page.js')}</script>\n</body></html>\n"


def _resource(name: str) -> str:
    return (files("pybuild.report") / name).read_text("utf-8")


def _head(build: JournalBuild) -> Iterator[str]:
    digest = base64.b64encode(hashlib.sha256(_resource("page.js").encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    policy += f" script-src 'sha256-{digest}'"
    row, status = build.build, escaped(build.line.status)
    title = escaped(build.line.name)
    began = datetime.fromtimestamp(row.started_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{title} · build {escaped(row.build_id[:8])}</title>\n"
        f"<style>{_resource('page.css')}</style></head>\n<body><main>\n"
        f'<header><p class="kicker">Build <span class="mono">{escaped(row.build_id)}</span></p>'
        f'<h1>{title} <span class="pill {status}">{status}</span></h1>\n<dl class="facts">'
    )
    facts = {
        "Dockerfile": row.dockerfile,
        "Target": row.details.get("target"),
        "Context": row.context,
        "Started": began,
        "Image": row.image_id,
    }
    for name, text in facts.items():
        if text:
            yield f"<dt>{name}</dt><dd>{escaped(text)}</dd>"
    yield "</dl></header>\n"


def _figures(build: JournalBuild) -> Iterator[str]:
    ran = build.line.steps - build.line.cached
    figures = {
        "duration": human_seconds(build.line.seconds) if build.line.seconds else "-",
        "saved by the cache": human_seconds(build.saved_s) if build.saved_s else "-",
        "steps ran, of " + str(build.line.steps): str(ran),
        "CPU time": human_seconds(build.cpu_seconds) if build.cpu_seconds else "-",
        "peak memory": human_size(build.peak_memory_bytes) if build.peak_memory_bytes else "-",
        "image": human_size(build.image_bytes) if build.image_bytes is not None else "-",
    }
    yield '<div class="tiles">'
    for name, text in figures.items():
        yield f'<div class="tile"><b>{escaped(text)}</b><span>{escaped(name)}</span></div>'
    yield "</div>\n"


def _error(build: JournalBuild) -> Iterator[str]:
    if build.build.error:
        yield '<section class="error"><h2>Why it failed</h2>'
        yield f"<pre>{escaped(build.build.error)}</pre></section>\n"


def _key(build: JournalBuild) -> str:
    there = {step.row.status for step in build.steps}
    items = [f'<li class="{name}"><i></i>{name}</li>' for name in _STATUSES if name in there]
    return f'<ul class="key">{"".join(items)}<li class="path"><i></i>longest path</li></ul>\n'


def _said_of_path(build: JournalBuild, path: tuple[int, ...]) -> str:
    seconds = sum(step.seconds for step in build.steps if step.row.number in path)
    count = f"{len(path)} steps" if len(path) != 1 else "one step"
    return (
        f"The longest path, outlined, has {count} and took {escaped(human_seconds(seconds))}:"
        " the build cannot be faster than that while each of them takes as long."
    )


def _steps(store: Store, build: JournalBuild) -> Iterator[str]:
    from pybuild.engine.journal import earlier_log, log_file

    yield (
        '<section id="steps"><div class="stephead"><h2>Steps</h2>'
        '<button type="button" id="all" hidden>Open all</button></div>\n'
        '<p class="note">With their causes and logs. Of cached steps: the time saved.</p>\n'
    )
    for step in build.steps:
        earlier = earlier_log(store, step)
        there = step.log_bytes is not None and step.log_bytes >= 0
        if earlier is not None:
            of_build, path = earlier
            yield from step_html(step, path, of_build)
        else:
            yield from step_html(step, log_file(store, build, step) if there else None)
    yield "</section>\n"
