"""The tables of testdata/bake: what bake files come to, what is wrong in them, expressions."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from pybuild.bake.definitions import Definitions
from pybuild.bake.evaluate import Evaluator
from pybuild.bake.functions.table import FUNCTIONS, LATER, LAZY
from pybuild.bake.functions.text import encoded
from pybuild.bake.hclfile import parse_expression, parse_hcl
from pybuild.bake.requests import Given, requests_of
from pybuild.bake.syntax import Place
from pybuild.bake.target import KEYS, Target
from pybuild.cli.main import run
from pybuild.errors import BakeError

TESTDATA = Path(__file__).parents[4] / "testdata/bake"
PRINTED = tomllib.loads((TESTDATA / "print.toml").read_text())["case"]
WRONG = tomllib.loads((TESTDATA / "errors.toml").read_text())["case"]
EXPRESSIONS = tomllib.loads((TESTDATA / "expressions.toml").read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("BUILDX_", "SOURCE_DATE")):
            monkeypatch.delenv(name)
    return tmp_path


def need_packages_of(*names: str) -> None:
    """Skip a test whose files need what is not installed: it is optional."""
    if any(name.endswith(".hcl") for name in names):
        need("hcl2")
    if any(name.endswith((".yml", ".yaml")) for name in names):
        need("yaml")


def need(module: str) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip(module)


def bake(case, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    need_packages_of(*case.get("files", {}))
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(text)
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, value)
    return run(["bake", *more, *case.get("words", ())])


@pytest.mark.parametrize("case", PRINTED, ids=lambda case: case["name"])
def test_print(case, folder: Path, monkeypatch, capsys) -> None:
    assert set(case) <= {"name", "cites", "words", "env", "files", "group", "target"}
    code = bake(case, folder, monkeypatch, "--print")
    out, err = capsys.readouterr()
    assert code == 0, err
    document = json.loads(out)
    assert document["target"] == case["target"]
    if "group" in case:
        assert document["group"] == case["group"]
    # Keys come in buildx's order: as its structure has them, names of targets sorted.
    assert list(document["target"]) == sorted(document["target"])
    for target in document["target"].values():
        assert list(target) == [key for key in KEYS if key in target]


def test_what_is_printed_means_the_same_again(folder: Path, monkeypatch, capsys) -> None:
    need_packages_of("x.hcl", "x.yaml")
    for number, case in enumerate(PRINTED):
        here = folder / str(number)
        here.mkdir()
        monkeypatch.chdir(here)
        bake(case, here, monkeypatch, "--print")
        first = capsys.readouterr().out
        for name in case["files"]:
            (here / name).unlink()
        (here / "docker-bake.json").write_text(first)
        assert run(["bake", "--print"]) == 0
        second = json.loads(capsys.readouterr().out)
        assert second["target"] == json.loads(first)["target"], case["name"]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["name"])
def test_errors(case, folder: Path, monkeypatch, capsys) -> None:
    assert set(case) <= {"name", "words", "env", "files", "error", "hint", "code"}
    more = [] if "--list" in case.get("words", ()) else ["--print"]
    assert bake(case, folder, monkeypatch, *more) == case.get("code", 1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == f"error: {case['error']}"
    if "hint" in case:
        assert lines[1:] == [f"hint: {case['hint']}"]


def value_of(text: str) -> object:
    need("hcl2")
    evaluator = Evaluator(Definitions([], {}.get, {}))
    return evaluator.value(parse_expression(text, Place("x.hcl", "3")))


@pytest.mark.parametrize("text", EXPRESSIONS["values"])
def test_values(text: str) -> None:
    assert encoded(value_of(text)) == EXPRESSIONS["values"][text]


@pytest.mark.parametrize("text", EXPRESSIONS["errors"])
def test_wrong_expressions(text: str) -> None:
    with pytest.raises(BakeError) as caught:
        value_of(text)
    assert str(caught.value) == f"x.hcl:3: {EXPRESSIONS['errors'][text]}"


def test_every_function_has_a_case() -> None:
    tried = " ".join(EXPRESSIONS["values"])
    assert [name for name in (*FUNCTIONS, *LAZY) if f"{name}(" not in tried] == []
    assert not set(LATER) & set(FUNCTIONS)


LISTED = """\
group "default" {
  targets = ["db", "app"]
  description = "both"
}
target "app" { description = "the app" }
target "db" {}
target "_hidden" {}
variable "C" {
  default = 1
  description = "the c"
}
variable "A" {}
variable "B" {
  type = list(string)
  default = ["x"]
}
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["targets"],
            [["TARGET", "DESCRIPTION"], ["app", "the app"], ["db"], ["default", "both (app, db)"]],
        ),
        (
            ["variables"],
            [
                ["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"],
                ["A"],
                ["B", "list(string)", '["x"]'],
                ["C", "1", "the c"],
            ],
        ),
    ],
)
def test_list(words: list[str], expected: list[list[str]], folder: Path, capsys) -> None:
    need("hcl2")
    (folder / "docker-bake.hcl").write_text(LISTED)
    assert run(["bake", "--list", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r" {2,}", line.strip()) for line in lines] == expected


def test_list_for_programs(folder: Path, capsys) -> None:
    need("hcl2")
    (folder / "docker-bake.hcl").write_text(LISTED)
    assert run(["bake", "--list", "type=targets,format=json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "app", "description": "the app"},
        {"name": "db"},
        {"name": "default", "description": "both (app, db)", "group": True},
    ]


def test_json_is_escaped_as_go_does(folder: Path, capsys) -> None:
    (folder / "docker-bake.json").write_text('{"target": {"default": {"args": {"A": "<&>"}}}}')
    assert run(["bake", "--print"]) == 0
    assert '"A": "\\u003c\\u0026\\u003e"' in capsys.readouterr().out


CALLS = '{"target": {"default": {"tags": ["${upper(\\"a\\")}"]}}}'


@pytest.mark.parametrize(
    ("name", "text", "module", "package"),
    [
        ("docker-bake.hcl", 'target "default" {}', "hcl2", "python-hcl2"),
        ("docker-bake.json", CALLS, "hcl2", "python-hcl2"),
        ("compose.yaml", "services: {}", "yaml", "PyYAML"),
    ],
)  # fmt: skip
def test_packages_that_are_not_there(
    name, text, module, package, folder: Path, monkeypatch, capsys
) -> None:
    (folder / name).write_text(text)
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["bake", "--print"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {name}: the package {package} is not installed\n")
    assert "pip install 'pybuild[bake]'" in err


def test_names_in_json_need_no_package(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "hcl2", None)
    (folder / "docker-bake.json").write_text(
        '{"variable": {"A": {"default": "x"}}, "target": {"default": {"tags": ["${ A }-$${A}"]}}}'
    )
    assert run(["bake", "--print"]) == 0
    assert json.loads(capsys.readouterr().out)["target"]["default"]["tags"] == ["x-${A}"]


def test_requests(folder: Path) -> None:
    (folder / "sub").mkdir()
    target = Target("app", {"context": "sub", "dockerfile": "d/Dockerfile"})
    place = Place("x", "1")
    for key, value in {
        "args": {"A": "1", "B": None},
        "labels": {"l": "v"},
        "tags": ["a:1"],
        "target": "stage",
        "contexts": {"c": "cwd://x", "t": "target:other"},
        "platforms": ["linux/amd64", "linux/arm64"],
        "output": ["type=oci,dest=x"],
        "cache-from": ["a:c"],
        "cache-to": ["type=local,dest=c"],
        "secret": ["id=s,src=f", {"id": "e", "env": "E"}],
        "ssh": ["k=/a,/b"],
        "network": "none",
        "no-cache": True,
        "no-cache-filter": ["x"],
        "pull": True,
        "annotations": ["index:a=b"],
        "attest": ["type=provenance,mode=max", "type=sbom,disabled=true"],
        "shm-size": "2m",
        "ulimits": ["nofile=1:2"],
        "extra-hosts": {"h": "1.2.3.4"},
        "entitlements": ["security.insecure"],
    }.items():
        target.set(key, value, place)
    request = requests_of({"app": target}, Given(allow=("security.insecure",)))["app"]
    assert (request.context, request.dockerfile) == ("sub", "sub/d/Dockerfile")
    assert request.contexts == (("c", "x"), ("t", "target:other"))
    assert request.build_args == (("A", "1"),)
    assert (request.labels, request.tags, request.target) == ((("l", "v"),), ("a:1",), "stage")
    assert request.platform == "linux/amd64,linux/arm64"
    assert [(o.type, o.options) for o in request.outputs] == [("oci", (("dest", "x"),))]
    assert [(c.type, c.option("ref")) for c in request.cache_from] == [("registry", "a:c")]
    assert [(c.type, c.option("dest")) for c in request.cache_to] == [("local", "c")]
    assert [(s.id, s.path, s.variable) for s in request.secrets] == [
        ("s", "f", None),
        ("e", None, "E"),
    ]
    assert [(s.id, s.paths) for s in request.ssh] == [("k", ("/a", "/b"))]
    assert (request.network, request.no_cache, request.no_cache_stages) == ("none", True, ("x",))
    assert request.pull
    assert request.annotations == (("index:a", "b"),)
    assert request.provenance is not None
    assert request.provenance.option("mode") == "max"
    assert request.sbom is None
    assert request.sandbox.shm_bytes == 2 << 20
    assert [(u.name, u.soft, u.hard) for u in request.sandbox.ulimits] == [("nofile", 1, 2)]
    assert request.sandbox.extra_hosts == (("h", "1.2.3.4"),)
    assert request.allow == ("security.insecure",)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network", "nowhere", 'network: unknown mode "nowhere"'),
        ("entitlements", ["security.insecure"], "it wants security.insecure, which is not allowed"),
        ("entitlements", ["device"], 'unknown entitlement "device"'),
        ("context", "-", "context from stdin not allowed in bake"),
        ("dockerfile", "-", "dockerfile from stdin not allowed in bake"),
        ("ulimits", ["x=1"], "ulimit: invalid ulimit type: x"),
        ("shm-size", "much", 'shm-size: invalid size: "much"'),
        ("annotations", ["x"], 'annotation: "x" is no key=value'),
        ("extra-hosts", {"h": "nowhere"}, 'add-host: invalid IP address in add-host: "nowhere"'),
    ],
)
def test_requests_that_cannot_be(key: str, value: object, message: str) -> None:
    target = Target("app")
    target.set(key, value, Place("x", "1"))
    with pytest.raises(BakeError) as caught:
        requests_of({"app": target}, Given())
    assert str(caught.value) == f"target app: {message}"


def test_comments_and_line_ends_of_hcl() -> None:
    need("hcl2")
    text = '# a\ntarget "a" { // b\n  tags = ["x"] /* c */\n  args = {\n    A = 1, B = 2\n  }\n}\n'
    body = parse_hcl(text.replace("\n", "\r\n").encode(), "x.hcl")
    assert [(block.type, block.labels) for block in body.blocks] == [("target", ("a",))]
    assert str(body.blocks[0].body.attributes["args"].place) == "x.hcl:4"
