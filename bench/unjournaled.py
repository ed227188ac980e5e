"""Our command line, whole or without what explains and journals: what `journal.py` measures.

usage: bench/unjournaled.py whole|unjournaled|unexplained WORD...
       WORD...: a command line of pybuild's

`unjournaled`, nothing is written to the journal; `unexplained`, and no miss is explained. What the
cache itself needs is done all the same: records, the times of their last use, and the wait for the
disk at the end. The rows that a build reads back to be remembered as a whole stay in memory.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pybuild.__main__ import process
from store import buildjournal
from store.buildjournal import BuildJournal, BuildRow, StepRow

_steps: list[StepRow] = []


class Unjournaled(BuildJournal):
    """A journal that forgets."""

    def begin_build(self, build: BuildRow) -> None:
        """Leave it out."""

    def end_build(self, build: BuildRow) -> None:
        """Wait for the disk, as the cache's records need it."""
        with self._db.writing(durable=True) as db:
            db.execute("DELETE FROM memos WHERE namespace = 'bench'")
            db.execute("INSERT INTO memos VALUES ('bench', 'x', 'y', 0)")

    def add_step(self, step: StepRow) -> None:
        """Keep it for this process."""
        _steps.append(step)

    def steps(self, *build_ids: str) -> list[StepRow]:
        """Return what this process kept."""
        kept = (step for step in _steps if step.build_id in build_ids)
        return sorted(kept, key=lambda step: step.number)

    def add_cached_build(self, build: BuildRow, steps: Iterable[StepRow]) -> None:
        """Note that the results were used."""
        super().add_cached_build(build, steps)
        self.forget_builds([build.build_id])


def unexplained(*_: object) -> tuple[object, ...]:
    """Return no cause."""
    return ()


def leave_out(what: str) -> None:
    """Replace what journals, and what explains too where nothing is replayed."""
    buildjournal.BuildJournal = Unjournaled
    if what == "unexplained":
        from builder.site import Site

        Site.causes = unexplained


if __name__ == "__main__":
    mode = sys.argv.pop(1)
    if mode != "whole":
        leave_out(mode)
    process()
