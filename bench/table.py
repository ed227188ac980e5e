"""The table of docs/bench.md, of the rows that one run has measured."""

import re
import sys
from collections.abc import Mapping

# Ours ÷ the best peer; of h: MB.
AIMS = {
    "a1": 0.5,
    "a1-bare": 1.0,
    "b": 0.5,
    "b-tag": 0.5,
    "b-unused": 0.5,
    "c": 0.5,
    "d1": 0.3,
    "d2": 0.5,
    "d3": 0.4,
    "e": 0.95,
    "f1": 0.6,
    "f3": 0.6,
    "f4": 0.6,
    "g": 0.6,
    "g-oci": 0.5,
}
AIM_OF_H_MB = 12
OURS = "pybuild"
ORIENTATION = "no seccomp"  # how the names end of those that no ratio is taken of


def short(name: str) -> str:
    """Return a contestant's name as the table has it: `docker 20.10.24 BuildKit` is BuildKit."""
    return "BuildKit" if "BuildKit" in name else name.partition(" ")[0]


def print_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print the lines for docs/bench.md."""
    words = " ".join(word for word in sys.argv[1:] if not re.match("--json|.*[.]json$", word))
    print("\n| row | pybuild | best peer | ratio | aim | peak MiB | printed by |")
    print("|---|---|---|---|---|---|---|")
    said = f"`bench/run.py {words}`"
    for row, summary in results.items():
        names = [name for name in summary if not name.endswith(ORIENTATION)]
        peers = [name for name in names if not name.startswith(OURS)]
        if not peers or len(names) - len(peers) != 1:
            continue
        (own,) = {*names} - {*peers}
        best = min(peers, key=lambda name: summary[name]["seconds"])
        mine, theirs = summary[own], summary[best]
        ratio = mine["seconds"] / theirs["seconds"]
        print(
            f"| {row} | {mine['seconds']:.3f} ({mine['cpu_seconds']:.3f})"
            f" | {short(best)} {theirs['seconds']:.3f} ({theirs['cpu_seconds']:.3f})"
            f" | {ratio:.2f} | {AIMS[row]} | {mine['peak_mib']:.0f} | {said} |"
        )
        said = "the same run"


def print_idle(found: Mapping[str, Mapping[str, int]]) -> None:
    """Print the line of row h."""
    totals = {name: sum(parts.values()) * 1024 / 1e6 for name, parts in found.items()}
    own = next(name for name in totals if name.startswith(OURS))
    peers = {short(name): mb for name, mb in totals.items() if name != own}
    beside = ", ".join(f"{name} {mb:.1f} MB" for name, mb in sorted(peers.items()))
    print(f"| h | {totals[own]:.1f} MB | {beside} | | {AIM_OF_H_MB} MB | | the same run |")
