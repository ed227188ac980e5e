"""Which findings count: skip, experimental, error; for the file, an instruction, a build."""

from collections.abc import Callable

import pytest

from builder.errors import BuildError, LintViolation
from builder.lint.engine import CheckOptions, Linter, parse_options
from builder.lint.rules import RULES
from builder.stages import stages_of
from grammar.parse import parse

Linted = Callable[..., Linter]
Lines = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", CheckOptions()),
        ("  ", CheckOptions()),
        ("skip=A", CheckOptions(skip=frozenset("A"))),
        (" skip = A , B ; error = true ", CheckOptions(frozenset("AB"), is_error=True)),
        ("skip=all", CheckOptions(skip=frozenset({"all"}))),
        ("error=1;experimental=A", CheckOptions(experimental=frozenset("A"), is_error=True)),
        ("error=FALSE;skip=A;experimental=all", CheckOptions(frozenset("A"), frozenset({"all"}))),
    ],
)
def test_options(text: str, options: CheckOptions) -> None:
    assert parse_options(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skip", 'invalid check option "skip"'),
        ("skip=A;", 'invalid check option ""'),
        ("foo=bar", 'invalid check option "foo"'),
        ("error=perhaps", 'invalid check option "error=perhaps": neither true nor false'),
        ("Skip=A", 'invalid check option "Skip"'),
        ("skip=A;error=true;experimental=B;skip=C", None),
    ],
)
def test_options_that_make_no_sense(text: str, message: str | None) -> None:
    if message is None:  # three parts at most: the third one keeps the rest
        assert parse_options(text).experimental == {"B;skip=C"}
        return
    with pytest.raises(ValueError) as caught:
        parse_options(text)
    assert str(caught.value) == message


def test_a_bad_directive_names_the_file_and_a_bad_argument_itself(linted: Linted) -> None:
    with pytest.raises(BuildError, match=r"^Dockerfile:1: failed to parse check options: invalid"):
        linted("# check=bad\nFROM scratch\n")
    with pytest.raises(BuildError, match=r"^--build-arg BUILDKIT_DOCKERFILE_CHECK: failed"):
        linted("FROM scratch\n", BUILDKIT_DOCKERFILE_CHECK="bad")


TWO = "FROM scratch as base\ncopy Dockerfile .\n"


@pytest.mark.parametrize(
    ("directive", "found"),
    [
        ("", ["FromAsCasing:1", "ConsistentInstructionCasing:2"]),
        ("# check=skip=all\n", []),
        ("# check=skip=all;error=true\n", []),
        ("# check=skip=ConsistentInstructionCasing,FromAsCasing\n", []),
        ("# check=skip=ConsistentInstructionCasing\n", ["FromAsCasing:2"]),
        ("# check=skip=NoSuchRule\n", ["FromAsCasing:2", "ConsistentInstructionCasing:3"]),
        # No directive, behind a blank line.
        ("\n# check=skip=all\n#\n", ["FromAsCasing:4", "ConsistentInstructionCasing:5"]),
    ],
)
def test_the_directive(directive: str, found: list[str], lines: Lines) -> None:
    assert sorted(lines(directive + TWO)) == sorted(found)


def test_the_build_argument_replaces_the_directive(lines: Lines) -> None:
    text = "# check=skip=all\n" + TWO
    skipping = "skip=ConsistentInstructionCasing"
    assert lines(text, BUILDKIT_DOCKERFILE_CHECK=skipping) == ["FromAsCasing:2"]
    assert len(lines(text, BUILDKIT_DOCKERFILE_CHECK="")) == 2
    assert lines("# check=bad\n" + TWO, BUILDKIT_DOCKERFILE_CHECK="skip=all") == []


def test_a_comment_speaks_for_the_instruction_below(lines: Lines) -> None:
    text = """\
FROM scratch
# check=skip=SecretsUsedInArgOrEnv // not secret at all
ENV MY_TOKEN=a
ENV MY_KEY=b
# check=skip=all
MAINTAINER someone
"""
    assert lines(text) == ["SecretsUsedInArgOrEnv:4"]


def test_a_comment_that_cannot_be_read_says_nothing(lines: Lines) -> None:
    assert lines("FROM scratch\n# check=bad\nENV A_KEY=b\n") == ["SecretsUsedInArgOrEnv:3"]


def test_a_comment_does_not_reach_beyond_an_empty_one(lines: Lines) -> None:
    text = "FROM scratch\n# check=skip=all\n#\nENV A_KEY=b\n"
    assert lines(text) == ["SecretsUsedInArgOrEnv:4"]


def test_a_comment_counts_for_lines_inside_the_instruction(lines: Lines) -> None:
    text = "FROM scratch\n# check=skip=NoEmptyContinuation\nRUN a \\\n\n  b\n"
    assert lines(text) == []
    assert lines(text.replace("skip=NoEmpty", "skip=Other")) == ["NoEmptyContinuation:4"]


@pytest.mark.parametrize("place", ["first", "second"])
def test_either_of_two_commands_may_skip(place: str, lines: Lines) -> None:
    comment = "# check=skip=MultipleInstructionsDisallowed\n"
    first, second = (comment, "") if place == "first" else ("", comment)
    assert lines(f'FROM scratch\n{first}CMD ["a"]\n{second}CMD ["b"]\n') == []


def test_experimental_rules_are_off_until_asked_for(lines: Lines) -> None:
    text = "# this is a comment\nFROM scratch AS base\n"
    rule = "InvalidDefinitionDescription"
    assert lines("\n" + text) == []
    assert lines(f"# check=experimental={rule}\n" + text) == [f"{rule}:3"]
    assert lines("# check=experimental=all;skip=all\n" + text) == [f"{rule}:3"]
    local = f"\n# check=experimental={rule}\n" + text
    assert lines(local) == [f"{rule}:4"]


def test_error_is_true_only_for_what_counts(linted: Linted) -> None:
    with pytest.raises(LintViolation) as caught:
        linted("# check=error=true\n" + TWO).raise_if_asked()
    rules = "ConsistentInstructionCasing, FromAsCasing"
    assert str(caught.value) == f"lint violation found for rules: {rules}"
    linted("# check=error=true\nFROM scratch\n").raise_if_asked()
    linted("# check=skip=all;error=true\n" + TWO).raise_if_asked()
    linted(TWO).raise_if_asked()


def test_a_finding_is_passed_on_once_and_unknown_rules_are_refused() -> None:
    stages = stages_of(parse(b"FROM scratch\n"), b"FROM scratch\n")
    said: list[tuple[str, str, int | None]] = []
    linter = Linter(stages, CheckOptions(), lambda rule, *at: said.append((rule.name, *at)))
    linter("UndefinedVar", "a", 1)
    linter("UndefinedVar", "a", 1)
    linter("UndefinedVar", "a", None)
    assert said == [("UndefinedVar", "a", 1), ("UndefinedVar", "a", None)]
    with pytest.raises(LookupError):
        linter("NoSuchRule", "a", 1)


def test_a_violation_has_the_lines_of_its_instruction(linted: Linted) -> None:
    violation = linted("FROM scratch\nENV A_KEY=b \\\n  C=d\n").violations[0]
    assert violation.place is not None
    assert (violation.place.first_line, violation.place.last_line) == (2, 3)
    assert ">>> ENV A_KEY=b" in violation.place.excerpt()


def test_rules_about_instructions_look_at_needed_stages_only(lines: Lines, linted: Linted) -> None:
    text = "FROM scratch AS a\nENV old value\nFROM scratch AS b\n"
    assert linted(text, target="b").violations == ()
    assert lines(text) == ["LegacyKeyValueFormat:2"]


def test_the_table_is_whole() -> None:
    assert len(RULES) == 27
    assert all(name == rule.name and rule.description for name, rule in RULES.items())
    assert [rule.name for rule in RULES.values() if rule.experimental] == [
        "InvalidDefinitionDescription"
    ]


def test_rules_have_the_address_of_buildkits_page() -> None:
    pages = "https://docs.docker.com/go/dockerfile/rule"
    assert RULES["JSONArgsRecommended"].url == f"{pages}/json-args-recommended/"
    assert RULES["FromAsCasing"].url == f"{pages}/from-as-casing/"
    assert RULES["SecretsUsedInArgOrEnv"].url == f"{pages}/secrets-used-in-arg-or-env/"
    assert RULES["ArgShadowsEnv"].url == ""
