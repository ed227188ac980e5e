"""The verbs builds show and builds compare, and the table of `build --profile`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.cli.options import Parsed, Syntax, usage_error, value
from pybuild.cli.table import human_size, local_time, render, shortened
from pybuild.cli.verb import Session, Verb
from pybuild.sizes import human_seconds

if TYPE_CHECKING:
    from pybuild.engine.buildcompare import Comparison, Pair
    from pybuild.engine.journal import JournalBuild, JournalStep

_FORMAT = value("format", "FORM", "text or json")
SHOW = Syntax(
    verb="builds show",
    usage="builds show [OPTIONS] [BUILD]",
    summary="Show all that the journal has of a build, of the last one unless another is named.",
    options=(_FORMAT,),
    at_most=1,
    later="builder type",
)
COMPARE = Syntax(
    verb="builds compare",
    usage="builds compare [OPTIONS] A B",
    summary="Show two builds side by side: what differs, and how long each step took.",
    options=(_FORMAT,),
    at_least=2,
    at_most=2,
)

_STEP_WIDTH = 44
_HEADER = ("STEP", "STATUS", "WALL", "CPU", "PEAK MEMORY", "ADDED")


def show(parsed: Parsed, session: Session) -> int:
    """Print one build."""
    as_json = _wants_json(parsed, SHOW)
    with session.engine(reading=True) as engine:
        build = engine.journal(*parsed.arguments)
    print(_json(fields_of(build)) if as_json else "\n".join(_lines(build)))
    return 0


def compare(parsed: Parsed, session: Session) -> int:
    """Print two builds side by side."""
    as_json = _wants_json(parsed, COMPARE)
    with session.engine(reading=True) as engine:
        found = engine.compare_builds(*parsed.arguments)
    print(_json(_comparison_fields(found)) if as_json else "\n".join(_compared(found)))
    return 0


VERBS = {"builds show": Verb(SHOW, show), "builds compare": Verb(COMPARE, compare)}


def profile(build: JournalBuild) -> str:
    """Return what each step of a build took, and the sum: what `--profile` prints."""
    rows = [_cells(step) for step in build.steps]
    rows.append(_totals(build))
    saved = f"the cache saved {human_seconds(build.saved_s)}\n" if build.saved_s else ""
    return render(_HEADER, rows) + saved


def fields_of(build: JournalBuild) -> dict[str, object]:
    """Return a build as JSON values; durations are seconds, sizes bytes, times ns since 1970."""
    row = build.build
    return {
        "build": row.build_id,
        "status": build.line.status,
        "tags": list(build.line.tags),
        "target": str(row.details.get("target") or ""),
        "dockerfile": row.dockerfile,
        "context": row.context,
        "started_ns": row.started_ns,
        "ended_ns": row.ended_ns,
        "seconds": build.line.seconds,
        "image": row.image_id,
        "image_bytes": build.image_bytes,
        "error": row.error,
        "cpu_seconds": build.cpu_seconds,
        "peak_memory_bytes": build.peak_memory_bytes,
        "added_bytes": build.added_bytes,
        "saved_seconds": build.saved_s,
        "steps": [_step_fields(step) for step in build.steps],
    }


def _step_fields(step: JournalStep) -> dict[str, object]:
    row = step.row
    return {
        "number": row.number,
        "name": step.name,
        "stage": row.stage,
        "line": step.line,
        "status": row.status,
        "key": row.key,
        "started_ns": row.started_ns,
        "ended_ns": row.ended_ns,
        "seconds": step.seconds,
        "cpu_seconds": step.cpu_seconds,
        "peak_memory_bytes": step.peak_memory_bytes,
        "added_bytes": row.size_bytes,
        "layer_bytes": step.size_bytes,
        "saved_seconds": step.saved_s,
        "exit_code": row.exit_code,
        "failure": step.failure,
        "policies": step.policies,
        "tries": step.tries,
        "causes": [cause.to_fields() for cause in step.causes],
        "inputs": list(step.inputs),
        "bases": list(step.bases),
        "log_bytes": step.log_bytes,
    }


def _lines(build: JournalBuild) -> Iterator[str]:
    row = build.build
    began = local_time(datetime.fromtimestamp(row.started_ns / 1e9, UTC))
    size = f", {human_size(build.image_bytes)}" if build.image_bytes is not None else ""
    facts = {
        "Build": row.build_id,
        "Status": build.line.status,
        "Tags": ", ".join(build.line.tags),
        "Target": str(row.details.get("target") or ""),
        "Dockerfile": row.dockerfile,
        "Context": row.context,
        "Started": began,
        "Duration": human_seconds(build.line.seconds) if build.line.seconds else "",
        "Image": f"{row.image_id}{size}" if row.image_id else "",
        "Saved": f"{human_seconds(build.saved_s)} by the cache" if build.saved_s else "",
        "Error": " ".join(row.error.split()),
    }
    yield from (f"{name + ':':<12} {text}" for name, text in facts.items() if text)
    yield ""
    for step in build.steps:
        yield f"#{step.row.number} {' '.join(step.name.split())}"
        yield "   " + ", ".join(_facts(step))
        if step.policies:
            yield f"   policies: {step.policies}"
        yield from (f"   {cause.text}" for cause in step.causes)
    if build.steps:
        yield ""
        yield profile(build).rstrip("\n")


def _facts(step: JournalStep) -> Iterator[str]:
    yield step.row.status
    yield human_seconds(step.seconds)
    if step.cpu_seconds is not None:
        yield f"CPU {human_seconds(step.cpu_seconds)}"
    if step.peak_memory_bytes:
        yield f"peak memory {human_size(step.peak_memory_bytes)}"
    if step.size_bytes is not None:
        yield f"layer {human_size(step.size_bytes)}"
    if step.saved_s:
        yield f"saved {human_seconds(step.saved_s)}"
    if step.failure.startswith("exceeded "):
        yield step.failure
    elif step.row.exit_code:
        yield f"exit code {step.row.exit_code}"
    if step.tries > 1:
        yield f"{step.tries} tries"
    if step.line:
        yield f"line {step.line}"
    if step.log_bytes is not None:
        yield f"log {human_size(step.log_bytes)}" if step.log_bytes >= 0 else "log gone"


def _cells(step: JournalStep) -> tuple[str, ...]:
    saved = f" ({human_seconds(step.saved_s)} saved)" if step.saved_s else ""
    return (
        shortened(" ".join(step.name.split()), _STEP_WIDTH),
        step.row.status + saved,
        human_seconds(step.seconds),
        human_seconds(step.cpu_seconds) if step.cpu_seconds is not None else "",
        human_size(step.peak_memory_bytes) if step.peak_memory_bytes else "",
        human_size(step.row.size_bytes) if step.ran else "",
    )


def _totals(build: JournalBuild) -> tuple[str, ...]:
    return (
        "total",
        f"{build.line.steps - build.line.cached} ran, {build.line.cached} cached",
        human_seconds(build.line.seconds),
        human_seconds(build.cpu_seconds),
        human_size(build.peak_memory_bytes) if build.peak_memory_bytes else "",
        human_size(build.added_bytes),
    )


def _compared(found: Comparison) -> Iterator[str]:
    first, second = found.first.build.build_id, found.second.build.build_id
    yield render(("", first, second), found.fields or [("the same", "", "")]).rstrip("\n")
    yield ""
    header = ("STEP", "STATUS", "", "TIME", "", "CHANGE", "LAYER", "", "DIFFERS")
    rows = [_pair_cells(pair) for pair in found.pairs]
    seconds = found.first.line.seconds, found.second.line.seconds
    sizes = found.first.image_bytes, found.second.image_bytes
    counts = [f"{side.line.steps} ({side.line.cached} cached)" for side in _sides(found)]
    times = *map(human_seconds, seconds), _change(*seconds)
    rows.append(("total, image", *counts, *times, *map(_size, sizes), ""))
    yield render(header, rows).rstrip("\n")


def _sides(found: Comparison) -> tuple[JournalBuild, JournalBuild]:
    return found.first, found.second


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    sides = (pair.first, pair.second)
    shown = pair.second or pair.first
    name = " ".join(shown.name.split()) if shown is not None else ""
    change = ""
    if pair.first is not None and pair.second is not None:
        change = _change(pair.first.seconds, pair.second.seconds)
    return (
        shortened(name, _STEP_WIDTH),
        *(side.row.status if side is not None else "-" for side in sides),
        *(human_seconds(side.seconds) if side is not None else "-" for side in sides),
        change,
        *(_size(side.size_bytes) if side is not None else "-" for side in sides),
        ", ".join(pair.what),
    )


def _change(first_s: float, second_s: float) -> str:
    sign = "+" if second_s >= first_s else "-"
    return sign + human_seconds(abs(second_s - first_s))


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else human_size(size_bytes)


def _comparison_fields(found: Comparison) -> dict[str, object]:
    return {
        "first": fields_of(found.first),
        "second": fields_of(found.second),
        "differs": [
            {"field": name, "first": first, "second": second}
            for name, first, second in found.fields
        ],
        "steps": [
            {
                "first": pair.first.row.number if pair.first is not None else None,
                "second": pair.second.row.number if pair.second is not None else None,
                "differs": list(pair.what),
            }
            for pair in found.pairs
        ],
    }


def _wants_json(parsed: Parsed, syntax: Syntax) -> bool:
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise usage_error(syntax, f'--format: "{form}" is neither text nor json')
    return form == "json"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
