"""rawjson has the fields of BuildKit's SolveStatus, and nothing else."""

import io
import json
from base64 import b64decode, b64encode

from builder.events import (
    BuildWarning,
    Event,
    Planned,
    PlannedStep,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
    StepTransfer,
)
from pybuild.cli.jsonprogress import JSONProgress, timestamp

NOW_NS = 1_700_000_000_250_000_000
NOW = "2023-11-14T22:13:20.25Z"


def status(*events: Event) -> list[dict[str, list[dict[str, object]]]]:
    out = io.BytesIO()
    progress = JSONProgress(out, lambda: NOW_NS)
    for event in events:
        progress(event)
    progress.finish()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_step_of_the_graph() -> None:
    plan = Planned(
        (PlannedStep("sha256:a", (), "FROM x"), PlannedStep("sha256:b", ("sha256:a",), "RUN y"))
    )
    started = {"digest": "sha256:b", "inputs": ["sha256:a"], "name": "RUN y", "started": NOW}
    assert status(
        plan,
        StepStarted(2, "RUN y", "sha256:b"),
        StepOutput(2, 2, b"\xff\n", 1.5),
        StepDone(2, 2.0),
    ) == [
        {
            "vertexes": [
                {"digest": "sha256:a", "name": "FROM x"},
                {"digest": "sha256:b", "inputs": ["sha256:a"], "name": "RUN y"},
            ]
        },
        {"vertexes": [started]},
        {
            "logs": [
                {
                    "vertex": "sha256:b",
                    "stream": 2,
                    "data": b64encode(b"\xff\n").decode(),
                    "timestamp": "2023-11-14T22:13:21.75Z",
                }
            ]
        },
        {"vertexes": [{**started, "completed": NOW}]},
    ]


def test_how_steps_end() -> None:
    def last(event: Event) -> dict[str, object]:
        (vertex,) = status(StepStarted(1, "x", "sha256:a"), event)[-1]["vertexes"]
        return vertex

    assert last(StepCached(1))["cached"] is True
    assert last(StepFailed(1, "broke", 1.0))["error"] == "broke"
    assert last(StepCanceled(1))["error"] == "context canceled"
    assert all(last(event)["completed"] == NOW for event in (StepCached(1), StepCanceled(1)))


def test_phases_of_the_build_have_digests_of_their_own() -> None:
    one, two = status(StepStarted(1, "x"), StepStarted(2, "x"))
    digests = {one["vertexes"][0]["digest"], two["vertexes"][0]["digest"]}
    assert len(digests) == 2
    assert all(str(digest).startswith("sha256:") for digest in digests)


def test_messages_and_transfers_are_statuses() -> None:
    said, moved, done = (
        line["statuses"][0]
        for line in status(
            StepStarted(1, "x", "sha256:a"),
            StepMessage(1, "naming to y"),
            StepTransfer(1, "sha256:l", 10, 30),
            StepTransfer(1, "sha256:l", 30, 30, done=True),
        )[1:]
    )
    common = {"vertex": "sha256:a", "timestamp": NOW, "started": NOW}
    assert said == {"id": "naming to y", "current": 0, "completed": NOW, **common}
    assert moved == {"id": "sha256:l", "total": 30, "current": 10, **common}
    assert done == {"id": "sha256:l", "total": 30, "current": 30, "completed": NOW, **common}


def test_warnings() -> None:
    *_, line = status(
        StepStarted(1, "[internal] load build definition from Dockerfile"),
        StepDone(1, 0.0),
        BuildWarning("FromAsCasing", "case differs", 3, "should match", "https://h/x"),
    )
    (warning,) = line["warnings"]
    assert b64decode(str(warning.pop("short"))) == b"FromAsCasing: case differs (line 3)"
    assert str(warning.pop("vertex")).startswith("sha256:")
    (detail,) = warning.pop("detail")
    assert b64decode(str(detail)) == b"should match"
    lines = [{"start": {"line": 3}, "end": {"line": 3}}]
    assert warning == {"level": 1, "url": "https://h/x", "range": lines}


def test_times_are_gos() -> None:
    assert timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert timestamp(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"
