"""What the steps of a build were found or made to be: what an export is made of."""

from store.buildrecords import BuildRecord
from values.classes import dataclass, field


@dataclass(slots=True)
class Ledger:
    """The records of vertices by their ids, and the memos of selections. Written by threads."""

    records: dict[str, BuildRecord] = field(default_factory=dict)
    memos: dict[tuple[str, str], str] = field(default_factory=dict)

    def clear(self) -> None:
        """Begin anew."""
        self.records.clear()
        self.memos.clear()
