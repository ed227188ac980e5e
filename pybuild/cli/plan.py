"""The verb plan: what a build would do, before it does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.cli.build import SYNTAX as BUILD
from pybuild.cli.build import request_of
from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.table import human_size, render, shortened
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from builder.forecast import Forecast, StepForecast

MISSED = 3  # the exit code of --fail-on-miss
_STEP_WIDTH = 50
# What is about a build's progress or its outcome.
_LEFT_OUT = {
    "budget",
    "call",
    "check",
    "explain",
    "iidfile",
    "metadata-file",
    "no-keep-failed",
    "profile",
    "progress",
    "quiet",
}
SYNTAX = Syntax(
    verb="plan",
    usage="plan [OPTIONS] CONTEXT",
    summary="Say which steps of a build would run and why, without running anything.",
    options=(
        *(option for option in BUILD.options if option.name not in _LEFT_OUT),
        flag("fail-on-miss", f"end with {MISSED} unless every step would come from the cache"),
        value("format", "FORM", "table or json"),
        flag("no-trunc", "show instructions in full"),
    ),
    at_least=1,
    at_most=1,
    later=BUILD.later,
    of_build=frozenset(_LEFT_OUT),
)


def plan(parsed: Parsed, session: Session) -> int:
    """Print what each step would come to."""
    form = parsed.text("format") or "table"
    if form not in ("table", "json"):
        raise usage_error(SYNTAX, f'--format: "{form}" is neither table nor json')
    request = request_of(parsed)
    with session.engine(reading=True) as engine:
        found = engine.plan(request)
    if form == "json":
        print(json.dumps(as_json(found), indent=2, ensure_ascii=False))
    else:
        print(as_text(found, whole=parsed.flag("no-trunc")), end="")
    ready = found.count("hit") == len(found.steps)
    return MISSED if parsed.flag("fail-on-miss") and not ready else 0


VERBS = {"plan": Verb(SYNTAX, plan)}


def as_text(found: Forecast, *, whole: bool = False) -> str:
    """Return a forecast as a table with a summary below it."""
    from builder.policy import text_of

    rows: list[tuple[str, ...]] = []
    for step in found.steps:
        name = " ".join(step.vertex.name.split())
        said = [cause.text for cause in step.causes] or [""]
        policies = text_of(step.vertex)
        said += [f"policies: {policies}"] if policies else []
        rows.append(
            (name if whole else shortened(name, _STEP_WIDTH), step.state, _took(step), said[0])
        )
        rows += [("", "", "", text) for text in said[1:]]
    counts = [f"{found.count('hit')} of {len(found.steps)} steps from the cache"]
    counts.append(f"{found.count('miss')} to run")
    if found.count("unknown"):
        counts.append(f"{found.count('unknown')} unknown")
    if found.pull_bytes:
        counts.append(f"{human_size(found.pull_bytes)} to pull")
    counts.append(_expected(found))
    summary = ", ".join(filter(None, counts))
    return render(("STEP", "CACHE", "TOOK", "WHY"), rows) + summary + "\n"


def as_json(found: Forecast) -> dict[str, object]:
    """Return a forecast as JSON values."""
    from builder.policy import text_of

    return {
        "dockerfile": found.dockerfile,
        "steps": [
            {
                "name": step.vertex.name,
                "stage": step.vertex.stage,
                "line": step.vertex.place.first_line,
                "state": step.state,
                "policies": text_of(step.vertex),
                "causes": [cause.to_fields() for cause in step.causes],
                "seconds": None if step.seconds is None else round(step.seconds, 3),
            }
            for step in found.steps
        ],
        "hits": found.count("hit"),
        "misses": found.count("miss"),
        "unknown": found.count("unknown"),
        "pullBytes": found.pull_bytes,
        "seconds": {
            "least": round(found.least_seconds, 3),
            "most": round(found.most_seconds, 3),
        },
    }


def _took(step: StepForecast) -> str:
    """Return how long a step took when it last ran, nothing for one that will not."""
    return "" if step.state == "hit" or step.seconds is None else f"{step.seconds:.1f}s"


def _expected(found: Forecast) -> str:
    if not found.most_seconds:
        return ""
    least, most = f"{found.least_seconds:.1f}", f"{found.most_seconds:.1f}"
    return f"about {least}s" if least == most else f"about {least}s to {most}s"
