"""The verb cache show: all that is stored about one entry of the build cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pybuild.cli.options import Parsed, Syntax, value
from pybuild.cli.table import ago, human_size, local_time, parse_time
from pybuild.cli.verb import Session, Verb

SHOW = Syntax(
    verb="cache show",
    usage="cache show [OPTIONS] ID...",
    summary="Show what a result was made of: all that its cache key depends on.",
    options=(value("format", "FORM", "json or a template: {{.Key}} {{json .Ingredients}} …", "f"),),
    at_least=1,
    at_most=None,
)

_HEAD = ("ID", "Key", "Type", "Name", "Description", "Dockerfile", "Stage", "Step")


def show(parsed: Parsed, session: Session) -> int:
    """Print entries, named by the beginning of their ID or key."""
    form = parsed.text("format")
    with session.engine(reading=True) as engine:
        found = [engine.cache_entry(name) for name in parsed.arguments]
    if form is not None:
        from pybuild.cli.template import Template, to_json

        for entry in found:
            print(to_json(entry) if form == "json" else Template(form).render(entry))
        return 0
    print("\n".join("".join(f"{line}\n" for line in _lines(entry)) for entry in found), end="")
    return 0


VERBS = {"cache show": Verb(SHOW, show)}


def _lines(entry: Mapping[str, object]) -> Iterator[str]:
    facts = {name: str(entry[name]) for name in _HEAD if entry.get(name)}
    if "Step" in facts:
        facts["Step"] = f"{entry['Number']} {' '.join(facts['Step'].split())}"
        del facts["Description"]
    facts["Created"] = _when(entry["CreatedAt"])
    facts["Last used"] = _when(entry["LastUsedAt"])
    facts["Uses"] = str(entry["UsageCount"])
    facts["Size"] = human_size(int(str(entry["Size"])))
    yield from (f"{name + ':':<12} {text}" for name, text in facts.items())
    if "Results" not in entry:
        return
    yield "Results:"
    for result in _rows(entry["Results"]):
        yield from _result(result)
    yield "Parent:"
    parent = _texts(entry["Parent"])
    yield from (f"  {diff_id}" for diff_id in parent or ["nothing"])
    yield "Ingredients:"
    ingredients = entry["Ingredients"]
    if isinstance(ingredients, Mapping):
        yield from _ingredients(ingredients)
    files = _rows(entry["Files"])
    yield f"Files: {'' if files else 'none'}".rstrip()
    for file in files:
        state = file["Digest"] if "Digest" in file else f"-> {file['Target']}"
        yield f"  {state}  {file['Path'] or '.'}"


def _result(result: Mapping[str, object]) -> Iterator[str]:
    state = "" if result["Held"] else ", let go of"
    for layer in _rows(result["Layers"]):
        there = human_size(int(str(layer["Size"]))) if layer["Present"] else "gone"
        yield f"  {layer['DiffID']}  {there}{state}"
    yield f"    made {_when(result['Created'])} in {result['Seconds']}s, build {result['Build']}"


def _ingredients(ingredients: Mapping[str, object]) -> Iterator[str]:
    from pybuild.cli.template import to_json

    for name, item in ingredients.items():
        if isinstance(item, list) and item:
            yield f"  {name}:"
            yield from (f"    {part if isinstance(part, str) else to_json(part)}" for part in item)
        else:
            yield f"  {name}: {item if isinstance(item, str) else to_json(item)}"


def _rows(value: object) -> Sequence[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _when(text: object) -> str:
    when = parse_time(str(text))
    return f"{local_time(when)} ({ago(when)})"
