"""Why a step ran: each kind of cause is made by just that change, and read from the answer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

Causes = dict[str, list[str]]

DOCKERFILE = """\
ARG BASE=base:1
FROM $BASE AS web
ARG VERSION=1.2
COPY app /app
RUN echo $VERSION > /version
RUN echo last
"""


@pytest.fixture
def project(pybuild, busybox_image, context: Path) -> Path:
    """Return a context whose build found nothing, and was then built once."""
    pybuild("tag", busybox_image, "base:1")
    (context / "app").mkdir()
    (context / "app" / "main.py").write_text("one\ntwo\nthree\n")
    (context / "app" / "other.py").write_text("1\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    pybuild("build", "-q", "-t", "x", context)
    return context


@pytest.fixture
def why(pybuild, project: Path) -> Callable[..., Causes]:
    """Return what builds the project again and gives the causes of the steps by their texts."""

    def build(*words: str, check: bool = True) -> Causes:
        pybuild("build", "-q", "-t", "x", *words, project, check=check)
        found = json.loads(pybuild("cache", "why", "--format", "json").stdout)
        return {
            step["name"].partition("] ")[2]: [cause["text"] for cause in step["causes"]]
            for step in found["steps"]
        }

    return build


COPY, RUN, LAST = "COPY app /app", "RUN echo $VERSION > /version", "RUN echo last"
AFTER_COPY = ["follows [web 2/4] COPY app /app"]
AFTER_RUN = ["follows [web 3/4] RUN echo $VERSION > /version"]


def test_the_first_build(pybuild, project: Path) -> None:
    shown = pybuild("cache", "why").stdout.splitlines()
    assert shown[0].endswith(f"of {project}/Dockerfile: 3 of 3 steps ran")
    assert [line.split("  ")[-1].strip() for line in shown[2:]] == ["first build of this step"] * 3


def test_nothing_changed(why, pybuild) -> None:
    assert why() == {}
    assert pybuild("cache", "why").stdout.endswith(": 0 of 3 steps ran\n")


def test_a_file_changed(why, project: Path) -> None:
    (project / "app/main.py").write_text("one\ntwo\nthree\nfour\n")
    assert why() == {
        COPY: ["app/main.py changed (lines +1)"],
        RUN: AFTER_COPY,
        LAST: AFTER_RUN,
    }


def test_several_files_changed(why, project: Path) -> None:
    (project / "app/main.py").write_bytes(b"\0")
    (project / "app/new.py").write_text("")
    (project / "app/other.py").unlink()
    assert why()[COPY] == ["app/main.py changed and 2 more"]


def test_a_mode_changed(why, project: Path) -> None:
    (project / "app/main.py").chmod(0o755)
    assert why()[COPY] == ["mode of app/main.py 0644 → 0755"]


def test_an_argument_changed(why) -> None:
    assert why("--build-arg", "VERSION=1.3") == {
        RUN: ["ARG VERSION 1.2 → 1.3"],
        LAST: AFTER_RUN,
    }


def test_a_variable_is_new(why, project: Path) -> None:
    text = DOCKERFILE.replace("COPY", "ENV MODE=a\nCOPY")
    (project / "Dockerfile").write_text(text)
    assert why() == {RUN: ["ENV MODE=a is new"], LAST: AFTER_RUN}


def test_the_base_moved(why, pybuild) -> None:
    old = pybuild("inspect", "-f", "{{.Id}}", "base:1").stdout.strip()
    made = pybuild("build", "-q", "-", input="FROM base:1\nRUN echo > /moved\n").stdout.strip()
    pybuild("tag", made, "base:1")
    assert why() == {
        COPY: [f"FROM base:1 moved {old[:19]} → {made[:19]}"],
        RUN: AFTER_COPY,
        LAST: AFTER_RUN,
    }


def test_an_image_of_two_names_moved_under_one(why, pybuild, project: Path) -> None:
    old = pybuild("inspect", "-f", "{{.Id}}", "base:1").stdout.strip()
    pybuild("tag", "base:1", "twin:1")
    text = "FROM base:1\nRUN echo a > /a\nFROM twin:1 AS web\nRUN echo b > /b\nCOPY --from=0 /a /\n"
    (project / "Dockerfile").write_text(text)
    why()
    made = pybuild("build", "-q", "-", input="FROM base:1\nRUN echo > /moved\n").stdout.strip()
    pybuild("tag", made, "twin:1")
    assert why()["RUN echo b > /b"] == [f"FROM twin:1 moved {old[:19]} → {made[:19]}"]


def test_another_base(why, pybuild) -> None:
    pybuild("build", "-q", "-t", "base:2", "-", input="FROM base:1\nRUN echo > /moved\n")
    causes = why("--build-arg", "BASE=base:2")
    assert causes[COPY] == ['base of stage "web" changed: base:1 → base:2']


def test_the_ignore_file(why, project: Path) -> None:
    (project / ".dockerignore").write_text("app/other*\n")
    causes = why()
    assert causes[COPY] == [".dockerignore now excludes app/other* (app/other.py)"]
    assert causes[RUN] == AFTER_COPY
    (project / "app/main.py").write_text("else\n")
    why()
    (project / ".dockerignore").unlink()
    causes = why()
    assert causes[COPY][0] == ".dockerignore no longer excludes app/other* (app/other.py)"


def test_the_command(why, project: Path) -> None:
    text = DOCKERFILE.replace("echo last", "echo very last")
    (project / "Dockerfile").write_text(text)
    causes = why()
    assert causes == {"RUN echo very last": ['the command changed: "echo last" → "echo very last"']}


def test_user_and_directory(why, project: Path) -> None:
    (project / "Dockerfile").write_text(
        DOCKERFILE.replace("RUN echo last", "USER 5\nRUN echo last")
    )
    assert why() == {LAST: ["USER none → 5"]}


def test_a_flag_of_copy(why, project: Path) -> None:
    (project / "Dockerfile").write_text(DOCKERFILE.replace("COPY app", "COPY --chown=5 app"))
    causes = why()
    assert causes["COPY --chown=5 app /app"] == ["--chown none → 5"]


def test_a_step_that_came_and_went(why, project: Path) -> None:
    text = DOCKERFILE.replace("RUN echo last", "RUN echo between > /b\nRUN echo last")
    (project / "Dockerfile").write_text(text)
    causes = why()
    assert causes["RUN echo between > /b"] == ["first build of this step"]
    assert causes[LAST] == ["follows [web 4/5] RUN echo between > /b"]


def test_a_pruned_record(why, pybuild) -> None:
    pybuild("rmi", "x")
    pybuild("cache", "prune", "-af")
    causes = why()
    for step in (COPY, RUN):
        assert causes[step][0].startswith("its record was pruned ")


def test_no_cache(why) -> None:
    assert set(map(tuple, why("--no-cache").values())) == {("asked for with --no-cache",)}


def test_a_step_that_failed(why, project: Path, pybuild) -> None:
    broken = DOCKERFILE.replace("echo last", "test -e /dev/nothing || exit 7")
    (project / "Dockerfile").write_text(broken)
    causes = why(check=False)
    (text,) = causes["RUN test -e /dev/nothing || exit 7"]
    assert text.startswith("the command changed")
    causes = why(check=False)
    assert causes == {
        "RUN test -e /dev/nothing || exit 7": ["it failed with exit code 7 in the build before"]
    }


def test_files_of_a_stage(why, project: Path) -> None:
    text = DOCKERFILE + "FROM base:1\nCOPY --from=web /version /\n"
    (project / "Dockerfile").write_text(text)
    assert list(why()) == ["COPY --from=web /version /"]
    causes = why("--build-arg", "VERSION=9")
    assert causes[RUN] == ["ARG VERSION 1.2 → 9"]
    assert causes["COPY --from=web /version /"] == [f"follows [web 4/4] {LAST}"]


def test_explain(pybuild, project: Path) -> None:
    (project / "app/main.py").write_text("one\n")
    done = pybuild("build", "-t", "x", "--explain", project)
    assert "app/main.py changed (lines -2)" in done.stderr
    assert "follows [web 2/4] COPY app /app" in done.stderr


def test_one_step(pybuild, project: Path) -> None:
    shown = pybuild("cache", "why", "last", "web 3/4").stdout.splitlines()
    assert len(shown) == 3
    assert "RUN echo $VERSION > /version" in shown[2]
    build = shown[0].split()[1]
    assert pybuild("cache", "why", build[:6]).stdout.splitlines()[0].split()[1] == build
    done = pybuild("cache", "why", "last", "nothing", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f'error: build {build}: no step "nothing"',
    )
    done = pybuild("cache", "why", "zzz", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: no such build: zzz")
