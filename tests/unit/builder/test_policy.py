"""Which vertices of an instruction have its policies, when a record may be used, and the words."""

import time
from pathlib import Path

import pytest

from builder import policy
from builder.errors import Place
from builder.vertex import (
    NO_POLICIES,
    BaseOp,
    CopyOp,
    DownloadOp,
    LinkOp,
    RunOp,
    Vertex,
    VertexID,
    vertex_id,
)
from grammar import ast
from grammar.parse import parse
from store.buildrecords import BuildRecord, BuildRecords
from store.digest import Digest
from values.classes import replace

RUN = RunOp((), (), "/", "", "default", "", "linux/amd64")
COPY = CopyOp((), "/")
HOUR_NS = 3_600_000_000_000
VERTEX = Vertex(VertexID("v"), RUN, (), "", "", "", 1, Place("Dockerfile", 1, 1))


def policies(text: str, instruction: str = "RUN a") -> ast.Instruction:
    return parse(f"FROM a\n# pybuild: {text}\n{instruction}\n").instructions[1]


def test_which_vertices_have_them() -> None:
    node = policies("retry=3 timeout=1s ttl=1h", "ADD a b")
    assert policy.policies_of(node, COPY) == ast.Policies(ttl_ms=3_600_000)
    assert policy.policies_of(node, DownloadOp("u")) == ast.Policies(retry=3, timeout_ms=1000)
    for op in (BaseOp(()), LinkOp()):
        assert policy.policies_of(node, op) == NO_POLICIES
    node = policies("memory=1g ttl=1h")
    assert policy.policies_of(node, RUN) == node.policies


def test_equal_steps_with_other_policies_are_two() -> None:
    names = {vertex_id(RUN, (), "", policies=each) for each in (NO_POLICIES, ast.Policies(retry=1))}
    assert len(names) == 2
    assert vertex_id(RUN, (), "", policies=NO_POLICIES) == vertex_id(RUN, (), "")


@pytest.fixture
def records(tmp_path: Path) -> BuildRecords:
    return BuildRecords(str(tmp_path / "records.db"))


def record(age_ns: int) -> BuildRecord:
    return BuildRecord(Digest("sha256:" + "0" * 64), (), ended_ns=time.time_ns() - age_ns)


def test_a_record_that_is_too_old(records: BuildRecords) -> None:
    vertex = replace(VERTEX, policies=ast.Policies(ttl_ms=86_400_000))
    young, old = record(23 * HOUR_NS), record(30 * HOUR_NS)
    assert policy.is_usable(vertex, young, records)
    assert policy.refusal(vertex, young, records) is None
    assert not policy.is_usable(vertex, old, records)
    refused = policy.refusal(vertex, old, records)
    assert refused is not None
    assert (refused.kind, refused.text) == ("ttl", "ttl of 24 h is over (record is 30 h old)")
    # It ran, and took the layer that it had made before.
    policy.note_run(records, old.key)
    assert policy.is_usable(vertex, old, records)
    assert policy.is_usable(VERTEX, record(1000 * HOUR_NS), records)


def test_a_record_that_never_counts(records: BuildRecords) -> None:
    for vertex, said in (
        (replace(VERTEX, no_cache=True), "asked for with --no-cache"),
        (replace(VERTEX, policies=ast.Policies(no_cache=True)), "its policy is no-cache"),
    ):
        refused = policy.refusal(vertex, record(0), records)
        assert refused is not None
        assert (refused.kind, refused.text) == ("no-cache", said)


def test_words() -> None:
    exact = [
        policy.duration_words(ms) for ms in (500, 1500, 90_000, 600_000, 9_000_000, 86_400_000)
    ]
    assert exact == ["500 ms", "1500 ms", "90 s", "10 min", "150 min", "24 h"]
    ages = [policy.age_words(ms) for ms in (3, 2500, 119_000, 7_100_000, 30 * 3_600_000 + 7)]
    assert ages == ["3 ms", "2 s", "119 s", "118 min", "30 h"]
    sizes = [policy.bytes_words(size) for size in (7, 2048, 5 << 19, 2 << 30, 3 << 40)]
    assert sizes == ["7 B", "2 KiB", "2.5 MiB", "2 GiB", "3 TiB"]
