"""The part of Go's templates that is understood, and that the rest is refused."""

import pytest

from pybuild.cli.listing import listing
from pybuild.cli.template import Template
from pybuild.errors import NotSupported, UsageError

IMAGE = {
    "Id": "sha256:12",
    "RepoTags": ["a:1", "b:2"],
    "Config": {"Env": ["A=1"], "Labels": {"k": "v"}, "Cmd": None},
    "Size": 12,
    "Empty": [],
    "Yes": True,
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
        ("{{index .RepoTags 7}}", UsageError, "index .RepoTags 7"),
        ("{{printf .Id}}", NotSupported, 'function "printf": not supported yet'),
        ("{{with .Id}}{{end}}", NotSupported, "not supported yet"),
        ("{{- .Id}}", NotSupported, "not supported yet"),
        ("{{$x := .Id}}", NotSupported, "not supported yet"),
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
