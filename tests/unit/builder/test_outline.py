"""What a target takes, and which targets there are."""

from collections.abc import Mapping

import pytest

from builder.errors import BuildError
from builder.outline import Outline, Target, outline_of, targets_of
from builder.request import BuildRequest
from builder.stages import StageList, stages_of
from grammar.ast import Span
from grammar.parse import parse


def stages(text: str) -> StageList:
    return stages_of(parse(text.encode()), text.encode())


def outline(
    text: str,
    target: str | None = None,
    images: Mapping[str, Mapping[str, str]] | None = None,
    **build_args: str,
) -> Outline:
    request = BuildRequest(context=".", target=target, build_args=tuple(build_args.items()))
    return outline_of(
        stages(text), request, "linux/amd64", lambda name: (images or {}).get(name, {})
    )


def args(found: Outline) -> list[tuple[str, str, str]]:
    return [(arg.name, arg.value, arg.description) for arg in found.args]


def test_targets() -> None:
    text = """\
# defaultBuild is not this one
# base is what all are built on
FROM --platform=$BUILDPLATFORM alpine:${V} AS Base

# no description
FROM base
# it comes at the end
# last is the default
FROM scratch \\
  AS last
"""
    assert targets_of(stages(text)) == (
        Target(
            "base",
            False,
            "is what all are built on",
            "alpine:${V}",
            "$BUILDPLATFORM",
            Span(3, 3),
        ),
        Target("", False, "", "base", "", Span(6, 6)),
        Target("last", True, "is the default", "scratch", "", Span(9, 10)),
    )


FILE = """\
# VERSION of everything
ARG VERSION=1.0
ARG IMAGE=busybox:$VERSION
ARG UNUSED=x
FROM $IMAGE AS base
# MODE is debug or release
ARG MODE=debug LEVEL
ENV FLAGS=-$MODE
ARG ALL="$FLAGS $HOME"
FROM scratch AS other
ARG OTHER=o
FROM other AS not-needed
ARG NOT_NEEDED
FROM base AS app
ARG VERSION
COPY --from=other / /
"""


def test_arguments_of_a_target_and_of_what_it_needs() -> None:
    found = outline(FILE, images={"busybox:1.0": {"HOME": "/root"}})
    assert (found.name, found.description) == ("app", "")
    assert args(found) == [
        ("VERSION", "1.0", "of everything"),
        ("IMAGE", "busybox:1.0", ""),
        ("MODE", "debug", "is debug or release"),
        ("LEVEL", "", ""),
        ("ALL", "-debug /root", ""),
        ("OTHER", "o", ""),
    ]
    assert [arg.span.first_line for arg in found.args] == [2, 3, 7, 7, 9, 11]


def test_a_target_that_needs_less() -> None:
    assert args(outline(FILE, "other")) == [("OTHER", "o", "")]
    assert [name for name, _, _ in args(outline(FILE, "not-needed"))] == ["OTHER", "NOT_NEEDED"]


def test_given_arguments_are_shown() -> None:
    found = args(outline(FILE, "base", MODE="release", VERSION="2"))
    assert ("MODE", "release", "is debug or release") in found
    assert ("IMAGE", "busybox:2", "") in found
    assert ("ALL", "-release ", "") in found


def test_secrets_and_agents() -> None:
    text = """\
FROM scratch AS tools
RUN --mount=type=ssh true
FROM scratch
ARG NAME=token
RUN --mount=type=secret,id=$NAME,required --mount=type=secret,target=/run/key true
RUN --mount=type=ssh,id=git,required=true --mount=type=bind,from=tools,target=/t true
RUN --mount=type=secret,id=token --mount=type=cache,target=/c true
"""
    found = outline(text)
    assert [(m.name, m.is_required, m.span.first_line) for m in found.secrets] == [
        ("token", True, 5),
        ("key", False, 5),
    ]
    assert [(m.name, m.is_required, m.span.first_line) for m in found.ssh] == [
        ("default", False, 2),
        ("git", True, 6),
    ]


def test_triggers_of_the_base_stage_count() -> None:
    text = """\
FROM scratch AS base
ONBUILD ARG TRIGGERED=1
ONBUILD RUN --mount=type=secret,id=s true
FROM base AS child
FROM child AS grandchild
"""
    assert args(outline(text, "base")) == []
    assert args(outline(text, "child")) == [("TRIGGERED", "1", "")]
    assert [mount.name for mount in outline(text, "child").secrets] == ["s"]


def test_descriptions_need_the_name() -> None:
    text = "# A of one\n# B of the other\nARG A=1\n# AB is neither\nARG B=2\nFROM a$A$B\n"
    assert args(outline(text)) == [("A", "1", "of one"), ("B", "2", "")]


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(BuildError, match="target stage"):
        outline("FROM scratch AS a\n", "b")


def test_words_that_cannot_be_expanded_stay_as_they_are() -> None:
    found = outline("FROM scratch\nARG A=${\nRUN --mount=type=secret,id=${ true\n")
    assert args(found) == [("A", "${", "")]
    assert [mount.name for mount in found.secrets] == ["${"]
