"""The grammar of options, as docker's."""

import pytest

from pybuild.cli.options import Parsed, Syntax, flag, help_of, many, parse, value
from pybuild.errors import NotSupported, UsageError

RUN = Syntax(
    verb="run",
    usage="run [OPTIONS] IMAGE",
    summary="Run.",
    options=(
        flag("rm", "remove"),
        flag("interactive", "stdin", "i"),
        flag("tty", "terminal", "t"),
        many("env", "K=V", "variable", "e"),
        value("hostname", "NAME", "host name", "h"),
    ),
    at_least=1,
    at_most=None,
    options_first=True,
    later="detach/d publish/p memory/m",
)
LIST = Syntax(
    verb="list", usage="list", summary="List.", options=(flag("all", "all", "a"),), at_most=1
)


def run(*words: str) -> Parsed:
    return parse(RUN, words)


@pytest.mark.parametrize(
    "words",
    [("-e", "A=1"), ("-eA=1",), ("-e=A=1",), ("--env", "A=1"), ("--env=A=1",), ("-ie", "A=1")],
)
def test_every_spelling_of_a_value(words: tuple[str, ...]) -> None:
    assert run(*words, "image").many("env") == ("A=1",)


def test_a_cluster_sets_every_flag() -> None:
    parsed = run("-it", "image")
    assert parsed.flag("interactive")
    assert parsed.flag("tty")
    assert not parsed.flag("rm")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--rm",), True),
        (("--rm=true",), True),
        (("--rm=1",), True),
        (("--rm=false",), False),
        (("--rm", "--rm=0"), False),
        ((), False),
    ],
)
def test_flags_take_a_boolean_after_the_equals_sign(words: tuple[str, ...], expected: bool) -> None:
    assert run(*words, "image").flag("rm") is expected


def test_the_last_value_counts_and_many_keep_their_order() -> None:
    parsed = run("-h", "a", "--hostname", "b", "-e", "X=1", "-e", "Y=2", "image")
    assert parsed.text("hostname") == "b"
    assert parsed.many("env") == ("X=1", "Y=2")


def test_options_end_at_the_image() -> None:
    assert run("--rm", "image", "--rm", "-x", "--", "y").arguments == [
        "image",
        "--rm",
        "-x",
        "--",
        "y",
    ]


def test_options_may_follow_arguments_elsewhere() -> None:
    parsed = parse(LIST, ["x", "-a"])
    assert parsed.arguments == ["x"]
    assert parsed.flag("all")


def test_two_dashes_end_the_options() -> None:
    assert parse(LIST, ["--", "-a"]).arguments == ["-a"]


def test_a_single_dash_is_an_argument() -> None:
    assert parse(LIST, ["-"]).arguments == ["-"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--evn", "x", "i"), "run: unknown option --evn", "did you mean --env?"),
        (("-x", "i"), "run: unknown option -x", "see pybuild run --help"),
        (("--env",), "run: --env needs a value", "see pybuild run --help"),
        (("--rm=perhaps", "i"), 'run: --rm: "perhaps" is neither true nor false', None),
        (("--root", "x", "i"), "run: unknown option --root", "--root is a global option"),
        ((), "run: needs an argument", "usage: pybuild run [OPTIONS] IMAGE"),
    ],
)
def test_usage_errors_say_what_and_how(
    words: tuple[str, ...], message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        run(*words)
    assert str(caught.value) == message
    assert hint is None or (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--detach", "--detach: not supported yet"),
        ("-d", "-d (--detach): not supported yet"),
        ("-p=80:80", "-p (--publish): not supported yet"),
        ("--memory=1g", "--memory: not supported yet"),
    ],
)
def test_what_docker_has_is_not_supported_yet(word: str, message: str) -> None:
    with pytest.raises(NotSupported) as caught:
        run(word, "image")
    assert str(caught.value) == message


def test_too_many_arguments() -> None:
    with pytest.raises(UsageError, match="list: takes one argument, got 2"):
        parse(LIST, ["a", "b"])


def test_help_is_asked_for_unless_h_means_something_else() -> None:
    assert run("--help").wants_help
    assert parse(LIST, ["-h"]).wants_help
    assert run("-h", "name", "image").text("hostname") == "name"


def test_the_help_page_shows_every_option() -> None:
    page = help_of(RUN)
    assert page.startswith("Usage: pybuild run [OPTIONS] IMAGE\n\nRun.\n")
    assert "  -e, --env K=V        variable\n" in page
    assert "      --rm             remove\n" in page
