"""How our own seconds and memory grow with the context, with steps and with stages.

usage: bench/growth.py [--rounds N] [files|steps|stages]...

No peers: what is looked for is a line. Each row is a size; `cold` is the first build of a context
that was never seen, `no change` the median of the builds after it that find everything cached.
`÷ before` is the row's seconds over those of the row above, for ten times as much.
Needs root and busybox-static.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import contestants
from contestants import BUSYBOX, Contestant
from copies import fill
from measure import Sample, become_subreaper, measure
from run import busybox_tar

MIB = 1 << 20
FILE_BYTES = 200
SETTLE_ROUNDS = 1  # what is too young to be trusted at the first build is old at the second


def files(context: Path, count: int) -> str:
    """Make `count` files and return the Dockerfile that copies them."""
    fill(context / "files", count, size_bytes=FILE_BYTES, nonce="growth")
    return "FROM scratch\nCOPY files /files\n"


def steps(_context: Path, count: int) -> str:
    """Return a Dockerfile of `count` steps, of which every tenth is a RUN."""
    lines = [f"RUN echo {n} > /made" if n % 10 == 0 else f"ENV N{n}={n}" for n in range(count)]
    return "\n".join([f"FROM {BUSYBOX}", *lines, ""])


def stages(_context: Path, count: int) -> str:
    """Return a Dockerfile of `count` stages with a RUN each, joined by COPY --from."""
    made = [f"FROM {BUSYBOX} AS s{n}\nRUN echo {n} > /made" for n in range(count)]
    joined = [f"COPY --from=s{n} /made /made-{n}" for n in range(count)]
    return "\n".join([*made, "FROM scratch", *joined, ""])


Make = Callable[[Path, int], str]
SIZES: dict[str, tuple[Make, tuple[int, ...]]] = {
    "files": (files, (2_000, 20_000, 200_000)),
    "steps": (steps, (10, 100, 1_000)),
    "stages": (stages, (1, 10, 100)),
}


def measured(ours: Contestant, context: Path, rounds: int) -> Iterator[Sample]:
    """Yield the samples of a context's builds, the cold one first."""
    assert ours.build_argv is not None
    argv = ours.build_argv(context, "localhost/growth")
    for number in range(1 + SETTLE_ROUNDS + rounds):
        sample = measure(argv, environment=ours.environment, log=context.parent / "log")
        if number == 0 or number > SETTLE_ROUNDS:
            yield sample


def grow(what: str, ours: Contestant, work: Path, rounds: int) -> None:
    """Measure and print the sizes of one kind."""
    make, sizes = SIZES[what]
    print(f"\ni: {what:10}      cold s  ÷ before   no change s  ÷ before   CPU s  peak MiB")
    before = (0.0, 0.0)
    for size in sizes:
        context = work / f"{what}-{size}"
        context.mkdir()
        (context / "Dockerfile").write_text(make(context, size))
        os.sync()
        cold, *again = measured(ours, context, rounds)
        same = statistics.median(sample.seconds for sample in again)
        cpu = statistics.median(sample.cpu_seconds for sample in again)
        peak = max(sample.peak_bytes for sample in (cold, *again)) / MIB
        now = cold.seconds, same
        ratios = [
            f"{new / old:8.1f}" if old else f"{'-':>8}"
            for new, old in zip(now, before, strict=True)
        ]
        print(
            f"   {size:10,}    {now[0]:8.3f}  {ratios[0]}      {same:8.3f}  {ratios[1]}"
            f"  {cpu:6.3f}  {peak:8.0f}"
        )
        before = now
        shutil.rmtree(context)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="measure how pybuild's builds grow")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(SIZES)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="rebuilds of each size")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: missing: root")
    become_subreaper()
    work = Path(tempfile.mkdtemp(prefix="pybuild-growth-", dir="/var/tmp"))
    try:
        ours = contestants.pybuild(work)
        if ours is None or ours.import_argv is None:
            raise SystemExit("bench: pybuild is not installed beside this interpreter")
        ours.quietly(ours.import_argv(busybox_tar(work), BUSYBOX))
        for what in options.kinds or SIZES:
            grow(what, ours, work, options.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
