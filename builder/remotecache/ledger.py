"""What the steps of a build were found or made to be: what an export is made of."""

from collections.abc import Container

from store.buildrecords import BuildRecord
from values.classes import dataclass, field


@dataclass(slots=True)
class Ledger:
    """The records of vertices by their ids, and the memos of selections. Written by threads."""

    records: dict[str, BuildRecord] = field(default_factory=dict)
    memos: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, vertices: Container[str]) -> "Ledger":
        """Return the ledger of these vertices; memos are everybody's."""
        kept = {name: record for name, record in self.records.items() if name in vertices}
        return Ledger(kept, self.memos)

    def clear(self) -> None:
        """Begin anew."""
        self.records.clear()
        self.memos.clear()
