"""Our `dataclass` against the standard library's: the same declarations, the same behaviour."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from values import classes

HOUSE = str(Path(classes.__file__).parents[1])

Decorated = tuple[Any, Any]


def point(module: Any) -> type:
    @module.dataclass(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        marks: list[str] = module.field(default_factory=list, compare=False)
        _hidden: int = module.field(default=7, repr=False, init=False)

        @property
        def sum(self) -> int:
            return int(self.x + self.y)

    return Point


def counter(module: Any) -> type:
    @module.dataclass(slots=True)
    class Counter:
        count: int = 0
        names: dict[str, int] = module.field(default_factory=dict)

    return Counter


def options(module: Any) -> type:
    @module.dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        name: str
        size: int = 1
        inner: tuple[Any, ...] = ()

    return Options


def derived(module: Any) -> type:
    @module.dataclass(frozen=True, slots=True)
    class Base:
        x: int

    @module.dataclass(frozen=True, slots=True)
    class Derived(Base):
        b: int = 1

        def __hash__(self) -> int:
            return 4

    return Derived


def empty(module: Any) -> type:
    @module.dataclass(frozen=True, slots=True)
    class Empty:
        pass

    return Empty


@pytest.fixture(params=[point, counter, options, derived, empty], ids=lambda make: make.__name__)
def both(request: pytest.FixtureRequest) -> Decorated:
    make: Callable[[Any], type] = request.param
    return make(classes), make(dataclasses)


CALLS: list[Callable[[Any], object]] = [
    lambda cls: cls(),
    lambda cls: cls(1),
    lambda cls: cls(1, 2),
    lambda cls: cls(1, 2, []),
    lambda cls: cls(1, 2, [], 4),
    lambda cls: cls(x=1, y=5),
    lambda cls: cls(x=1),
    lambda cls: cls(1, b=3),
    lambda cls: cls(name="n"),
    lambda cls: cls(name="n", size=3),
    lambda cls: cls(count=4),
    lambda cls: cls(unknown=1),
    lambda cls: hash(cls(1)),
    lambda cls: cls(1) == cls(1),
    lambda cls: cls(1) == cls(2),
    lambda cls: cls(1) == 1,
    lambda cls: cls(name="n") == cls(name="n"),
    lambda cls: hash(cls(name="n", size=2)),
    lambda cls: cls() == cls(),
    lambda cls: hash(cls()),
    lambda cls: cls(1).sum,
    lambda cls: cls(1).__dict__,
    lambda cls: setattr(cls(1), "x", 2),
    lambda cls: setattr(cls(), "count", 2),
    lambda cls: setattr(cls(), "other", 2),
    lambda cls: delattr(cls(1), "x"),
    lambda cls: copy.deepcopy(cls(1)),
    lambda cls: copy.copy(cls(name="n")),
    lambda cls: cls.__match_args__,
    lambda cls: [each.name for each in dataclasses.fields(cls)],
    lambda cls: dataclasses.replace(cls(1), y=9),
    lambda cls: dataclasses.replace(cls(1), _hidden=9),
    lambda cls: dataclasses.asdict(cls(name=["a"], inner=(1, {"k": (2,)}))),
    lambda cls: dataclasses.is_dataclass(cls) and cls.__name__,
]


def outcome(call: Callable[[Any], object], cls: Any) -> str:
    try:
        return str(call(cls)).replace(f"{__name__}.", "")
    except (TypeError, AttributeError, ValueError) as error:
        # Python 3.11's own trips over its copy of the class where the name is no field's.
        if "Frozen" in type(error).__name__ or "super(type, obj)" in str(error):
            return "frozen"
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_what_a_value_does(number: int, both: Decorated) -> None:
    ours, standard = both
    assert outcome(CALLS[number], ours) == outcome(CALLS[number], standard)


@pytest.mark.parametrize("change", [{"y": 5}, {"x": 8, "marks": ["m"]}, {"_hidden": 1}, {"no": 1}])
def test_replace(change: dict[str, Any]) -> None:
    expected = outcome(lambda cls: dataclasses.replace(cls(1), **change), point(dataclasses))
    found = outcome(lambda cls: classes.replace(cls(1), **change), point(classes))
    assert found.partition(":")[0] == expected.partition(":")[0]


def test_asdict_goes_into_values() -> None:
    inner = options(classes)(name="in", inner=((1, 2),))
    value = options(classes)(name={"k": inner}, inner=(inner, [inner]))
    plain = {"name": "in", "size": 1, "inner": ((1, 2),)}
    assert classes.asdict(value) == {"name": {"k": plain}, "size": 1, "inner": (plain, [plain])}


def test_no_two_values_share_what_a_factory_made() -> None:
    one, other = point(classes)(1), point(classes)(1)
    one.marks.append("x")
    assert other.marks == []


def test_a_default_that_can_change_is_refused() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        @classes.dataclass(slots=True)
        class _Wrong:
            names: list[str] = []  # noqa: RUF012  what is refused


@classes.dataclass(frozen=True, slots=True)
class Kept:
    """Pickled by name, so it has to be a module's."""

    text: str
    more: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_values_survive_pickling(protocol: int) -> None:
    value = Kept("a", (3,))
    assert pickle.loads(pickle.dumps(value, protocol)) == value


def test_patterns_match_by_position() -> None:
    match Kept("t", (9,)):
        case Kept(text, (number,)):
            assert (text, number) == ("t", 9)
        case _:
            pytest.fail("no match")


def test_nothing_of_the_standard_librarys_is_imported_for_it() -> None:
    code = (
        "import sys; from values.classes import dataclass\n"
        "@dataclass(frozen=True, slots=True)\nclass A:\n    x: int = 1\n"
        "A(2) == A(3); print({'inspect', 'dataclasses', 're', 'typing'} & {*sys.modules})"
    )
    argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({HOUSE!r})\n{code}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
