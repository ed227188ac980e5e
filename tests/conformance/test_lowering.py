"""Each folder of testdata/lowering is a Dockerfile and what it must become.

`plan.json` holds the target's image config (without layers), its history, and the vertices that
the target needs. A folder with `error.txt` instead must fail with that message. With
PYBUILD_WRITE_GOLDEN=1 missing files are written, to be read before they are committed.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.graph import build_graph
from builder.imageconfig import image_config
from builder.planning import plan_build
from builder.request import USUAL_SANDBOX, BuildRequest
from builder.stages import stages_of
from builder.vertex import Op, RunOp, plain
from grammar import parse
from store.digest import DiffID
from store.root import Store

CASES = sorted((Path(__file__).parents[2] / "testdata/lowering").iterdir())


def planned(case: Path, store: Store) -> dict[str, object]:
    options = case / "request.json"
    request = BuildRequest(
        context=".",
        **{
            name: tuple(tuple(item) if isinstance(item, list) else item for item in value)
            if isinstance(value, list)
            else value
            for name, value in (json.loads(options.read_text()) if options.exists() else {}).items()
        },
    )
    text = (case / "Dockerfile").read_bytes()
    stages = stages_of(parse.parse(text), text)
    warnings: list[str] = []
    plan = plan_build(
        store,
        request,
        stages,
        "linux/amd64",
        lambda rule, _text, line: warnings.append(f"{rule}:{line}"),
    )
    graph = build_graph(plan.vertices, plan.target.root)
    created = dict.fromkeys(plan.vertices, "2020-01-01T00:00:00Z")
    layers = sum(step.vertex is not None for step in plan.history)
    chain = tuple(DiffID(f"sha256:{number:064x}") for number in range(layers))
    platform = plan.target.plan.platform
    config = image_config(plan.target, platform, chain, created, request.labels)
    config = replace(config, diff_ids=())
    names = {vertex: f"v{number}" for number, vertex in enumerate(graph.vertices)}
    return {
        "config": json.loads(config.to_json()),
        "vertices": {
            names[vertex.id]: {
                "name": vertex.name,
                "op": described(vertex.op),
                "inputs": [names[source] for source in vertex.inputs],
            }
            for vertex in graph.vertices.values()
        },
        "warnings": warnings,
    }


def described(op: Op) -> object:
    """Return an operation as JSON; a sandbox like that of any other build is left out."""
    found = plain(op)
    if isinstance(op, RunOp) and op.sandbox == USUAL_SANDBOX and isinstance(found, dict):
        del found["sandbox"]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lowering(case: Path, tmp_path: Path) -> None:
    writing = os.environ.get("PYBUILD_WRITE_GOLDEN") == "1"
    with Store.open(tmp_path / "store") as store:
        try:
            found = json.dumps(planned(case, store), indent=1) + "\n"
            golden = case / "plan.json"
        except BuildError as error:
            found = f"{error}\n" + (f"hint: {error.hint}\n" if error.hint else "")
            golden = case / "error.txt"
    if writing and not golden.exists():
        golden.write_text(found)
    assert golden.read_text() == found
