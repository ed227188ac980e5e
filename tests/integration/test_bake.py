"""`pybuild bake`: targets of a bake file, for real."""

import json
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM busybox:test AS base
RUN echo shared > /shared
FROM base AS one
ARG WHO=nobody
RUN echo $WHO > /who
FROM base AS two
LABEL two=2
"""
FILE = {
    "variable": {"WHO": {"default": "file"}},
    "group": {"default": {"targets": ["one", "two"]}},
    "target": {
        "_common": {"labels": {"from": "bake"}, "network": "none"},
        "one": {
            "inherits": ["_common"],
            "target": "one",
            "tags": ["x/one:1"],
            "args": {"WHO": "${WHO}"},
        },
        "two": {"inherits": ["_common"], "target": "two", "tags": ["x/two:1"]},
        "top": {
            "contexts": {"below": "target:two"},
            "dockerfile-inline": "FROM below\nRUN cat /shared > /copy\n",
            "tags": ["x/top:1"],
        },
    },
}


@pytest.fixture
def project(context: Path) -> Path:
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "docker-bake.json").write_text(json.dumps(FILE))
    return context


def config_of(pybuild, name: str) -> dict[str, object]:
    found = json.loads(pybuild("inspect", "-f", "{{json .Config}}", name).stdout)
    assert isinstance(found, dict)
    return found


def test_targets_are_built_in_one_run(
    pybuild, busybox_image, project: Path, tmp_path: Path
) -> None:
    metadata = tmp_path / "metadata.json"
    words = ["--metadata-file", metadata, "--set", "*.labels.more=yes"]
    done = pybuild("bake", *words, cwd=project, env={"WHO": "env"})
    assert done.stdout == ""
    assert done.stderr.count("RUN echo shared") == 1, done.stderr
    assert "[one base 2/2] RUN echo shared > /shared" in done.stderr
    assert pybuild.image_names() == {"busybox:test", "x/one:1", "x/two:1"}
    assert pybuild("run", "--rm", "x/one:1", "cat", "/who", "/shared").stdout == "env\nshared\n"
    labels = {"from": "bake", "more": "yes"}
    assert config_of(pybuild, "x/one:1")["Labels"] == labels
    assert config_of(pybuild, "x/two:1")["Labels"] == {**labels, "two": "2"}
    said = json.loads(metadata.read_text())
    assert {name: each["image.name"] for name, each in said.items()} == {
        "one": "docker.io/x/one:1",
        "two": "docker.io/x/two:1",
    }
    # A build by itself takes what the targets left in the cache.
    alone = pybuild("build", "--target", "two", "--network", "none", project)
    assert "RUN echo shared > /shared\n#" in alone.stderr
    assert alone.stderr.count("CACHED") >= 1


def test_a_target_on_another_of_the_same_file(pybuild, busybox_image, project: Path) -> None:
    pybuild("bake", "top", cwd=project)
    assert pybuild.image_names() == {"busybox:test", "x/top:1"}, "what it stands on is no image"
    assert pybuild("run", "--rm", "x/top:1", "cat", "/copy").stdout == "shared\n"
    assert config_of(pybuild, "x/top:1")["Labels"] == {"two": "2"}


def test_outputs_of_targets(pybuild, busybox_image, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pybuild("bake", "one", "--set", f"one.output=type=local,dest={out}", cwd=project)
    assert (out / "who").read_text() == "file\n"
    assert pybuild.image_names() == {"busybox:test"}


def test_every_failure_is_told(pybuild, busybox_image, project: Path) -> None:
    words = ["--set", "one.target=none", "--set", "two.dockerfile=nowhere", "--progress=plain"]
    done = pybuild("bake", *words, cwd=project, check=False)
    assert done.returncode == 1
    assert 'error: target one: target stage "none" could not be found\n' in done.stderr
    assert "error: target two: read Dockerfile ./nowhere: no such file or directory" in done.stderr
    inline = "FROM busybox:test\\nRUN echo told; exit 7"
    failing = {"target": {"bad": {"dockerfile-inline": inline.replace("\\n", "\n")}}}
    (project / "bad.json").write_text(json.dumps(failing))
    done = pybuild("bake", "-f", "bad.json", "bad", cwd=project, check=False)
    assert done.returncode == 1
    assert "target bad: Dockerfile:2: process" in done.stderr
    assert pybuild("builds", "ls", "-n", "1", "--format", "{{.Name}}").stdout == "bad\n"
    assert "exit code: 7" in done.stderr


def test_questions(pybuild, busybox_image, project: Path) -> None:
    (project / "Dockerfile").write_text(DOCKERFILE + "from base\n")
    done = pybuild("bake", "--check", "one", "two", cwd=project, check=False)
    assert done.returncode == 1
    parts = done.stdout.split("\ntwo\n")
    assert parts[0].startswith("one\n\nCheck complete, ")
    assert all("ConsistentInstructionCasing" in part for part in parts)
    done = pybuild("bake", "--call=outline,format=json", "one", cwd=project)
    answer = json.loads(done.stdout)["target"]["one"]
    assert answer["build"]["tags"] == ["x/one:1"]
    assert [arg["name"] for arg in answer["outline"]["args"]] == ["WHO"]
    assert pybuild.image_names() == {"busybox:test"}


def test_a_signal_ends_all_targets(pybuild, busybox_image, project: Path) -> None:
    text = "FROM busybox:test\nRUN echo started && sleep 600"
    targets = {name: {"dockerfile-inline": f"{text} # {name}\n"} for name in ("a", "b")}
    (project / "long.json").write_text(json.dumps({"target": targets}))
    build = pybuild.start("bake", "-f", "long.json", "--progress=plain", "a", "b", cwd=project)
    assert build.stderr is not None
    seen = 0
    for line in build.stderr:
        seen += line.endswith(b" started\n")
        if seen == 2:
            break
    build.send_signal(signal.SIGINT)
    build.communicate(timeout=60)
    assert build.returncode == 130
    listed = pybuild("builds", "ls", "--format", "{{.Status}}").stdout.split()
    assert listed == ["cancelled", "cancelled"]
