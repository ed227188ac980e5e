"""Global options, which word is the verb, and what becomes of errors."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import Place, StepFailed, StepsFailed
from grammar.errors import GrammarError
from grammar.parse import parse
from pybuild.cli import main, report
from pybuild.cli.options import Syntax
from pybuild.errors import ContainerError, NotSupported, UsageError


@pytest.mark.parametrize("name", main.VERBS)
def test_every_row_of_the_verb_table_leads_to_a_verb(name: str) -> None:
    verb = main.load_verb(name)
    assert isinstance(verb.syntax, Syntax)
    assert verb.syntax.verb == name
    assert verb.syntax.usage.startswith(("[build]", name))
    letters = [option.short for option in verb.syntax.options if option.short]
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize("name", main.VERBS)
def test_a_module_has_no_verb_that_the_table_lacks(name: str) -> None:
    verbs = importlib.import_module(main.VERBS[name]).VERBS
    assert all(main.VERBS[other] == main.VERBS[name] for other in verbs)


@pytest.mark.parametrize("name", main.VERBS)
def test_no_option_is_both_there_and_for_later(name: str) -> None:
    syntax = main.load_verb(name).syntax
    later = {word.partition("/")[0] for word in syntax.later.split()}
    assert not later & {option.name for option in syntax.options}


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        (["images", "-q"], "images", ["-q"]),
        (["build", "."], "build", ["."]),
        (["-t", "x", "."], "build", ["-t", "x", "."]),
        (["."], "build", ["."]),
        (["./run"], "build", ["./run"]),
        (["../images"], "build", ["../images"]),
        (["cache", "ls", "-q"], "cache ls", ["-q"]),
        (["cache", "mounts", "ls", "-q"], "cache mounts ls", ["-q"]),
        (["image", "ls"], "images", []),
        (["container", "run", "x"], "run", ["x"]),
        (["system", "check"], "system check", []),
        (["https://example.org/x.git"], "build", ["https://example.org/x.git"]),
    ],
)
def test_the_first_word_is_a_verb_or_a_build(words: list[str], name: str, rest: list[str]) -> None:
    assert main.find_verb(words) == (name, rest)


def test_a_directory_that_is_there_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("site")
    assert main.find_verb(["site"]) == ("build", ["site"])


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["iamges"], '"iamges" is neither a verb nor a directory', "did you mean images?"),
        (["system", "rm", "x"], "system rm: no such verb", "see pybuild system --help"),
        (
            ["system", "chekc"],
            "system chekc: no such verb",
            "did you mean system check? see pybuild system --help",
        ),
        (
            ["cache", "mounts", "x"],
            "cache mounts x: no such verb",
            "see pybuild cache mounts --help",
        ),
    ],
)
def test_a_word_that_means_nothing(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        main.find_verb(words)
    assert (str(caught.value), caught.value.hint) == (message, hint)


def test_verbs_of_docker_that_are_not_here() -> None:
    with pytest.raises(NotSupported, match="commit: not supported yet"):
        main.find_verb(["commit", "debian"])


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        (["build", "--bogus", "."], 2, "error: build: unknown option --bogus\nhint: see"),
        (["plan", "--budget", "step=1s", "."], 2, "error: plan: --budget is an option of build"),
        (["repro", "--budget", "step=1s", "."], 2, "error: repro: --budget is an option of build"),
        (["build", "--squash", "."], 1, "error: --squash: not supported yet\n"),
        (["commit", "x"], 1, "error: commit: not supported yet\n"),
        (["run", "--bogus", "x"], 125, "error: run: unknown option --bogus\n"),
        (["run", "-d", "x"], 125, "error: -d (--detach): not supported yet\n"),
        (["--root"], 2, "error: --root needs a folder\n"),
    ],
)
def test_errors_become_one_line_a_hint_and_an_exit_code(
    words: list[str], code: int, stderr: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(stderr)
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--debug", "commit", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "start"),
    [([], "Usage: pybuild"), (["-h"], "Usage: pybuild"), (["run", "--help"], "Usage: pybuild run")],
)
def test_help_goes_to_stdout(
    words: list[str], start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith(start)
    assert err == ""


@pytest.mark.parametrize("noun", sorted(main._GROUPS))
@pytest.mark.parametrize("rest", [[], ["--help"], ["-h"], ["help"]])
def test_half_a_verb_shows_what_can_follow(
    noun: str, rest: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*noun.split(), *rest]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: pybuild {noun} COMMAND\n")
    rows = [line.split(None, 1) for line in out.splitlines() if line.startswith("  ")]
    after = {
        name.removeprefix(f"{noun} ").split()[0]
        for name in [*main.VERBS, *main._ALIASES]
        if name.startswith(f"{noun} ")
    }
    assert {row[0] for row in rows} == after
    assert all(len(row) == 2 for row in rows)


def test_what_a_noun_names_can_be_called() -> None:
    for noun in main._GROUPS:
        for word in main._lines_of(noun):
            words = [*noun.split(), word]
            assert main._asked_noun(words) or main.find_verb(words)


ROOMS = ("builder", "grammar", "pybuild", "registry_client", "runtime", "store")
PROSE = {"that", "or", "and", "for", "of", "can"}  # words after the program's name in a sentence


def hints() -> list[str]:
    """Return the constant parts of every `hint=` in the source."""
    found = []
    for room in ROOMS:
        for path in sorted((Path(__file__).parents[3] / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    found += [
                        part.value
                        for part in ast.walk(node.value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    ]
    return found


def test_hints_name_verbs_that_there_are() -> None:
    after = re.compile(r"pybuild ((?:[a-z]+ ?)+)")
    found = (match[1].split() for hint in hints() for match in after.finditer(hint))
    named = [words for words in found if words[0] not in PROSE]
    assert len(named) > 5
    for words in named:
        assert main.find_verb(words)[0].split()[0] == words[0]


READING = [
    ["images"],
    ["ps", "-a"],
    ["info"],
    ["inspect", "x"],
    ["history", "x"],
    ["cache", "ls"],
    ["cache", "du"],
    ["cache", "show", "x"],
    ["cache", "prune", "--dry-run"],
    ["cache", "mounts", "ls"],
    ["cache", "mounts", "tree", "x"],
    ["system", "df", "-v"],
    ["system", "check"],
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_who_only_looks_makes_no_store(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    code = main.run(["--root", str(root), *words])
    err = capsys.readouterr().err
    assert not root.exists()
    # Of what is named nothing is there; a list is empty.
    assert code == (1 if "x" in words else 0), err
    assert err.startswith("error: no such" if code else "") or "there is none" in err
    assert "bug" not in err
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "other").touch()
    assert main.run(["--root", str(root), *words]) == 1
    assert "the folder is no store" in capsys.readouterr().err


def test_the_help_names_every_verb() -> None:
    assert all(f"  {name} " in main._HELP for name in main.VERBS)


class TestReport:
    def test_a_bug_is_one_line_and_says_how_to_see_more(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report.report(ZeroDivisionError("a\nb"), debug=False)
        assert capsys.readouterr().err == (
            "error: bug in pybuild: ZeroDivisionError: a b\n"
            "hint: pybuild --debug … shows the traceback\n"
        )

    def test_details_come_before_the_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        error = ContainerError("broken", hint="mend it")
        error.details = "line 1\nline 2"  # type: ignore[attr-defined]
        report.report(error, debug=False)
        assert capsys.readouterr().err == "line 1\nline 2\nerror: broken\nhint: mend it\n"

    def test_an_operating_system_error_names_the_file(self) -> None:
        error = FileNotFoundError(2, "No such file or directory", "/x")
        assert report.message_of(error) == "/x: no such file or directory"

    def test_a_full_disk_has_a_hint(self) -> None:
        assert "disk is full" in (report.hint_of(OSError(28, "No space left on device")) or "")

    @pytest.mark.parametrize(
        ("error", "code", "in_container"),
        [
            (UsageError("x"), 2, 125),
            (NotSupported("x"), 1, 125),
            (ContainerError("x"), 1, 125),
            (KeyboardInterrupt(), 130, 130),
            (OSError(2, "x"), 1, 125),
            (ZeroDivisionError(), 1, 125),
        ],
    )
    def test_exit_codes(self, error: BaseException, code: int, in_container: int) -> None:
        assert report.exit_code(error) == code
        assert report.exit_code(error, in_container=True) == in_container

    def test_every_class_in_the_tables_exists(self) -> None:
        for name in [*report._EXIT_CODES, *report._CONTAINER_EXIT_CODES]:
            module, _, cls = name.rpartition(".")
            assert issubclass(getattr(importlib.import_module(module), cls), BaseException)


@pytest.mark.parametrize("words", [("--help",), ("images",), ("version",), ("build", "--help")])
def test_an_output_that_cannot_be_written_is_one_clear_error(
    words: tuple[str, ...], tmp_path: Path, project: Path
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pybuild", *words],
            env={**os.environ, "PYBUILD_ROOT": str(tmp_path), "PYTHONPATH": str(project)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: no space left on device\n"


def test_every_step_that_failed_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    source = ("FROM x", "RUN one", "RUN two")
    places = [Place("Dockerfile", line, line, source) for line in (2, 3)]
    failed = [
        StepFailed(place, "exit code: 1", exit_code=1, log_path=None, step_name=name, output=output)
        for place, name, output in zip(
            places, ("RUN one", "RUN two"), ("\x1b[31mred", ""), strict=True
        )
    ]
    report.report(StepsFailed(failed), debug=False)
    shown = capsys.readouterr().err
    assert shown.startswith("------\n > RUN one:\nred\n------\nDockerfile:2\n")
    assert shown.count("------\n >") == 1
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: Dockerfile:{line}: exit code: 1" for line in (2, 3)]
    assert "   2 | >>> RUN one" in shown
    assert "   3 | >>> RUN two" in shown


def test_all_syntax_errors_of_a_file_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GrammarError) as caught:
        parse("FROM a\nRUM b\nRUN c\n  COPY --form=d e f\n" + "X\n" * 20)
    report.report(caught.value, debug=False)
    shown = capsys.readouterr().err
    assert shown.startswith(
        'error: Dockerfile:2:1: unknown instruction "RUM" (did you mean RUN?)\n  RUM b\n  ^\n'
        "error: Dockerfile:4:8: unknown flag --form for COPY (did you mean --from?)\n"
        "    COPY --form=d e f\n         ^\n"
    )
    assert shown.count("error: ") == 20
    assert shown.endswith("… and 2 more errors\n")
