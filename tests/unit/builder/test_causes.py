"""What is said of two keys that differ."""

import pytest

from builder.causes import Cause, FileFacts, changed_files, compare

RUN = {
    "kind": "run",
    "schema": 1,
    "args": ["/bin/sh", "-c", "make all"],
    "env": ["PATH=/bin", "V=1"],
    "arg_names": ["V"],
    "cwd": "/",
    "user": "",
    "mounts": [],
    "parent": ["sha256:1"],
}
COPY = {
    "kind": "copy",
    "destination": "/app",
    "chown": None,
    "content": ["sha256:1"],
    "files": [["a", "sha256:aa 0644"], ["b", "sha256:bb 0644"], ["l", "-> a"]],
}


def texts(
    old: dict[str, object], new: dict[str, object], facts: FileFacts | None = None
) -> list[str]:
    return [cause.text for cause in compare(old, new, facts)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"parent": ["sha256:2"]}, []),
        ({"env": ["PATH=/bin", "V=2"]}, ["ARG V 1 → 2"]),
        ({"env": ["PATH=/bin", "V=a b"]}, ['ARG V 1 → "a b"']),
        ({"env": ["PATH=/bin"]}, ["ARG V is gone (it was 1)"]),
        ({"env": ["PATH=/bin", "V=1", "N="]}, ['ENV N="" is new']),
        ({"env": ["V=1", "PATH=/bin"]}, ["the order of ARG and ENV changed"]),
        (
            {"args": ["/bin/sh", "-c", "make one"]},
            ['the command changed: "make all" → "make one"'],
        ),
        (
            {"args": ["/bin/bash", "-c", "make all"]},
            ['the command or its shell changed: "/bin/sh -c make all" → "/bin/bash -c make all"'],
        ),
        ({"cwd": "/x", "user": "5"}, ["WORKDIR / → /x", "USER none → 5"]),
        ({"schema": 2}, ["way of making keys 1 → 2"]),
        ({"kind": "copy"}, ["the instruction is another one"]),
        ({"mounts": [{"target": "/m", "type": "TmpfsMount"}]}, ["--mount at /m is new"]),
    ],
)
def test_run(change: dict[str, object], said: list[str]) -> None:
    assert texts(RUN, RUN | change) == said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([["a", "sha256:a2 0644"]], "a changed and 2 more"),
        ([*COPY["files"][:2], ["l", "-> b"]], "l changed (a → b)"),
        ([["a", "sha256:aa 0755"], *COPY["files"][1:]], "mode of a 0644 → 0755"),
        ([["a", "sha256:aa 0644 5:5"], *COPY["files"][1:]], "owner or kind of a changed"),
        (COPY["files"][:2], "l is gone"),
        ([*COPY["files"], ["n", "sha256:nn 0644"]], "n is new"),
        (
            COPY["files"],
            "names, owners, links or attributes of its files changed, their bytes did not",
        ),
    ],
)
def test_files(files: list[list[str]], said: str) -> None:
    assert texts(COPY, COPY | {"content": ["sha256:2"], "files": files}) == [said]


def test_files_do_not_count_where_the_content_is_the_same() -> None:
    assert texts(COPY, COPY | {"files": []}) == []


def test_lines_and_ignore_files() -> None:
    new = COPY | {"content": ["sha256:2"], "files": [["a", "sha256:a2 0644"], *COPY["files"][1:]]}
    assert changed_files(COPY, new) == ("a",)
    assert texts(COPY, new, FileFacts(lines={"a": (3, 1)})) == ["a changed (lines +3 -1)"]
    assert texts(COPY, new, FileFacts(lines={"a": (0, 2)})) == ["a changed (lines -2)"]
    assert texts(COPY, new, FileFacts(lines={"a": (0, 0)})) == [
        "a changed (its lines changed places)"
    ]
    new = COPY | {"content": ["sha256:2"], "files": [*COPY["files"], ["d/x", "sha256:x 0644"]]}
    said = [".dockerignore no longer excludes d (d/x)"]
    assert texts(COPY, new, FileFacts(ignored_before=("d", "!e"))) == said
    assert texts(new, COPY, FileFacts(ignored_now=("d",))) == [".dockerignore now excludes d (d/x)"]


def test_the_owners_of_files_cease_to_count_with_chown() -> None:
    assert texts(COPY, COPY | {"content": ["sha256:2"], "chown": "5"}) == ["--chown none → 5"]


def test_json() -> None:
    for cause in (
        Cause("first", "x"),
        Cause("files", "y", None, None, ("a", "b")),
        Cause("v", "z", "", "1"),
    ):
        assert Cause.from_fields(cause.to_fields()) == cause
