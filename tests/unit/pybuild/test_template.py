"""The part of Go's templates that is understood, and that the rest is refused."""

import pytest

from pybuild.cli.listing import listing
from pybuild.cli.template import Template
from pybuild.cli.templatefunctions import NIL_LIST, NIL_MAP, Struct
from pybuild.errors import NotSupported, UsageError

IMAGE = {
    "Id": "sha256:12",
    "RepoTags": ["a:1", "b:2"],
    "Config": {"Env": ["A=1"], "Labels": {"k": "v"}, "Cmd": None},
    "Size": 12,
    "Empty": [],
    "Yes": True,
    "Fields": Struct(
        {"Free": Struct({}, free=True)}, {"Left": "", "List": NIL_LIST, "Map": NIL_MAP}
    ),
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "sha256:12"),
        ("{{ .Id }}:{{.Size}}", "sha256:12:12"),
        ("{{.RepoTags}}", "[a:1 b:2]"),
        ("{{.Config.Labels}}", "map[k:v]"),
        ("{{json .Config}}", '{"Env":["A=1"],"Labels":{"k":"v"},"Cmd":null}'),
        ("{{json .}}", None),
        ("{{index .RepoTags 1}}", "b:2"),
        ('{{index .Config.Labels "k"}}', "v"),
        ('{{index .Config.Labels "absent"}}', ""),
        ("{{len .RepoTags}}", "2"),
        ('{{join .RepoTags ","}}', "a:1,b:2"),
        ("{{upper .Id}}", "SHA256:12"),
        ("{{.Id | upper | lower}}", "sha256:12"),
        ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .RepoTags}}{{println .}}{{end}}", "a:1\nb:2\n"),
        ("{{if .Yes}}y{{else}}n{{end}}{{if .Empty}}y{{else}}n{{end}}", "yn"),
        ("{{.Config.Cmd}}", "<no value>"),
        (r"{{.Id}}\t{{.Size}}", "sha256:12\t12"),
        ("{{.Yes}}", "true"),
        ('{{printf "%.6s|%-4s|%3d|%q|%%" .Id "a" 7 "b"}}', 'sha256|a   |  7|"b"|%'),
        ("{{slice .Id 7}}{{slice .Id 0 3}}", "12sha"),
        ('{{with .Config.Labels}}{{index . "k"}}{{else}}none{{end}}', "v"),
        ("{{with .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "k=v;"),
        ("{{range $i, $e := .RepoTags}}{{if $i}},{{end}}{{$e}}{{end}}", "a:1,b:2"),
        ("{{$x := .Id}}{{range .RepoTags}}{{$x}}{{$.Size}} {{end}}", "sha256:1212 sha256:1212 "),
        ('{{$n := ""}}{{range .RepoTags}}{{$n = .}}{{end}}{{$n}}', "b:2"),
        ("a {{- .Size -}} b", "a12b"),
        ("{{/* nothing */}}x{{- /* too */ -}} y", "xy"),
        (
            "{{if .Size}}y{{end}}{{if and .Yes (not .Empty)}}z{{end}}{{if or .Empty 0}}n{{end}}",
            "yz",
        ),
        ("{{if gt (len .RepoTags) 1}}many{{else if .Yes}}one{{end}}", "many"),
        ("{{if .Empty}}a{{else if eq .Size 12}}b{{else}}c{{end}}", "b"),
        ('{{range split "a,b" ","}}<{{.}}>{{end}}', "<a><b>"),
        ('{{range .RepoTags}}{{if eq . "b:2"}}{{break}}{{end}}{{.}}{{end}}', "a:1"),
        ('{{(index .RepoTags 0) | printf "%s!"}}', "a:1!"),
        ('{{range .RepoTags}}{{.}}{{"\\n"}}{{end}}', "a:1\nb:2\n"),
        ("{{truncate .Id 3}}{{pad .Id 1 1}}", "sha sha256:12 "),
        (
            "{{.Fields.Left}}|{{json .Fields.List}}|{{.Fields.List}}|{{.Fields.Map}}",
            "|null|[]|map[]",
        ),
        ('{{.Fields.Map.x}}{{index .Fields.Map "x"}}{{.Fields.Free.any}}', ""),
    ],
)
def test_what_is_understood(template: str, text: str | None) -> None:
    rendered = Template(template).render(IMAGE)
    if text is not None:
        assert rendered == text


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{{.Nothing}}", UsageError, "there is no field Nothing"),
        ("{{.Id.x}}", UsageError, "there is no field x"),
        ("{{range .RepoTags}}", UsageError, "{{end}} is missing"),
        ("{{end}}", UsageError, "unexpected {{end}}"),
        ("{{}}", UsageError, "{{}} is empty"),
        ("x {{", UsageError, "unclosed action"),
        ("{{.Id}} {{.Id", UsageError, "{{.Id: unclosed action"),
        ("{{index .RepoTags 7}}", UsageError, "index .RepoTags 7"),
        ("{{nosuch .Id}}", UsageError, 'function "nosuch" not defined'),
        ('{{template "x"}}', NotSupported, "not supported yet"),
        ("{{$y}}", UsageError, "undefined variable"),
        ("{{.Id |}}", UsageError, "a pipe leads nowhere"),
        ("{{len (.Id}}", UsageError, "a parenthesis is not closed"),
        ("{{.Fields.Bogus}}", UsageError, "there is no field Bogus"),
        ("{{len .Size}}", UsageError, "len of 12"),
    ],
)
def test_the_rest_is_refused(template: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("{", r"\{")):
        Template(template).render(IMAGE)


ROWS = [{"ID": "1", "Name": "one"}, {"ID": "2", "Name": "two"}]
COLUMNS = {"Name": "NAME", "ID": "THE ID"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (None, "NAME   THE ID\none    1\ntwo    2\n"),
        ("table", "NAME   THE ID\none    1\ntwo    2\n"),
        ("json", '{"ID":"1","Name":"one"}\n{"ID":"2","Name":"two"}\n'),
        ("{{.ID}}", "1\n2\n"),
        (r"table {{.ID}}\t{{.Name}}", "THE ID   NAME\n1        one\n2        two\n"),
    ],
)
def test_listings(form: str | None, text: str) -> None:
    assert listing(ROWS, COLUMNS, form) == text
