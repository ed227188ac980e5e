"""Command lines as runc reads them, and how little a verb imports."""

import subprocess
import sys

import pytest

from runtime.command.kill import signal_number
from runtime.command.options import UsageError, parse
from runtime.sealedpython import interpreter

OPTIONS = {"all": ("a", "flag"), "bundle": ("b", "text"), "env": ("e", "many"), "n": ("", "number")}


@pytest.mark.parametrize(
    ("words", "values", "rest"),
    [
        (["-a", "id"], {"all": "true"}, ["id"]),
        (["--all", "id"], {"all": "true"}, ["id"]),
        (["-all=false", "id"], {"all": "false"}, ["id"]),
        (["--bundle=/b", "id"], {"bundle": "/b"}, ["id"]),
        (["-b", "/b", "id", "--n", "3"], {"bundle": "/b", "n": "3"}, ["id"]),
        (["--", "-a"], {}, ["-a"]),
        (["-"], {}, ["-"]),
    ],
)
def test_options(words, values, rest):
    parsed = parse(words, OPTIONS)
    assert (parsed.values, parsed.words) == (values, rest)


def test_options_end_at_the_first_word_where_a_command_follows():
    parsed = parse(["-e", "A=b", "-e", "C", "id", "sh", "-a"], OPTIONS, interspersed=False)
    assert parsed.many("env") == ["A=b", "C"]
    assert parsed.words == ["id", "sh", "-a"]
    assert not parsed.flag("all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nosuch"], "flag provided but not defined: --nosuch"),
        (["--bundle"], "flag needs an argument: --bundle"),
        (["--all=maybe"], "neither true nor false"),
        (["--n", "x"], "'x' is no number"),
    ],
)
def test_bad_options(words, message):
    with pytest.raises(UsageError, match=message):
        parse(words, OPTIONS)


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("RTMAX", 64)]
)
def test_signals(text, number):
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["65", "NOSIG", "", "-9"])
def test_no_signals(text):
    with pytest.raises(UsageError):
        signal_number(text)


SLOW = {
    *("argparse", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib"),
    *("json", "logging", "pathlib", "re", "shutil", "signal", "socket", "subprocess", "typing"),
}


@pytest.mark.parametrize("verb", ["create", "start", "run", "exec", "kill", "delete", "state"])
def test_a_verb_imports_nothing_slow(verb, project):
    code = "import sys; sys.path.append(sys.argv[1]); import runtime.command.main; "
    code += f"import runtime.command.{verb}, runtime.command.foreground; print(*sys.modules)"
    out = subprocess.run(
        [interpreter(), "-I", "-S", "-c", code, str(project)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not SLOW.intersection(out.split())
    assert sys.version_info >= (3, 11)
