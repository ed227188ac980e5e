import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.persistent import PersistentList, PersistentMap

names = st.sampled_from("abcd")


@given(st.lists(st.tuples(st.integers(0, 20), names, st.integers())))
def test_every_version_stays_as_it_was(changes: list[tuple[int, str, int]]) -> None:
    versions: list[tuple[PersistentMap[int], dict[str, int]]] = [(PersistentMap(), {})]
    for index, name, value in changes:
        found, expected = versions[index % len(versions)]
        versions.append((found.set(name, value), {**expected, name: value}))
    for found, expected in versions:
        assert list(found.items()) == list(expected.items())
        assert list(reversed(found)) == list(reversed(expected))
        assert len(found) == len(expected)
        assert all((name in found) == (name in expected) for name in "abcd")


@given(st.lists(st.integers(0, 20)))
def test_every_list_stays_as_it_was(changes: list[int]) -> None:
    versions: list[tuple[PersistentList[int], list[int]]] = [(PersistentList(), [])]
    for number, index in enumerate(changes):
        found, expected = versions[index % len(versions)]
        versions.append((found.append(number), [*expected, number]))
    for found, expected in versions:
        assert (list(found), len(found), found[:]) == (expected, len(expected), expected)
        assert found[-1:] == expected[-1:]


def test_pairs_to_begin_with_and_what_is_not_there() -> None:
    pairs = PersistentMap([("a", 1), ("b", 2), ("a", 3)])
    assert dict(pairs) == {"a": 3, "b": 2}
    later = pairs.set("c", 4)
    with pytest.raises(KeyError):
        pairs["c"]
    assert later["c"] == 4
    items = PersistentList("xy")
    assert items[-1] == "y"
    with pytest.raises(IndexError):
        items[2]
