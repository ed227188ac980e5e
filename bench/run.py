"""Measure pybuild and the tools installed beside it, in turn, and print the ratios.

usage: bench/run.py [--rounds N] [--peers NAME] [--json FILE] [ROW...]
       rows: a1 (with a1-bare) a1-bare b b-tag b-unused c d1 d2 d3 e f1 f3 f4 g g-oci h (all)

Needs root, and busybox-static; row c needs a Debian base made by scripts/debian_rootfs.py, the rows
f and g that and docker-registry. Peers are used where they are installed: podman, buildah, skopeo,
crun, runc, docker (with its daemon).
Timings jump on a shared machine: each round runs every contestant once, and medians of the same
run are compared.
"""

import argparse
import contextlib
import functools
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import contestants
import copies
import idle
import rows
import table
import transfers
from contestants import Contestant
from measure import CommandFailed, Sample, become_subreaper, measure

PROJECT = Path(__file__).resolve().parents[1]
INSIDE = "PYBUILD_BENCH_INSIDE"
MIB = 1024 * 1024
BUILDS = {*rows.DOCKERFILES, *copies.ROWS}
NAMES = ("a1", "a1-bare", *copies.ROWS, "c", "e", *transfers.ROWS, "h")


def enter_private_mounts() -> None:
    """Run this script again in a mount namespace of its own.

    crun refuses a host with cgroup v1 that also mounts v2 ("hybrid"), so v2 is hidden, from every
    contestant alike.
    """
    if INSIDE in os.environ:
        if Path("/sys/fs/cgroup/unified").is_mount():
            subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
        return
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})


def busybox_tar(work: Path) -> Path:
    """Return a root filesystem of busybox alone."""
    binary = shutil.which("busybox")
    if binary is None:
        raise SystemExit("bench: missing: busybox-static (make test-deps)")
    path = work / "busybox.tar"
    listing = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True)
    with tarfile.open(path, "w") as archive:
        archive.add(binary, "bin/busybox")
        for name in {*listing.stdout.split()} - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name in ("dev", "etc", "proc", "sys", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
    return path


def debian_tar() -> Path:
    """Return a root filesystem of a small Debian, made once and kept."""
    path = PROJECT / ".cache" / "debian-bookworm.tar"
    subprocess.run([sys.executable, PROJECT / "scripts" / "debian_rootfs.py", path], check=True)
    return path


def engines(
    work: Path, wanted: Sequence[str], resources: contextlib.ExitStack
) -> Iterator[Contestant]:
    """Yield the engines installed; their daemons end with `resources`."""
    makers = (contestants.pybuild, contestants.podman, contestants.buildah)
    if {*wanted} == {"a1-bare"}:  # podman writes the bundle
        makers = (contestants.podman,)
    for make in makers:
        if (engine := make(work)) is not None:
            yield engine
    if {*wanted} == {"a1-bare"}:
        return
    # Docker's classic builder only builds: one docker is enough where nothing is built.
    for buildkit in (True, False) if {*wanted} - {"a1", "a1-bare", "h"} else (True,):
        if (engine := contestants.docker(work, buildkit=buildkit)) is not None:
            resources.callback(engine.stop)
            yield engine


def set_up(
    work: Path, wanted: Sequence[str], resources: contextlib.ExitStack
) -> dict[str, list[Contestant]]:
    """Return the contestants of every wanted row, with their base images imported."""
    tars = {contestants.BUSYBOX: busybox_tar(work)}
    if any(name == "c" or name.startswith("b") for name in wanted):
        tars[contestants.DEBIAN] = debian_tar()
    there = []
    for engine in engines(work, wanted, resources):
        try:
            for name, tar in tars.items():
                assert engine.import_argv is not None
                engine.quietly(engine.import_argv(tar, name))
        except RuntimeError as error:
            sys.stderr.write(f"{engine.name} is left out: {error}\n")
            continue
        there.append(engine)
    field = {name: [e for e in there if takes_part(name, e)] for name in wanted}
    field.pop("a1-bare", None)
    for name in {"a1", "h"} & {*wanted}:
        field[name] = [engine for engine in field[name] if "classic" not in engine.name]
    if {*wanted} & {"a1", "a1-bare"}:
        bundle = contestants.write_bundle(work, tars[contestants.BUSYBOX])
        if bundle is not None:
            field["a1-bare"] = contestants.bare_runtimes(work, bundle)
    return field


def takes_part(name: str, engine: Contestant) -> bool:
    """Tell whether an engine can do this row: run, or build."""
    return bool(engine.build_argv if name in BUILDS else engine.run_argv)


def run_row(
    row: rows.Row,
    field: list[Contestant],
    jobs: Callable[[Contestant], Iterator[rows.Job]],
    rounds: int,
    work: Path,
) -> dict[str, list[Sample]]:
    """Run every contestant `rounds` times in turn, after one round that is not counted."""
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in field}
    queues = {contestant.name: jobs(contestant) for contestant in field}
    for number in range(rounds + 1):
        for contestant in field:
            if contestant.name not in samples:
                continue
            job = next(queues[contestant.name])
            job.prepare()
            try:
                sample = measure(
                    job.argv,
                    environment=contestant.environment,
                    daemons=contestant.daemons,
                    log=work / "log",
                )
            except CommandFailed as failure:
                sys.stderr.write(f"{contestant.name} is out of row {row.name}: {failure}\n")
                del samples[contestant.name]
                continue
            if job.clean_up:
                contestant.quietly(job.clean_up, check=False)
            if number > 0:
                samples[contestant.name].append(sample)
    return samples


def summarise(samples: list[Sample]) -> dict[str, float]:
    """Return the medians that are printed."""
    seconds = [sample.seconds for sample in samples]
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "cpu_seconds": statistics.median(sample.cpu_seconds for sample in samples),
        "peak_mib": max(sample.peak_bytes for sample in samples) / MIB,
    }


def print_row(row: rows.Row, field: list[Contestant], summary: dict[str, dict[str, float]]) -> None:
    """Print the table of one row; each ratio is to the best peer of this run."""
    print(f"\n{row.name}: {row.title}\n   {row.compared}")
    peers = [c.name for c in field if not (c.ours or c.reference)]
    best = min((summary[name]["seconds"] for name in peers if name in summary), default=None)
    width = max(len(name) for name in summary)
    print(f"   {'':{width}}  median s  (fastest-slowest)   CPU s  peak MiB  ÷ best peer")
    for contestant in field:
        if contestant.name not in summary:
            continue
        line = summary[contestant.name]
        ratio = f"{line['seconds'] / best:11.2f}" if best else f"{'-':>11}"
        spread = f"({line['fastest']:.3f}-{line['slowest']:.3f})"
        print(
            f"   {contestant.name:{width}}  {line['seconds']:8.3f}  {spread:>17}"
            f"  {line['cpu_seconds']:6.3f}  {line['peak_mib']:8.0f}  {ratio}"
        )
    for contestant in field:
        if row.name in BUILDS and contestant.name in summary:
            print(f"   {contestant.name}: {contestant.makes}")


def workloads(
    work: Path, wanted: Sequence[str], resources: contextlib.ExitStack
) -> Iterator[tuple[rows.Row, list[Contestant], Callable[[Contestant], Iterator[rows.Job]]]]:
    """Yield each row with its contestants and with what gives their jobs."""
    building = [name for name in wanted if name in rows.ROWS or name in copies.ROWS]
    if "h" in wanted:
        building.append("h")
    for name, entrants in set_up(work, building, resources).items() if building else ():
        if name == "h":
            yield rows.Row("h", idle.TITLE, ""), entrants, _no_jobs
            continue
        folder = work / f"contexts-{name}"
        folder.mkdir()
        if name in copies.ROWS:
            row = copies.ROWS[name]
            yield row, entrants, functools.partial(copies.jobs, row, folder=folder)
        else:
            row = rows.ROWS[name]
            yield row, entrants, functools.partial(rows.jobs, row, folder=folder)
        shutil.rmtree(folder)
    moving = [name for name in wanted if name in transfers.ROWS]
    if moving:
        folder = work / "transfers"  # its daemon is another than that of the rows before
        folder.mkdir()
        moved = transfers.Transfers(folder, debian_tar())
        resources.callback(moved.stop)
        for name in moving:
            moved.begin(name)
            yield transfers.ROWS[name], moved.field(name), functools.partial(moved.jobs, name)


def _no_jobs(_contestant: Contestant) -> Iterator[rows.Job]:
    """Row h measures no command."""
    return iter(())


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="measure pybuild against its peers")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5")
    parser.add_argument("--peers", default="", help="only those with this in their names")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    options = parser.parse_args()
    options.rows = options.rows or [*NAMES]
    unknown = {*options.rows} - {*NAMES}
    if unknown or options.rounds < 5:
        parser.error(f"no such row: {', '.join(unknown)}" if unknown else "at least 5 rounds")
    return options


def main() -> None:
    """Set up, measure, print, take down."""
    options = arguments()
    if os.geteuid() != 0:
        raise SystemExit("bench: missing: root")
    enter_private_mounts()
    become_subreaper()
    # As Ctrl-C does: daemons are stopped and the work folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, {options.rounds} rounds in turn (a1: more)"
    )
    print("peak MiB: the largest process, plus the resident daemons where there are any")
    results = {}
    idle_kib: dict[str, dict[str, int]] = {}
    work = Path(tempfile.mkdtemp(prefix="pybuild-bench-", dir="/var/tmp"))
    with contextlib.ExitStack() as resources:
        resources.callback(clean_up, work)
        for row, entrants, jobs in workloads(work, options.rows, resources):
            entrants = [e for e in entrants if e.ours or options.peers in e.name]
            if row.name == "h":
                idle_kib = idle.measured(entrants, work)
                continue
            samples = run_row(row, entrants, jobs, options.rounds * row.repeats, work)
            if samples:
                results[row.name] = {who: summarise(taken) for who, taken in samples.items()}
                print_row(row, entrants, results[row.name])
    table.print_table(results)
    if idle_kib:
        table.print_idle(idle_kib)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def clean_up(work: Path) -> None:
    """Unmount what the tools left mounted in this namespace and remove the work folder."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        points = [line.split()[4] for line in stream]
    for point in reversed([point for point in points if point.startswith(f"{work}/")]):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
