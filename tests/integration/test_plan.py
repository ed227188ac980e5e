"""What plan says, and what the build that follows does."""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, StepsFailed
from builder.forecast import Forecast
from builder.request import BuildRequest
from pybuild.engine.engine import Engine
from tests.integration.test_build import write

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM {base} AS build
COPY a /a
RUN cat /a > /out
FROM {base}
WORKDIR /w
COPY b /b
RUN echo hello > /hello
COPY --from=build /out /out
RUN cat /out
"""
NAMES = [
    "[stage-1 1/6]",
    "[stage-1 2/6]",
    "[stage-1 3/6]",
    "[stage-1 4/6]",
    "[build 2/3]",
    "[build 3/3]",
    "[stage-1 5/6]",
    "[stage-1 6/6]",
]


@pytest.fixture
def project(busybox_image, context: Path) -> Path:
    write(context, {"Dockerfile": DOCKERFILE.format(base=busybox_image), "a": "1\n", "b": "1\n"})
    return context


@pytest.fixture
def states(pybuild, project: Path) -> Callable[..., list[str]]:
    """Return a function that plans and gives the states in the order of NAMES."""

    def plan(*words: object, code: int = 0) -> list[str]:
        done = pybuild("plan", "--format", "json", *words, project, check=False)
        assert done.returncode == code, done.stderr
        found = json.loads(done.stdout)
        assert [step["name"].partition("] ")[0] + "]" for step in found["steps"]] == NAMES
        counts = [found["hits"], found["misses"], found["unknown"]]
        listed = [step["state"] for step in found["steps"]]
        assert counts == [listed.count(state) for state in ("hit", "miss", "unknown")]
        return listed

    return plan


def test_nothing_is_built_yet(states, pybuild, project: Path) -> None:
    assert states() == ["hit"] + ["miss"] * 7
    assert states("--fail-on-miss", code=3) == ["hit"] + ["miss"] * 7
    text = pybuild("plan", project).stdout
    assert text.count("first build of this step") == 6
    assert text.endswith("1 of 8 steps from the cache, 7 to run\n")
    assert pybuild("builds", "ls", "-q").stdout == ""


def test_what_is_built_is_there(states, pybuild, project: Path) -> None:
    pybuild("-q", project)
    assert states("--fail-on-miss") == ["hit"] * 8
    text = pybuild("plan", project).stdout
    assert text.endswith("8 of 8 steps from the cache, 0 to run\n")


def test_only_what_stands_on_a_run_is_unknown(states, pybuild, project: Path) -> None:
    pybuild("-q", project)
    (project / "a").write_text("2\n")
    assert states() == ["hit"] * 4 + ["miss", "miss", "unknown", "unknown"]
    text = pybuild("plan", project).stdout
    assert "a changed (lines +1 -1)" in text
    assert text.count("depends on what [build 3/3] RUN cat /a > /out makes") == 2
    assert "4 of 8 steps from the cache, 2 to run, 2 unknown, about " in text


def test_layers_are_listed_once_however_many_are_made(pybuild, busybox_image, context) -> None:
    names = "abcd"
    copies = "".join(f"COPY {name} /\n" for name in names)
    text = f"FROM {busybox_image} AS made\n{copies}FROM {busybox_image}\nCOPY --from=made / /all\n"
    write(context, {"Dockerfile": text, **dict.fromkeys(names, "1\n")})
    listings: list[str] = []
    seen = listings.append

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.listdir" and str(arguments[0]).endswith("/layers/sha256"):
            seen(event)

    with Engine(str(pybuild.root)) as engine:
        before = sorted(engine.store.layers.iter())
        sys.addaudithook(hook)
        found = engine.plan(BuildRequest(context=str(context)))
        seen = list[str]().append  # a hook stays for ever
        assert [step.state for step in found.steps].count("miss") == len(names) + 1
        assert sorted(engine.store.layers.iter()) == before, "nothing of what was made is left"
    assert len(listings) == 1


def test_a_copy_that_misses_leaves_nothing_unknown(states, pybuild, project: Path) -> None:
    pybuild("-q", project)
    (project / "b").write_text("2\n")
    # What is before it and beside it is a hit; what stands on it has never been on such a base.
    assert states() == ["hit", "hit", "miss", "miss", "hit", "hit", "miss", "miss"]


def test_a_layer_that_will_be_the_same_again(pybuild, busybox_image, context: Path) -> None:
    def plan(dockerfile: str) -> list[str]:
        write(context, {"Dockerfile": f"FROM {busybox_image}\n{dockerfile}", "a": "1\n"})
        os.utime(context / "a", (0, 0))
        done = pybuild("plan", "--format", "json", context)
        return [step["state"] for step in json.loads(done.stdout)["steps"]]

    plan("COPY a /\nRUN cat /a\n")
    pybuild("-q", context)
    layers = sorted(os.listdir(pybuild.root / "layers/sha256"))
    # It is another step, and it makes the same files: what follows is a hit.
    assert plan("COPY --chmod=644 a /\nRUN cat /a\n") == ["hit", "miss", "hit"]
    assert plan("COPY --chmod=600 a /\nRUN cat /a\n") == ["hit", "miss", "miss"]
    assert sorted(os.listdir(pybuild.root / "layers/sha256")) == layers


def test_expected_seconds(pybuild, busybox_image, context: Path) -> None:
    text = "FROM {0}\nCOPY a /\nRUN sleep 0.3\nFROM {0}\nCOPY --from=0 /a /\nRUN sleep 0.2\n"
    write(context, {"Dockerfile": text.format(busybox_image), "a": "1\n"})
    pybuild("-q", context)
    (context / "a").write_text("2\n")
    found = json.loads(pybuild("plan", "--format", "json", context).stdout)
    took = [step["seconds"] for step in found["steps"] if "sleep" in step["name"]]
    assert all(seconds >= 0.2 for seconds in took)
    assert found["seconds"]["least"] >= 0.3
    assert found["seconds"]["most"] - found["seconds"]["least"] >= 0.2


def test_what_is_to_be_pulled(pybuild, busybox_image, start_registry, context: Path) -> None:
    registry = start_registry()
    name = f"{registry.host}/base:1"
    pybuild("tag", busybox_image, name)
    pybuild("push", name)
    pybuild("rmi", "--force", name, busybox_image)
    write(context, {"Dockerfile": f"FROM {name}\nRUN true\n"})
    found = json.loads(pybuild("plan", "--format", "json", context).stdout)
    assert [step["state"] for step in found["steps"]] == ["hit", "miss"]
    assert found["pullBytes"] > 100_000
    assert pybuild("images", "-q").stdout == ""
    assert os.listdir(pybuild.root / "layers/sha256") == []
    pybuild("-q", context)
    found = json.loads(pybuild("plan", "--format", "json", context).stdout)
    assert found["pullBytes"] == 0


def test_errors_are_those_of_the_build(pybuild, project: Path, context: Path) -> None:
    (project / "b").unlink()
    planned = pybuild("plan", project, check=False)
    assert planned.returncode == 1
    assert 'Dockerfile:6: COPY failed: "/b": not found' in planned.stderr
    built = pybuild("-q", project, check=False)
    assert planned.stderr.strip().splitlines()[0] in built.stderr
    wrong = pybuild("plan", "--format=yaml", project, check=False)
    assert wrong.returncode == 2
    assert '"yaml" is neither table nor json' in wrong.stderr


# -- plan and build agree

FIRST = [
    "ENV X=1",
    "WORKDIR /w",
    "WORKDIR /w/v",
    "COPY a /a",
    "COPY --chmod=644 a /a",
    "COPY a* /a",
    "COPY . /src",
    "COPY --link b /b",
    "COPY --exclude=b . /src",
    "ADD d /d",
    "COPY --chown=1 d /d",
    "RUN cat /a /src/b /d/c > /out || true",
    "RUN echo $V > /out",
    "RUN true",
    "RUN --mount=target=/ctx cat /ctx/a > /out",
    "RUN --mount=target=/ctx,source=d ls -R /ctx > /out",
    "# pybuild: no-cache\nRUN echo $V > /out",
    "# pybuild: no-cache\nCOPY a /a",
]
SECOND = [
    *FIRST,
    "COPY --from=build /out /o",
    "COPY --from=build /w /o",
    "COPY --from=build --link /etc /e",
    "COPY --from=build --chown=2 /out /src/",
    "RUN --mount=from=build,target=/m cat /m/out",
    "RUN --mount=from=build,source=/w,target=/m ls /m > /listed",
]
DATA = st.sampled_from(["1\n", "2\n"])


@st.composite
def edits(draw) -> tuple[dict[str, str], dict[str, object]]:
    """Return files of a project and what is asked of the build; few choices: much recurs."""
    first = draw(st.lists(st.sampled_from(FIRST), max_size=4))
    second = draw(st.lists(st.sampled_from(SECOND), min_size=1, max_size=5))
    base = draw(st.sampled_from(["FROM base", "FROM base", "FROM build"]))
    lines = ["FROM base AS build", "ARG V", "RUN echo begun > /out", *first]
    lines += [base, "ARG V=3", *second]
    files = {name: draw(DATA) for name in ("a", "b", "d/c")}
    files[".dockerignore"] = draw(st.sampled_from(["", "", "b\n", "d\n"]))
    files["Dockerfile"] = "\n".join(lines) + "\n"
    asked: dict[str, object] = {}
    if draw(st.booleans()):
        asked["build_args"] = (("V", draw(st.sampled_from("12"))),)
    how = draw(st.integers(0, 15))
    if how == 0:
        asked["no_cache"] = True
    elif how == 1:
        asked["no_cache_stages"] = ("build",)
    return files, asked


class Store:
    """A store in which plans and builds alternate, and what they did."""

    def __init__(self, engine: Engine, context: Path) -> None:
        self.engine = engine
        self.context = context
        self.seen: dict[tuple[str, str], int] = {}

    def try_one(self, files: dict[str, str], asked: dict[str, object]) -> None:
        write(self.context, files)
        for name in ("a", "d/c"):
            os.utime(self.context / name, (0, 0))
        request = BuildRequest(context=str(self.context), **asked)  # type: ignore[arg-type]
        if asked.keys() & {"no_cache", "no_cache_stages"}:
            self.wait_for_another_second()
        before = self.state()
        try:
            plan = self.engine.plan(request)
        except BuildError as error:
            # Of two steps that cannot work a build reports the one that it comes to, or both.
            with pytest.raises((type(error), StepsFailed)):
                self.engine.build(request, lambda _event: None)
            self.count("error", "error")
            return
        assert self.state() == before
        failed = None
        try:
            self.engine.build(request, lambda _event: None)
        except BuildError as error:
            failed = error
        self.agree(plan, failed)

    def wait_for_another_second(self) -> None:
        """Wait until no directory that is made now has the time of one that was made before.

        A directory that WORKDIR makes has its moment, in seconds. Made again in the same second it
        is the same layer; what will be the same a moment later nobody can tell.
        """
        second = int(time.time())
        while int(time.time()) == second:
            time.sleep(0.01)

    def state(self) -> list[object]:
        store = self.engine.store
        rows = store.records.read("SELECT key, used_ns, uses FROM records ORDER BY id")
        return [sorted(store.layers.iter()), [tuple(row) for row in rows], store.journal.builds()]

    def agree(self, plan: Forecast, failed: BuildError | None) -> None:
        journal = self.engine.store.journal
        rows = journal.steps(journal.builds(1)[0].build_id)
        did = {str(row.details["name"]): row.status for row in rows}
        said = {step.vertex.name: step.state for step in plan.steps if step.vertex.inputs}
        assert did.keys() <= said.keys()
        assert failed is not None or did.keys() == said.keys()
        for name, status in did.items():
            self.count(said[name], status)
            if status != "cancelled" and said[name] != "unknown":
                assert (said[name] == "hit") == (status == "cached"), (name, status, said)
        self.only_behind_a_run(plan)

    def only_behind_a_run(self, plan: Forecast) -> None:
        states = {step.vertex.id: step for step in plan.steps}
        names = {step.vertex.name for step in plan.steps if step.state == "miss"}
        for step in states.values():
            if step.state == "unknown":
                (cause,) = step.causes
                behind = cause.text.removeprefix("depends on what ").removesuffix(" makes")
                assert behind in names
                assert "] RUN " in behind

    def count(self, said: str, did: str) -> None:
        self.seen[said, did] = self.seen.get((said, did), 0) + 1


@pytest.fixture
def store(pybuild, busybox_image, context: Path) -> Iterator[Store]:
    pybuild("tag", busybox_image, "base")
    with Engine(str(pybuild.root)) as engine:
        yield Store(engine, context)


def test_plan_and_build_agree(store: Store, rounds) -> None:
    count = rounds(300, 20)

    @settings(
        max_examples=count,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(edits())
    def alternate(edit: tuple[dict[str, str], dict[str, object]]) -> None:
        store.try_one(*edit)

    alternate()
    seen = store.seen
    assert {said for said, _ in seen} >= {"hit", "miss", "unknown"}, seen


def test_plan_and_build_agree_on_small_edits(store: Store, rounds) -> None:
    """One line or one file at a time, as people do it."""
    count = rounds(100, 15)
    random_of = random.Random(count)
    lines = ["COPY a /a", "RUN echo $V > /out", "COPY . /src", "RUN true", "COPY --link b /b"]
    files = {"a": "1\n", "b": "1\n", "d/c": "1\n", ".dockerignore": ""}
    asked: dict[str, object] = {}
    for _ in range(count):
        what = random_of.randrange(4)
        if what == 0:
            lines[random_of.randrange(len(lines))] = random_of.choice(FIRST)
        elif what == 1:
            name = random_of.choice(["a", "b", "d/c"])
            files[name] = random_of.choice(["1\n", "2\n", "2\n\n"])
        elif what == 2:
            asked = {"build_args": (("V", random_of.choice("12")),)}
        else:
            files[".dockerignore"] = random_of.choice(["", "b\n", "d\n"])
        text = "\n".join(["FROM base AS build", "ARG V", *lines, "FROM base"])
        text += "\nCOPY --from=build / /all\nRUN ls /all\n"
        store.try_one({**files, "Dockerfile": text}, asked)
    assert ("hit", "cached") in store.seen
    assert ("miss", "done") in store.seen
