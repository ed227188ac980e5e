"""Maps and lists of which every version stays as it was, and a new version costs next to nothing.

Each instruction leaves a stage of its own behind, and most differ from the one before by one entry:
copying them would make a file of 10,000 ENVs cost 10,000² steps. The versions of one line share
what they hold; only a version that is not the newest is copied when something is added to it, as
when two stages are built on one. For one thread.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, overload

_V = TypeVar("_V")
_T = TypeVar("_T")


class _History(Generic[_V]):
    """What versions share: for each name its values, each with the version that set it."""

    __slots__ = ("newest", "values")

    def __init__(self) -> None:
        self.newest = 0
        self.values: dict[str, list[tuple[int, _V]]] = {}


class PersistentMap(Mapping[str, _V]):
    """A map whose names keep the order in which they were first set."""

    __slots__ = ("_history", "_size", "_version")

    def __init__(self, pairs: Iterable[tuple[str, _V]] = ()) -> None:
        self._history: _History[_V] = _History()
        for name, value in pairs:
            self._history.values[name] = [(0, value)]
        self._version = 0
        self._size = len(self._history.values)

    def set(self, name: str, value: _V) -> "PersistentMap[_V]":
        """Return the map with `name` set to `value`: in its place, or at the end if it is new."""
        if self._version != self._history.newest:
            return PersistentMap(self.items()).set(name, value)
        is_new = name not in self._history.values
        changed: PersistentMap[_V] = PersistentMap.__new__(PersistentMap)
        changed._history = self._history
        changed._history.newest += 1
        changed._version = changed._history.newest
        changed._size = self._size + is_new
        changed._history.values.setdefault(name, []).append((changed._version, value))
        return changed

    def __getitem__(self, name: str) -> _V:
        values = self._history.values[name]
        if values[-1][0] <= self._version:
            return values[-1][1]
        index = bisect_right(values, self._version, key=lambda item: item[0])
        if index == 0:
            raise KeyError(name)
        return values[index - 1][1]

    def __iter__(self) -> Iterator[str]:
        for name, values in self._history.values.items():
            if values[0][0] > self._version:
                return  # and so are all that come behind it
            yield name

    def __reversed__(self) -> Iterator[str]:
        for name, values in reversed(self._history.values.items()):
            if values[0][0] <= self._version:
                yield name

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"PersistentMap({dict(self)!r})"


class PersistentList(Sequence[_T]):
    """A list to which can be added at the end."""

    __slots__ = ("_items", "_size")

    def __init__(self, items: Iterable[_T] = ()) -> None:
        self._items = list(items)
        self._size = len(self._items)

    def append(self, item: _T) -> "PersistentList[_T]":
        """Return the list with an item more."""
        if self._size != len(self._items):
            return PersistentList(self).append(item)
        longer: PersistentList[_T] = PersistentList.__new__(PersistentList)
        longer._items = self._items
        longer._items.append(item)
        longer._size = self._size + 1
        return longer

    @overload
    def __getitem__(self, index: int) -> _T: ...

    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...

    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        if isinstance(index, slice):
            return self._items[: self._size][index]
        if not -self._size <= index < self._size:
            raise IndexError(index)
        return self._items[index if index >= 0 else self._size + index]

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"PersistentList({self[:]!r})"
