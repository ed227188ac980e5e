"""Corners of the rules that need values; the usual cases are on the pages in docs/lint."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.lint import semantics
from builder.vertex import ContextPath, CopyOp, StagePath
from grammar import ignorefile
from store.oci import Platform

Lines = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("name", "known", "closest"),
    [
        ("PAHT", ["PATH"], "PATH"),
        ("DIR_ASSET", ["DIR_BINARIES", "DIR_ASSETS"], "DIR_ASSETS"),
        ("foo", ["PATH"], None),
        ("ab", ["cd", "ax"], "ax"),
        ("abc", ["abd", "abe"], "abd"),
        ("x", [], None),
        ("version", ["VERSION"], None),
    ],
)
def test_suggestions(name: str, known: list[str], closest: str | None) -> None:
    assert semantics.closest(name, known) == closest


def levenshtein(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, start=1):
        above, row[0] = row[0], number
        for at, other in enumerate(right, start=1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + (letter != other))
    return row[-1]


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(0, 2))
def test_differences_are_levenshteins(left: str, right: str, edits: int) -> None:
    assert semantics.differs_by(left, right, edits) is (levenshtein(left, right) <= edits)


def test_very_many_names_take_no_time() -> None:
    names = [f"A{number}" for number in range(100_000)]
    for number in range(50):
        assert semantics.closest(f"B{number}xyz", names) is None
    assert semantics.closest("A9999x", names) == "A99990"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ARG SECRET_PASSPHRASE", True),
        ("ENV SUPER_Secret=foo", True),
        ("ENV password=bar", True),
        ("ARG a=b super_duper_secret_token=foo", True),
        ("ENV git_key=", True),
        ('ENV "password"=x', True),
        ("ENV PUBLIC_KEY=", False),
        ("ARG public_token", False),
        ("ENV KEYBOARD=de MONKEY=1 tokens=2", False),
        ("ENV TOKEN_FILE=x KEY_VERSION=2", False),
    ],
)
def test_secrets(text: str, found: bool, lines: Lines) -> None:
    assert lines(f"FROM scratch\n{text}\n") == ["SecretsUsedInArgOrEnv:2"] * found


def test_global_args_hold_no_secret_of_the_image(lines: Lines) -> None:
    assert lines("ARG API_KEY=a\nFROM scratch\n") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM base AS a\nARG foo\nCOPY x${foo} .", []),
        ("FROM base AS a\nARG foo=x\nFROM a\nCOPY $foo .", []),
        ("FROM base AS a\nARG foo\nFROM a\nCOPY x$foo .", []),
        ("FROM base\nRUN echo $PATH $foo", []),
        ("FROM base\nCOPY x$foo .\nARG foo=bar", ["UndefinedVar:2"]),
        ("FROM base\nENV PATH=$PATH:/x A=${B:-b}", []),
        ("FROM base\nENV A=1 B=$A", ["UndefinedVar:2"]),
        ("FROM base\nARG A=1 B=$A", []),
        ("FROM base\nCOPY <<EOF /x\n$foo\nEOF", ["UndefinedVar:2"]),
        ("FROM base\nCOPY <<'EOF' /x\n$foo\nEOF", []),
    ],
)
def test_undefined_variables(text: str, found: list[str], lines: Lines) -> None:
    assert lines(text + "\n") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ARG base=scratch\nFROM $base", []),
        ("ARG DEBUG\nFROM scratch${DEBUG}", []),
        ("ARG DEBUG\nFROM scra${DEBUG:-tch}", []),
        ("FROM --platform=$BUILDPLATFORM scratch", []),
        ("ARG tag=latest\nFROM busybox:${tag}${version} AS b", ["UndefinedArgInFrom:2"]),
        ("FROM scratch AS a\nARG x=1\nFROM busybox:l$x", ["UndefinedArgInFrom:3"]),
    ],
)
def test_arguments_in_from(text: str, found: list[str], lines: Lines) -> None:
    assert lines(text + "\n") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('ARG SFX="box:"\nFROM busy${SFX}', True),
        ("ARG IMAGE\nFROM $IMAGE", True),
        ('ARG VERSION="latest"\nFROM busybox:${VERSION}', False),
        ("ARG V\nFROM busybox:stable${V}", False),
        ("FROM scratch AS a\nFROM a", False),
    ],
)
def test_defaults_in_from(text: str, found: bool, lines: Lines) -> None:
    given = {"SFX": "box:latest", "IMAGE": "busybox", "VERSION": "1", "V": "-musl"}
    assert lines(text + "\n", **given) == ["InvalidDefaultArgInFrom:2"] * found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64 scratch AS my_amd64_stage", False),
        ("linux/amd64 scratch AS linux", False),
        ("linux/amd64 scratch AS base", True),
        ("linux/amd64 scratch", True),
        ("${BUILDPLATFORM} scratch", False),
    ],
)
def test_constant_platforms(text: str, found: bool, lines: Lines) -> None:
    expected = ["FromPlatformFlagConstDisallowed:1"] * found
    assert lines(f"FROM --platform={text}\n") == expected


@pytest.mark.parametrize("word", ["amd64", "linux", "linux/x86_64", "LINUX/AMD64"])
def test_short_platforms_are_understood(word: str) -> None:
    platform = semantics._platform(word)
    assert platform.os == "linux"
    assert platform.architecture in ("amd64", semantics.platforms.host().architecture)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("WORKDIR app\nWORKDIR sub", ["WorkdirRelativePath:2"]),
        ("WORKDIR /app\nWORKDIR sub", []),
        ("ARG A=/app\nWORKDIR $A", []),
        ("ARG A=app\nWORKDIR $A", ["WorkdirRelativePath:3"]),
    ],
)
def test_relative_workdirs(text: str, found: list[str], lines: Lines) -> None:
    assert lines(f"FROM base\n{text}\n") == found


def test_workdirs_of_the_base_stage_count(lines: Lines) -> None:
    text = "FROM base AS a\nWORKDIR /app\nFROM a AS b\nFROM b\nWORKDIR sub\n"
    assert lines(text) == []


def test_what_a_stage_inherits_is_not_given_twice(lines: Lines) -> None:
    commands = 'ENTRYPOINT ["a"]\nCMD ["a"]\nHEALTHCHECK NONE\n'
    assert lines(f"FROM base AS a\n{commands}FROM a\n{commands}") == []
    assert lines(f"FROM base\n{commands}{commands}") == [
        f"MultipleInstructionsDisallowed:{line}" for line in (2, 3, 4)
    ]


def test_triggers_count_where_they_fire(lines: Lines) -> None:
    text = 'FROM base AS a\nONBUILD CMD ["a"]\nONBUILD ENV A_KEY=1\nFROM a\nCMD ["b"]\n'
    rules = ["MultipleInstructionsDisallowed:4", "SecretsUsedInArgOrEnv:4"]
    assert sorted(lines(text)) == rules


@pytest.mark.parametrize(
    ("port", "found"),
    [
        ("80", []),
        ("80/tcp", []),
        ("80:80", ["ExposeInvalidFormat"]),
        ("[::1]:80:80/UDP", ["ExposeProtoCasing", "ExposeInvalidFormat"]),
    ],
)
def test_ports(port: str, found: list[str], lines: Lines) -> None:
    assert lines(f"FROM base\nEXPOSE {port}\n") == [f"{rule}:2" for rule in found]


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/amd64/v3"])
def test_variants_of_base_images_do_not_matter(platform: str) -> None:
    for variant in ("", "v2"):
        actual = Platform("linux", "amd64", variant)
        assert semantics.invalid_base_image_platform("x", actual, platform) is None


@pytest.mark.parametrize(
    ("rules", "source", "path"),
    [
        ("a\n", ContextPath("a"), "a"),
        ("a\n", ContextPath("/a/b/../c/"), "a/c"),
        ("a\n", ContextPath("../a"), "a"),
        ("a\n", ContextPath("b"), None),
        ("a\n", ContextPath("."), None),
        ("*\n", ContextPath("."), "."),
        ("**\n", ContextPath("/"), "."),
        ("*\n!a\n", ContextPath("b"), None),
        ("", ContextPath("b"), None),
        ("a\n", StagePath(1, "a"), None),
    ],
)
def test_ignored_sources(rules: str, source: ContextPath | StagePath, path: str | None) -> None:
    class Copy:
        op = CopyOp((source,), "/x")
        title = "COPY a /x"
        place = type("Place", (), {"first_line": 3})

    found = list(semantics.copy_ignored_file([Copy], ignorefile.parse(rules.encode())))
    expected = [f'Attempting to Copy file "{path}" that is excluded by .dockerignore'] * bool(path)
    assert [finding.message for finding in found] == expected
    assert not list(semantics.copy_ignored_file([Copy], None))


def test_an_argument_that_cannot_be_expanded_is_the_build_s_to_tell(lines: Lines) -> None:
    from builder.errors import BuildError

    with pytest.raises(BuildError, match="Dockerfile:1: ARG A"):
        lines("ARG A=${\nFROM scratch$A\n")
