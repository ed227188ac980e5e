"""The engine's methods about the journal of builds."""

from __future__ import annotations

from pybuild.engine.core import OpenStore, require_privilege

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from builder.entering import EntryRequest
    from pybuild.engine.buildcompare import Comparison
    from pybuild.engine.journal import BuildLine, JournalBuild, JournalStep


class Journaling(OpenStore):
    """What builds there were, and what became of them."""

    def builds(self, filters: Sequence[str] = (), limit: int | None = None) -> list[BuildLine]:
        """Return the builds of the journal, newest first.

        filters: `key=value` each, of pybuild.engine.journal.FILTERS.
        """
        from pybuild.engine import journal

        return journal.listed(self.store, filters, limit)

    def journal(self, build_id: str = "last") -> JournalBuild:
        """Return a build of the journal: its id, the beginning of one, or `last`."""
        from pybuild.engine import journal

        return journal.show(self.store, build_id)

    def log_file(self, build: JournalBuild, step: JournalStep) -> str | None:
        """Return the file with a step's whole log, None where it wrote nothing."""
        from pybuild.engine import journal

        return journal.log_file(self.store, build, step)

    def remove_builds(
        self, names: Sequence[str] = (), filters: Sequence[str] = (), *, everything: bool = False
    ) -> tuple[list[str], int]:
        """Remove builds from the journal, with their logs; return their ids and bytes freed."""
        from pybuild.engine import journal

        return journal.remove(self.store, names, filters, everything=everything)

    def enter(
        self,
        name: str,
        request: EntryRequest,
        on_note: Callable[[str], None] = lambda _text: None,
    ) -> int:
        """Run a shell in the state that a step left, with our stdio; return its exit code.

        name: `BUILD:STEP`, either of them may be left out. on_note: told what of the step's mounts
        cannot be there. Only in the main thread.
        """
        from pybuild.engine import entering

        require_privilege("enter")
        return entering.run(self.store, name, request, on_note)

    def changed_inside(self, name: str) -> Sequence[str]:
        """Return what was changed inside an entered step, line by line, texts as diffs."""
        from pybuild.engine import entering

        return entering.adopted(self.store, name)[1]

    def compare_builds(self, first: str, second: str) -> Comparison:
        """Return two builds of the journal side by side."""
        from pybuild.engine.buildcompare import compare

        return compare(self.journal(first), self.journal(second))

    def write_report(self, build_id: str, out: BinaryIO) -> None:
        """Write a page about a build, complete in itself, as HTML."""
        from pybuild.report.page import write

        write(self.store, self.journal(build_id), out)
