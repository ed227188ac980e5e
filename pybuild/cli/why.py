"""The verb cache why, and what `build --explain` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.table import render, shortened
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.engine.explanations import BuildWhy, StepWhy

WHY = Syntax(
    verb="cache why",
    usage="cache why [OPTIONS] [BUILD [STEP]]",
    summary="Show why the steps of a build ran, of the last one unless another is named.",
    options=(
        flag("all", "show the steps that did not run too", "a"),
        value("format", "FORM", "table or json"),
        flag("no-trunc", "show instructions in full"),
    ),
    at_most=2,
)

_STEP_WIDTH = 50


def why(parsed: Parsed, session: Session) -> int:
    """Print the cause of each step that ran; a step that is named is always shown."""
    form = parsed.text("format") or "table"
    if form not in ("table", "json"):
        raise usage_error(WHY, f'--format: "{form}" is neither table nor json')
    with session.engine(reading=True) as engine:
        found = engine.why(*parsed.arguments)
    everything = parsed.flag("all") or len(parsed.arguments) == 2
    if form == "json":
        print(json.dumps(as_json(found, everything=everything), indent=2, ensure_ascii=False))
    else:
        print(explained(found, everything=everything, whole=parsed.flag("no-trunc")), end="")
    return 0


VERBS = {"cache why": Verb(WHY, why)}


def explained(found: BuildWhy, *, everything: bool = False, whole: bool = False) -> str:
    """Return the causes as text: a line a step, further causes of the same step below it."""
    ran = [step for step in found.steps if step.causes]
    build = found.build
    head = f"build {build.build_id} of {build.dockerfile}: "
    head += f"{len(ran)} of {len(found.steps)} steps ran\n"
    rows = []
    for step in found.steps if everything else ran:
        name = " ".join(step.name.split())
        said = [cause.text for cause in step.causes] or [step.status]
        rows.append((name if whole else shortened(name, _STEP_WIDTH), said[0] + _end(step)))
        rows += [("", text) for text in said[1:]]
        if step.policies:
            rows.append(("", f"policies: {step.policies}"))
    return head + (render(("STEP", "WHY IT RAN"), rows) if rows else "")


def as_json(found: BuildWhy, *, everything: bool = False) -> dict[str, object]:
    """Return the causes as JSON values."""
    return {
        "build": found.build.build_id,
        "dockerfile": found.build.dockerfile,
        "status": found.build.status,
        "steps": [
            {
                "number": step.number,
                "name": step.name,
                "stage": step.stage,
                "line": step.line,
                "status": step.status,
                "policies": step.policies,
                "causes": [cause.to_fields() for cause in step.causes],
            }
            for step in found.steps
            if everything or step.causes
        ],
    }


_WELL = ("done", "cached")


def _end(step: StepWhy) -> str:
    if step.status == "adopted":
        return " (it made the same as before: nothing follows)"
    return f" ({step.status})" if step.causes and step.status not in _WELL else ""
