"""The workloads: what is built or run, and in what form each tool is asked for it."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contestants import BUSYBOX, DEBIAN, Contestant

RUNS = 10
STAGES = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One measured command, and what is done before and after it, outside the measured seconds."""

    argv: Sequence[str]
    clean_up: Sequence[str] | None = None
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Row:
    """One workload.

    compared: what is equal and what is not, printed beside the ratios.
    repeats: a short workload is run this many times as often.
    """

    name: str
    title: str
    compared: str
    repeats: int = 1


ROWS = {
    "a1": Row(
        "a1",
        "run --rm --network none busybox true",
        "every engine with its default profile (seccomp, capabilities, read-only /proc paths).",
        repeats=3,
    ),
    "a1-bare": Row(
        "a1-bare",
        "the same in a bare OCI runtime",
        "a bundle with podman's own config on an unpacked tree: no image, no overlay, no engine.",
        repeats=3,
    ),
    "c": Row(
        "c",
        f"cold build: FROM debian + {RUNS} small RUN",
        "layer cache on, its first RUN never seen before, so all steps run and are recorded; the "
        "base is in the store; nothing is compressed or pushed; the network of RUN is the host's.",
    ),
    "e": Row(
        "e",
        f"{STAGES} stages of `sleep 2` side by side, joined by COPY --from (floor 2.0 s)",
        "as c.",
    ),
}


def cold_runs(nonce: str) -> str:
    """Return a Dockerfile of RUNS steps, none of which any cache has seen."""
    steps = [f"RUN echo {nonce} {number} > /file-{number}" for number in range(RUNS)]
    return "\n".join([f"FROM {DEBIAN}", *steps, ""])


def parallel_stages(nonce: str) -> str:
    """Return a Dockerfile of STAGES independent stages and one that joins them."""
    stages = [
        f"FROM {BUSYBOX} AS stage{number}\nRUN sleep 2 && echo {nonce} {number} > /made"
        for number in range(STAGES)
    ]
    joins = [f"COPY --from=stage{number} /made /made-{number}" for number in range(STAGES)]
    return "\n".join([*stages, f"FROM {BUSYBOX}", *joins, ""])


DOCKERFILES = {"c": cold_runs, "e": parallel_stages}


def jobs(row: Row, contestant: Contestant, folder: Path) -> Iterator[Job]:
    """Yield the row's command for this contestant, a new one each round.

    folder: an empty folder for the contexts.
    """
    number = 0
    while True:
        number += 1
        if row.name not in DOCKERFILES:
            assert contestant.run_argv is not None
            yield Job(contestant.run_argv(BUSYBOX, ["true"]))
            continue
        nonce = re.sub("[^a-z0-9]+", "-", f"{row.name} {contestant.name} {number}".lower())
        context = folder / nonce
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILES[row.name](nonce))
        tag = f"localhost/bench:{nonce}"
        assert contestant.build_argv is not None
        forget = contestant.forget_argv(tag) if contestant.forget_argv else None
        yield Job(contestant.build_argv(context, tag), forget)
