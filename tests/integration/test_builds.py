"""The journal of builds: `builds …`, `build --profile` and `build --budget`."""

import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.cli.main import run as run_words

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM base:1 AS one
RUN printf 'no end \\0\\377'
COPY app /app
FROM base:1
COPY --from=one /app /app
RUN echo out; echo err >&2
"""


@pytest.fixture
def project(pybuild, busybox_image, context: Path) -> Path:
    """Return a context that was built twice as x, the second time with another app."""
    pybuild("tag", busybox_image, "base:1")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "app").write_text("1")
    pybuild("build", "-q", "-t", "x", context)
    (context / "app").write_text("22")
    pybuild("build", "-q", "-t", "x", context)
    return context


@pytest.fixture
def shown(pybuild) -> Callable[..., dict[str, Any]]:
    def show(*words: str) -> dict[str, Any]:
        return dict(json.loads(pybuild("builds", "show", "--format", "json", *words).stdout))

    return show


@pytest.fixture
def running(pybuild, project: Path) -> Iterator[Callable[[], str]]:
    """Return what starts a build that does not end and gives its id when its RUN runs."""
    started = []
    (project / "Dockerfile").write_text("FROM base:1\nRUN echo begun; sleep 1000\n")

    def start() -> str:
        process = pybuild.start("build", "--progress", "plain", project)
        started.append(process)
        for line in process.stderr:
            if line.endswith(b" begun\n"):
                break
        return str(pybuild("builds", "ls", "-q", "-n", "1").stdout.strip())

    start.kill = lambda: (os.killpg(started[-1].pid, signal.SIGKILL), started[-1].wait())  # type: ignore[attr-defined]
    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ids(pybuild, *words: str) -> list[str]:
    return list(pybuild("builds", "ls", "-q", *words).stdout.split())


def test_ls(pybuild, project: Path) -> None:
    head, second, first = pybuild("builds", "ls").stdout.splitlines()
    assert head.split() == ["BUILD", "STATUS", "NAME", "STEPS", "DURATION", "CREATED"]
    assert second.split()[1:6] == ["done", "x", "4", "(1", "cached)"]
    assert first.split()[1:4] == ["done", "x", "4"]
    both = ids(pybuild)
    assert ids(pybuild, "-n", "1") == both[:1]
    assert ids(pybuild, "--filter", f"ref={both[1][:6]}") == both[1:]
    assert ids(pybuild, "--filter", "ref=x:latest", "--filter", "until=0s") == both
    assert ids(pybuild, "--filter", "until=1h") == ids(pybuild, "-f", "status=failed") == []
    assert ids(pybuild, "--filter", "since=1h") == both
    template = pybuild("buildx", "history", "ls", "--format", "{{.ID}} {{.Cached}}/{{.Total}}")
    assert template.stdout.splitlines() == [f"{both[0]} 1/4", f"{both[1]} 0/4"]
    row = json.loads(pybuild("builds", "ls", "--format", "json", "-n1").stdout)
    assert (row["ID"], row["Tags"], row["Status"]) == (both[0], "x", "done")


def test_show(pybuild, project: Path, shown) -> None:
    build = shown()
    assert (build["status"], build["tags"], build["dockerfile"]) == (
        "done",
        ["x"],
        f"{project}/Dockerfile",
    )
    by_name = {step["name"].partition("] ")[2]: step for step in build["steps"]}
    first = by_name["RUN printf 'no end \\0\\377'"]
    assert (first["status"], first["inputs"], first["bases"]) == ("cached", [], ["base:1"])
    assert first["saved_seconds"] > 0
    copied = by_name["COPY app /app"]
    assert (copied["inputs"], copied["bases"], copied["line"]) == ([first["number"]], [], 3)
    assert copied["causes"][0]["text"] == "app changed (lines +1 -1)"
    taken, last = by_name["COPY --from=one /app /app"], by_name["RUN echo out; echo err >&2"]
    assert (taken["inputs"], taken["bases"]) == ([copied["number"]], ["base:1"])
    assert last["log_bytes"] == 8
    assert last["cpu_seconds"] > 0
    assert last["peak_memory_bytes"] > 0
    text = pybuild("buildx", "history", "inspect", build["build"][:8]).stdout
    assert "app changed (lines +1 -1)" in text
    assert "the cache saved" in text
    # Everything cached, from the memo of the whole build: the same inputs.
    pybuild("build", "-q", "-t", "x", project)
    inputs = [(step["status"], step["inputs"], step["bases"]) for step in shown()["steps"]]
    assert inputs == [("cached", step["inputs"], step["bases"]) for step in build["steps"]]


def test_logs(pybuild, project: Path) -> None:
    _, first = ids(pybuild)
    out = pybuild("builds", "logs", first, "printf").stdout
    assert out.encode(errors="surrogateescape") == b"no end \0\xff"
    assert sorted(pybuild("builds", "logs", first, "stage-1 3/3").stdout) == sorted("out\nerr\n")
    whole = pybuild("buildx", "history", "logs", first).stdout
    assert "RUN printf 'no end \\0\\377': done\nno end" in whole
    assert "RUN echo out; echo err >&2: done\n" in whole


def test_compare(pybuild, project: Path) -> None:
    second, first = ids(pybuild)
    found = json.loads(pybuild("builds", "compare", "--format", "json", first, second).stdout)
    assert [field["field"] for field in found["differs"]] == ["image"]
    names = {step["number"]: step["name"] for step in found["second"]["steps"]}
    differs = {names[row["second"]].partition("] ")[2]: row["differs"] for row in found["steps"]}
    assert differs == {
        "RUN printf 'no end \\0\\377'": ["status"],
        "COPY app /app": ["cache key"],
        "COPY --from=one /app /app": ["cache key"],
        "RUN echo out; echo err >&2": ["cache key"],
    }
    text = pybuild("builds", "compare", first, second).stdout
    assert text.split()[:2] == [first, second]
    assert "total, image" in text


def test_rm(pybuild, project: Path) -> None:
    second, first = ids(pybuild)
    logs = pybuild.root / "logs"
    assert (logs / first).is_dir()
    assert pybuild("builds", "rm", first).stdout == f"{first}\n"
    assert not (logs / first).exists()
    assert ids(pybuild) == [second]
    assert pybuild("builds", "rm", "--filter", "until=1h").stdout.startswith("Total")
    assert pybuild("buildx", "history", "rm", "--all").stdout.splitlines()[0] == second
    assert ids(pybuild) == os.listdir(logs) == []


def test_a_build_that_runs_and_one_that_was_killed(pybuild, running, shown) -> None:
    build = running()
    assert ids(pybuild, "--filter", "status=running") == [build]
    # What runs is told while it runs: the step, why, for how long, and what it wrote.
    (step,) = shown()["steps"]
    assert (step["status"], step["ended_ns"], step["log_bytes"]) == ("running", 0, 6)
    assert step["seconds"] > 0
    assert step["causes"]
    row = json.loads(pybuild("builds", "ls", "--format", "json", "-n1").stdout)
    assert (row["Total"], bool(row["Duration"])) == ("1", True)
    assert pybuild("builds", "logs").stdout.endswith(": running\nbegun\n")
    assert "(running)" in pybuild("cache", "why").stdout
    assert "is still running" in pybuild("enter", ":RUN", check=False).stderr
    refused = pybuild("builds", "rm", build, check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"error: build {build}: it is running\nhint: remove it when it has ended\n",
    )
    assert build not in pybuild("builds", "rm", "--all").stdout
    assert ids(pybuild) == [build]
    running.kill()
    assert ids(pybuild, "--filter", "status=killed") == [build]
    (step,) = shown()["steps"]
    assert (step["status"], step["seconds"], step["log_bytes"]) == ("killed", 0, 6)
    assert "(killed)" in pybuild("cache", "why").stdout
    assert 'class="pill killed">killed' in pybuild("builds", "report", "-o", "-").stdout
    assert pybuild("builds", "rm", build).stdout == f"{build}\n"


def test_what_is_not_there_is_one_clear_error(pybuild, project: Path) -> None:
    second, _ = ids(pybuild)

    def error(*words: str) -> str:
        done = pybuild("builds", *words, check=False)
        assert done.returncode == 1, done
        return str(done.stderr)

    hint = "hint: `pybuild builds ls` lists the builds\n"
    for verb in ("show", "logs", "rm"):
        assert error(verb, "nope") == f"error: no such build: nope\n{hint}"
    assert error("compare", "nope", "last") == f"error: no such build: nope\n{hint}"
    assert error("logs", "last", "nope").startswith(f'error: build {second}: no step "nope"\n')
    assert error("logs", "last", "RUN").startswith(f'error: build {second}: "RUN" means 2 steps\n')
    for path in (pybuild.root / "logs" / second).iterdir():
        path.unlink()
    assert " is gone\nhint: " in error("logs", "last", "echo out")
    assert "(its log is gone)\n" in pybuild("builds", "logs").stdout
    assert error("ls", "--filter", "status=odd").startswith("error: invalid filter 'status=odd'\n")
    assert error("ls", "--filter", "since=odd").startswith("error: invalid filter 'since=odd'\n")


def change(pybuild, statement: str, *values: object) -> None:
    db = sqlite3.connect(pybuild.root / "records.db")
    with db:
        db.execute(statement, values)
    db.close()


def test_what_is_damaged_stops_nothing(pybuild, project: Path) -> None:
    second, first = ids(pybuild)

    def warning(build: str) -> str:
        told = f"build {build}: its record in the journal is damaged"
        return f"warning: {told} (hint: pybuild builds rm {build} removes it)\n"

    change(pybuild, "UPDATE steps SET details = '{' WHERE build_id = ?", second)
    change(pybuild, "UPDATE builds SET context = CAST(x'ff' AS TEXT) WHERE build_id = ?", first)
    change(pybuild, "UPDATE records SET ingredients = '[' WHERE title LIKE 'COPY app%'")
    listed = pybuild("builds", "ls", "-q")
    assert (listed.stdout, listed.stderr) == (f"{second}\n", warning(first))
    shown = pybuild("builds", "show", second)
    assert (shown.stderr, "RUN" in shown.stdout) == (warning(second), False)
    wrong = pybuild("builds", "show", first, check=False)
    assert wrong.stderr.startswith(f"error: build {first}: its record in the journal is damaged\n")
    # A build runs what only the damaged record knew, and says why in spite of the others.
    (project / "Dockerfile").write_text(DOCKERFILE.replace("echo out", "echo OUT"))
    built = pybuild("build", "--progress", "plain", "-t", "x", project)
    assert "[stage-1 3/3] RUN echo OUT" in built.stderr
    warned = re.findall(r"^warning: (build \S+|build record sha256):", built.stderr, re.M)
    assert sorted(warned) == sorted((f"build {first}", f"build {second}", "build record sha256"))
    dropped = pybuild("cache", "verify", check=False).stdout
    assert dropped.count(": dropped\n") == 1, dropped  # the other was made anew
    assert sorted(pybuild("builds", "rm", first, second).stdout.split()) == sorted((first, second))
    clean = pybuild("build", "-t", "x", project), pybuild("builds", "ls")
    assert "damaged" not in clean[0].stderr + clean[1].stderr


def test_profile(pybuild, project: Path) -> None:
    (project / "app").write_text("333")
    done = pybuild("build", "-q", "--profile", "-t", "x", project)
    head, *rows, total, saved = done.stderr.splitlines()
    assert head.split() == ["STEP", "STATUS", "WALL", "CPU", "PEAK", "MEMORY", "ADDED"]
    assert ["cached (" in row for row in rows] == [True, False, False, False]
    assert total.split()[:5] == ["total", "3", "ran,", "1", "cached"]
    assert saved.startswith("the cache saved ")
    # A build that failed has one too.
    (project / "Dockerfile").write_text("FROM base:1\nRUN exit 3\n")
    failed = pybuild("build", "-q", "--profile", project, check=False)
    assert failed.returncode == 1
    assert "RUN exit 3   failed" in failed.stderr


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("image=1kB", "image: "),
        ("step=1ms", "step [stage-1 3/3] RUN echo out; echo err >&2: "),
        ("total=1ms", "total: "),
    ],
)
def test_a_budget_that_is_exceeded(pybuild, project: Path, limits: str, said: str) -> None:
    before = pybuild("images", "-aq", "--no-trunc").stdout, pybuild.image_names()
    (project / "app").write_text("4444")
    failed = pybuild("build", "-q", "--budget", limits, "-t", "x", "-t", "y", project, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: budget exceeded: ")
    assert said in failed.stderr
    assert " above 1000B\n" in failed.stderr or " above 0.001s" in failed.stderr
    assert (pybuild("images", "-aq", "--no-trunc").stdout, pybuild.image_names()) == before
    assert pybuild("builds", "ls", "-n1", "--format", "{{.Status}}").stdout == "failed\n"
    pybuild("build", "-q", "--budget", "image=1GiB,step=10m", "--budget", "total=1h", project)


def test_a_budget_counts_where_nothing_changed(pybuild, project: Path) -> None:
    pybuild("build", "-q", "-t", "x", project)
    failed = pybuild("build", "-q", "--budget", "image=1kB", "-t", "y", project, check=False)
    assert failed.returncode == 1
    assert "docker.io/library/y:latest" not in pybuild.image_names()
    assert "y:latest" not in pybuild.image_names()
    # A cached step takes no time.
    pybuild("build", "-q", "--budget", "step=0s,image=10MB", "-t", "y", project)
    assert "y:latest" in pybuild.image_names()


def test_a_store_that_is_not_there(pybuild, tmp_path: Path) -> None:
    empty = ("--root", tmp_path / "none", "builds")
    assert pybuild(*empty, "ls").stdout.split()[0] == "BUILD"
    assert pybuild(*empty, "ls", "-q").stdout == ""
    for verb in ("show", "logs"):
        failed = pybuild(*empty, verb, check=False)
        assert failed.stderr.startswith("error: there is no build in the journal\n")
    assert not (tmp_path / "none").exists()


# What needs nothing but what is in a store, and its exit code where there is none.
NOTHING_MADE = """
0 images | 0 ps -a | 0 info | 0 cache ls | 0 cache du | 1 cache show abc | 0 cache prune -f
0 cache verify | 1 cache why | 0 cache mounts ls | 1 cache mounts rm x | 1 cache mounts export x
1 builds compare a b | 1 builds report -o - | 1 builds rm x | 0 builds rm --all | 0 system check
0 system df | 0 system prune -f | 1 image tree x | 1 image diff a b | 1 blame x /y
0 image prune -f | 0 container prune -f | 1 history x | 1 inspect x | 1 save x -o - | 1 export x
1 tag a b | 1 rmi x | 1 rm x | 1 push x | 125 enter | 0 context ls CONTEXT | 0 plan CONTEXT
0 build --call=outline CONTEXT | 0 build --check CONTEXT
"""


@pytest.mark.parametrize("line", NOTHING_MADE.strip().replace("\n", " | ").split(" | "))
def test_who_needs_a_store_makes_none(context: Path, tmp_path: Path, line: str, capsys) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    code, *words = line.replace("CONTEXT", str(context)).split()
    assert run_words(["--root", str(tmp_path / "none"), *words]) == int(code)
    assert "bug in pybuild" not in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_budget_that_makes_no_sense(pybuild, project: Path) -> None:
    for text in ("size=1MB", "image=much", "step=60", "total=-1s", "image"):
        wrong = pybuild("build", "--budget", text, project, check=False)
        assert wrong.returncode == 2
        assert wrong.stderr.startswith("error: build: --budget")
        assert "hint: image=SIZE (kB, MB, GB, KiB, MiB, GiB), step=TIME" in wrong.stderr
