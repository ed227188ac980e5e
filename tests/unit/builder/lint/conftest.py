"""Lints a text as a check does, on base images that are for amd64 and set nothing."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from builder.lint.engine import Linter, options_of
from builder.planning import Planner
from builder.request import BuildRequest
from builder.stages import stages_of
from grammar.parse import parse
from store.digest import digest_of
from store.images import Image
from store.oci import ImageConfig


def lint(text: str, *, target: str | None = None, **build_args: str) -> Linter:
    request = BuildRequest(context=".", build_args=tuple(build_args.items()), target=target)
    stages = stages_of(parse(text.encode()), text.encode())
    linter = Linter(stages, options_of(stages, request), lambda *_: None)
    linter.check_file(request, "linux/amd64")
    planner = Planner(
        SimpleNamespace(
            image=lambda *_: Image(digest_of(b""), ImageConfig("amd64", "linux")), layout=None
        ),
        request,
        stages,
        "linux/amd64",
        linter,
    )
    for stage in (stages.target(target),) if target else stages.stages:
        planner.stage(stage)
    return linter


@pytest.fixture
def linted() -> Callable[..., Linter]:
    """Return a function: linted(text, target=…, NAME="build argument") is the linter afterwards."""
    return lint


@pytest.fixture
def lines() -> Callable[..., list[str]]:
    """Return a function: lines(text, NAME="build argument") are its violations as Rule:line."""
    return lint_lines


def lint_lines(text: str, **build_args: str) -> list[str]:
    found = lint(text, **build_args).violations
    return [f"{v.rule.name}:{v.place.first_line if v.place else None}" for v in found]
