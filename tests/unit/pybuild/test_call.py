"""--check and --call: what is asked, and how it is answered. Needs neither root nor a network."""

import base64
import json
from pathlib import Path

import pytest

from pybuild.cli.build import SYNTAX
from pybuild.cli.call import Call, call_of
from pybuild.cli.main import run as run_words
from pybuild.cli.options import parse
from pybuild.errors import NotSupported, UsageError


def call(*words: str) -> Call | None:
    return call_of(parse(SYNTAX, [*words, "."]), SYNTAX)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--call=build"], None),
        (["--check=false"], None),
        (["--check"], Call("check")),
        (["--call", "check"], Call("check")),
        (["--call=lint"], Call("check")),
        (["--check", "--call=check,format=json"], Call("check", is_json=True)),
        (["--call=outline,format=json"], Call("outline", is_json=True)),
        (["--call=targets,format=text"], Call("targets")),
        (["--call=subrequests.describe"], Call("subrequests.describe")),
        (["--call=check,ignorestatus"], Call("check", ignores_status=True)),
        (["--call=check,format=json,ignorestatus=true"], Call("check", True, True)),
        (["--call=check,ignorestatus=false"], Call("check")),
    ],
)
def test_what_is_asked(words: list[str], expected: Call | None) -> None:
    assert call(*words) == expected


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--call=lnt"], UsageError, '"lnt" is none of build, check, outline, targets'),
        (["--call=check,format=xml"], UsageError, '"format=xml" is neither'),
        (["--check", "--call=outline"], UsageError, "contradict"),
        (["--call=convertllb"], NotSupported, "not supported yet"),
    ],
)
def test_what_cannot_be_asked(words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(*words)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def run(context: Path, text: str, *words: str) -> int:
    (context / "Dockerfile").write_text(text)
    return run_words(["build", *words, str(context)])


CLEAN = 'FROM scratch AS base\nCOPY Dockerfile /\nCMD ["/x"]\n'
BROKEN = "FROM scratch AS base\nENV old \\\n  value\nCMD x\n"


def test_nothing_found(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, CLEAN, "--check") == 0
    assert capsys.readouterr() == ("Check complete, no warnings found.\n", "")


def test_what_is_found_with_its_lines(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, BROKEN, "--check") == 1
    assert (
        capsys.readouterr().out
        == """\
Check complete, 2 warnings have been found!

WARNING: LegacyKeyValueFormat - docs/lint/LegacyKeyValueFormat.md
"ENV key=value" should be used instead of legacy "ENV key value" format
Dockerfile:2
--------------------
   1 |     FROM scratch AS base
   2 | >>> ENV old \\
   3 | >>>   value
   4 |     CMD x
--------------------

WARNING: JSONArgsRecommended - docs/lint/JSONArgsRecommended.md
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:4
--------------------
   2 |     ENV old \\
   3 |       value
   4 | >>> CMD x
--------------------
"""
    )


def test_the_status_may_be_ignored(context: Path) -> None:
    assert run(context, BROKEN, "--call=check,ignorestatus") == 0


def test_a_check_as_json(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, BROKEN, "--call=check,format=json") == 1
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"warnings", "sources"}
    assert found["warnings"][0] == {
        "ruleName": "LegacyKeyValueFormat",
        "description": "Legacy key/value format with whitespace separator should not be used",
        "page": "docs/lint/LegacyKeyValueFormat.md",
        "detail": '"ENV key=value" should be used instead of legacy "ENV key value" format',
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 3}}]},
    }
    source = found["sources"][0]
    assert (source["filename"], source["language"]) == ("Dockerfile", "Dockerfile")
    assert base64.b64decode(source["data"]).decode() == BROKEN


def test_error_true_is_an_error_behind_the_list(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(context, "# check=error=true\n" + BROKEN, "--call=check,ignorestatus") == 1
    out, err = capsys.readouterr()
    assert out.startswith("Check complete, 2 warnings have been found!\n")
    rules = "JSONArgsRecommended, LegacyKeyValueFormat"
    assert err.splitlines()[0] == f"error: lint violation found for rules: {rules}"
    assert run(context, "# check=error=true\n" + CLEAN, "--check") == 0


def test_why_a_build_would_fail_is_said_too(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "FROM scratch AS Base\nEXPOSE http\nFROM base AS second\nENV a b\n"
    assert run(context, text, "--call=check,format=json") == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [warning["ruleName"] for warning in found["warnings"]] == ["StageNameCasing"]
    assert found["buildError"]["message"].startswith("Dockerfile:2: invalid containerPort")
    assert found["buildError"]["location"]["ranges"][0]["start"] == {"line": 2}
    assert err.count("error: ") == 1  # the second stage is broken by the first one
    assert run(context, text, "--check", "--target", "nothing") == 1
    assert "error: target stage" in capsys.readouterr().err


def test_what_is_no_dockerfile(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, "FROM scratch\nRUM x\n", "--call=check,format=json") == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["warnings"] == []
    assert "unknown instruction" in found["buildError"]["message"]
    assert found["buildError"]["location"]["ranges"][0]["start"] == {"line": 2}
    assert "Dockerfile:2" in err
    assert run(context, "FROM scratch\nRUM x\n", "--check") == 1
    assert capsys.readouterr().out == ""


def test_only_the_target_is_looked_at(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "FROM scratch AS a\nENV old value\nFROM scratch AS b\n"
    assert run(context, text, "--check") == 1
    assert run(context, text, "--check", "--target=b") == 0
    assert capsys.readouterr().out.endswith("Check complete, no warnings found.\n")


def test_what_can_be_asked(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, CLEAN, "--call=subrequests.describe") == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["NAME", "VERSION", "DESCRIPTION"]
    names = [row[0] for row in table[1:]]
    assert names == ["outline", "targets", "lint", "subrequests.describe"]
    for name in names:
        assert call(f"--call={name}") is not None
    assert run(context, CLEAN, "--call=subrequests.describe,format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in found] == [f"frontend.{name}" for name in names]
    assert found[0]["opts"] == [{"name": "target", "description": "Target build stage"}]
    assert {item["type"] for item in found} == {"rpc"}


def test_the_ignore_file_counts(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (context / ".dockerignore").write_text("Dockerfile\n")
    assert run(context, CLEAN, "--check") == 1
    assert 'Attempting to Copy file "Dockerfile"' in capsys.readouterr().out


def test_a_base_that_nobody_can_ask_for(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "FROM localhost:9/absent:1\nENV PATH=$JAVA_HOME/bin:$PATH\nCMD x\n"
    assert run(context, text, "--check") == 1
    out, err = capsys.readouterr()
    assert "1 warning has been found" in out
    assert "JSONArgsRecommended" in out
    assert err.startswith("note: localhost:9/absent:1 is neither here nor reachable")


def test_nothing_is_built(context: Path) -> None:
    run(context, CLEAN, "--check")
    assert not list((context.parent / "store" / "layers").glob("sha256/*"))


FILE = """\
# VERSION of all
ARG VERSION=1
# base is the base
FROM alpine:$VERSION AS base
FROM --platform=$BUILDPLATFORM base
RUN --mount=type=secret,id=key,required --mount=type=ssh true
"""


def test_targets(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, FILE, "--call=targets") == 0
    assert capsys.readouterr().out == (
        "TARGET      BASE              PLATFORM         DESCRIPTION\n"
        "base        alpine:$VERSION                    is the base\n"
        "(default)   base              $BUILDPLATFORM\n"
    )


def test_targets_as_json(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, FILE, "--call=targets,format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["targets"] == [
        {
            "name": "base",
            "description": "is the base",
            "base": "alpine:$VERSION",
            "location": {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]},
        },
        {
            "default": True,
            "base": "base",
            "platform": "$BUILDPLATFORM",
            "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]},
        },
    ]
    assert base64.b64decode(found["sources"][0]).decode() == FILE


def test_an_outline(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, FILE, "--call=outline") == 0
    assert capsys.readouterr().out == (
        "BUILD ARG   VALUE   DESCRIPTION\n"
        "VERSION     1       of all\n"
        "\n"
        "SECRET   REQUIRED\n"
        "key      true\n"
        "\n"
        "SSH       REQUIRED\n"
        "default\n"
    )
    assert run(context, FILE, "--call=outline", "--target=base") == 0
    assert capsys.readouterr().out == (
        "TARGET:        base\n"
        "DESCRIPTION:   is the base\n"
        "\n"
        "BUILD ARG   VALUE   DESCRIPTION\n"
        "VERSION     1       of all\n"
    )


def test_an_outline_of_nothing(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, "FROM scratch\nCOPY a /\n", "--call=outline") == 0
    assert capsys.readouterr().out == ""


def test_an_outline_as_json(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(context, FILE, "--call=outline,format=json", "--build-arg=VERSION=2") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["args"] == [
        {
            "name": "VERSION",
            "description": "of all",
            "value": "2",
            "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
        }
    ]
    where = {"ranges": [{"start": {"line": 6}, "end": {"line": 6}}]}
    assert found["secrets"] == [{"name": "key", "required": True, "location": where}]
    assert found["ssh"] == [{"name": "default", "location": where}]
