"""What explaining and journalling cost: builds with them and without them, in turn.

usage: bench/journal.py [--rounds N] [b|c|c-edit]...

b: a rebuild in which nothing changed. c: a cold build of a Dockerfile never seen. c-edit: the same
file edited, so that each of its ten misses is compared with the builds before. The rows are those
of run.py. Each round runs both, and the ratio is the median of the rounds' ratios, of seconds and
of CPU seconds; `without` is what bench/unjournaled.py leaves out.
Needs root and busybox-static, and a Debian base made by scripts/debian_rootfs.py.
"""

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import contestants
import copies
import rows
from contestants import DEBIAN, Contestant
from measure import Sample, become_subreaper, measure
from run import clean_up, debian_tar, enter_private_mounts

SCRIPT = Path(__file__).with_name("unjournaled.py")
# What a row's other side leaves out: nothing is explained where everything is cached.
ROWS = {"b": "unjournaled", "c": "unexplained", "c-edit": "unexplained"}
Jobs = Callable[[Contestant, Path], Iterator[rows.Job]]


def variant(ours: Contestant, mode: str) -> Contestant:
    """Return ours in a mode of unjournaled.py."""
    assert ours.build_argv is not None
    build = ours.build_argv
    return dataclasses.replace(
        ours,
        name=mode,
        build_argv=lambda context, tag: [
            *(sys.executable, str(SCRIPT), mode),
            *build(context, tag)[1:],
        ],
    )


def edited(ours: Contestant, folder: Path) -> Iterator[rows.Job]:
    """Yield cold builds of one Dockerfile, each time with another first step."""
    context = folder / "edited"
    context.mkdir()
    assert ours.build_argv is not None
    for number in itertools.count():

        def prepare(number: int = number) -> None:
            text = rows.cold_runs(f"{ours.name} {number}")
            (context / "Dockerfile").write_text(text)

        yield rows.Job(ours.build_argv(context, f"localhost/bench:{ours.name}"), prepare=prepare)


def jobs_of(name: str) -> Jobs:
    """Return what gives the commands of a row."""
    if name == "c-edit":
        return edited
    if name == "b":
        return lambda ours, folder: copies.jobs(copies.ROWS["b"], ours, folder)
    return lambda ours, folder: rows.jobs(rows.ROWS["c"], ours, folder)


def taken(sides: Sequence[Contestant], jobs: Jobs, rounds: int, work: Path) -> list[list[Sample]]:
    """Return the samples of each round, of both sides, in turns that begin with each as often."""
    queues = []
    for side in sides:
        folder = work / side.name
        folder.mkdir()
        queues.append(jobs(side, folder))
    found = []
    for number in range(rounds + 1):
        samples: dict[int, Sample] = {}
        for index in (0, 1) if number % 2 else (1, 0):
            job = next(queues[index])
            job.prepare()
            samples[index] = measure(
                job.argv, environment=sides[index].environment, log=work / "log"
            )
        if number > 0:
            found.append([samples[0], samples[1]])
    return found


def print_row(name: str, found: Sequence[Sequence[Sample]]) -> None:
    """Print medians of both sides and of the rounds' ratios."""
    columns = []
    for of in (lambda sample: sample.seconds, lambda sample: sample.cpu_seconds):
        whole, bare = (statistics.median(of(pair[side]) for pair in found) for side in (0, 1))
        ratio = statistics.median(of(pair[0]) / of(pair[1]) for pair in found)
        columns.append(f"{whole:8.4f}  {bare:8.4f}  {ratio:6.3f}")
    print(f"{name:7} {'   '.join(columns)}")


def main() -> None:
    """Set up, measure, print, take down."""
    parser = argparse.ArgumentParser(description="what explaining and journalling cost")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    if unknown := {*options.rows} - {*ROWS}:
        parser.error(f"no such row: {', '.join(unknown)}")
    enter_private_mounts()
    become_subreaper()
    print("                  seconds                       CPU seconds")
    print("row         with   without   ratio       with   without   ratio")
    for name in options.rows or ROWS:
        work = Path(tempfile.mkdtemp(prefix="pybuild-bench-", dir="/var/tmp"))
        with contextlib.ExitStack() as stack:
            stack.callback(clean_up, work)
            sides = []
            for mode in ("whole", ROWS[name]):
                (work / f"{mode}-store").mkdir()
                ours = contestants.pybuild(work / f"{mode}-store")
                assert ours is not None, "pybuild is not installed beside this interpreter"
                assert ours.import_argv is not None
                ours.quietly(ours.import_argv(debian_tar(), DEBIAN))
                sides.append(variant(ours, mode))
            print_row(name, taken(sides, jobs_of(name), options.rounds, work))


if __name__ == "__main__":
    main()
