import pytest

from builder.imageconfig import EXPORTER_COMMENT, reconciled, with_times
from store.oci import HistoryEntry


def entry(what: str) -> HistoryEntry:
    """Return an entry from `name`, `name@time` and, for an empty one, a dash before it."""
    name, _, time = what.lstrip("-").partition("@")
    return HistoryEntry(
        created=time or None, created_by=name, empty_layer=what.startswith("-"), comment="c"
    )


def shown(entries: list[HistoryEntry] | tuple[HistoryEntry, ...]) -> list[str]:
    return [
        f"{'-' if e.empty_layer else ''}{e.created_by}" + (f"@{e.created}" if e.created else "")
        for e in entries
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a@1", "-b", "c@3", "-d"], ["a@1", "-b@3", "c@3", "-d@3"]),
        (["-a", "-b", "c@3"], ["-a@3", "-b@3", "c@3"]),
        (["a@1", "-b", "-c"], ["a@1", "-b@1", "-c@1"]),
        (["a@1", "b@2", "-c"], ["a@1", "b@2", "-c@2"]),
        (["a@1", "-b", "c@3", "-d", "e@5"], ["a@1", "-b@3", "c@3", "-d@3", "e@5"]),
        (["-a", "-b"], ["-a", "-b"]),
        ([], []),
    ],
)
def test_entries_without_a_time_have_a_neighbours(given: list[str], expected: list[str]) -> None:
    assert shown(with_times([entry(what) for what in given])) == expected


@pytest.mark.parametrize(
    ("history", "layers", "expected"),
    [
        (["a@1", "-b@1", "c@2"], ["1", "2"], ["a@1", "-b@1", "c@2"]),
        (["a@1", "b@2", "-c@2", "d@3"], ["1"], ["a@1", "-b@2", "-c@2", "-d@3"]),
        (
            ["-a@2", "b@2"],
            ["1", "2"],
            ["-a@2", "b@2", "created by buildkit@2"],
        ),
        ([], ["1", None], ["created by buildkit@1", "created by buildkit@1"]),
        (["a"], [None], ["a"]),
    ],
)
def test_a_history_fits_its_layers(
    history: list[str], layers: list[str | None], expected: list[str]
) -> None:
    found = reconciled([entry(what) for what in history], layers)
    assert shown(found) == expected
    added = [e for e in found if e.created_by == "created by buildkit"]
    assert all(e.comment == EXPORTER_COMMENT for e in added)
    assert sum(not e.empty_layer for e in found) == len(layers)
