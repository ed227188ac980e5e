"""Lowering large files: the work grows with the length of the file, not with its square."""

import sys
from types import SimpleNamespace

import pytest

from builder.lint.engine import Linter, options_of
from builder.outline import outline_of
from builder.planning import Planner
from builder.request import BuildRequest
from builder.stage import Stage
from builder.stages import StageList, stages_of
from grammar.parse import parse

PLATFORM = "linux/amd64"

# A line of each kind that adds something to a stage; {} is a number.
LINES = (
    "ENV A{}=1",
    "ENV A=$A{}",
    "ARG A{}=1",
    "LABEL a{}=$PATH",
    "EXPOSE {}",
    "VOLUME /{}",
    "ONBUILD RUN {}",
    "COPY {} /",
    "RUN {}",
    "WORKDIR {}",
    "USER {}",
)


def stages_from(text: str) -> StageList:
    return stages_of(parse(text.encode()), text.encode())


def lowered(stages: StageList) -> Stage:
    request = BuildRequest(context=".")
    linter = Linter(stages, options_of(stages, request), lambda *_: None)
    bases = SimpleNamespace(image=None, layout=None)
    stage = Planner(bases, request, stages, PLATFORM, linter).stage(stages.target(None))
    stage.container_config()
    return stage


def work(line: str, count: int) -> int:
    """Return how many calls lowering takes, steps of loops in expressions among them."""
    stages = stages_from("FROM scratch\n" + "".join(f"{line.format(n)}\n" for n in range(1, count)))
    calls = 0

    def count_calls(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count_calls)
    try:
        lowered(stages)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("line", LINES)
def test_twice_the_lines_are_twice_the_work(line: str) -> None:
    lowered(stages_from("FROM scratch\nENV a=$b\nRUN x"))  # what is made once is made now
    assert work(line, 1200) < 2.2 * work(line, 600)


def chain(count: int, *links: str) -> StageList:
    """Return stages each of which is made of the one before; {0} is its number, {1} that one's."""
    lines = "".join(f"{link.format(n, n - 1)}\n" for n in range(1, count) for link in links)
    return stages_from(f"FROM scratch AS s0\n{lines}")


CHAINS = {
    "FROM": ("FROM s{1} AS s{0}", "ENV A{0}=1"),
    "COPY": ("FROM scratch AS s{0}", "COPY --from=s{1} /a /a"),
    "COPY of an index": ("FROM scratch AS s{0}", "COPY --from={1} /a /a"),
    "RUN": ("FROM scratch AS s{0}", "RUN --mount=from=s{1},target=/a x"),
}


@pytest.mark.parametrize("links", CHAINS.values(), ids=list(CHAINS))
def test_a_chain_of_a_thousand_stages(links: tuple[str, ...]) -> None:
    stages = chain(1001, *links)
    assert lowered(stages).text.name == "s1000"
    assert outline_of(stages, BuildRequest(context="."), PLATFORM, lambda _: {}).name == "s1000"


def test_what_one_stage_adds_is_not_in_another() -> None:
    base = "FROM scratch AS a\nENV A=1\nLABEL a=1\nEXPOSE 1\nVOLUME /1\n"
    stages = stages_from(
        base + "FROM a AS b\nENV B=2\nEXPOSE 2\nFROM a\nENV C=3 A=4\nLABEL c=3\nCOPY --from=b 1 2\n"
    )
    config = lowered(stages).container_config()
    assert config.env[1:] == ("A=4", "C=3")
    assert dict(config.labels) == {"a": "1", "c": "3"}
    assert (config.exposed_ports, config.volumes) == (("1/tcp",), ("/1",))
