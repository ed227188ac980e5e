"""Which entries of the build cache go: filters, order and limits, on values alone."""

import time
from collections.abc import Sequence

import pytest

from pybuild.engine.cacheentries import LOCAL, MOUNT, REGULAR, CacheEntry, CacheView
from pybuild.engine.cachefilters import parse_filters
from pybuild.engine.cacheprune import Policy, plan, ranked, without
from pybuild.errors import PybuildError, UsageError

NOW = time.time()
# Younger than any limit here, however long after this file's import its tests come.
YOUNG_S = -86400.0


def entry(
    id_: str,
    *,
    size: int = 10,
    age_s: float = YOUNG_S,
    type_: str = REGULAR,
    part: str | None = None,
    **more: object,
) -> CacheEntry:
    parts = {("layer", part or id_): size}
    return CacheEntry(id_, type_, f"RUN {id_}", NOW, NOW - age_s, parts=parts, **more)  # type: ignore[arg-type]


def names(entries: Sequence[CacheEntry]) -> list[str]:
    return [item.id for item in entries]


ENTRIES = (
    entry("aa1", age_s=8_000),
    entry("bb2", type_=MOUNT, is_mutable=True, is_in_use=True),
    entry("cc3", is_shared=True, parents=("aa1",)),
    entry("dd4", type_=LOCAL, is_mutable=True, age_s=1_000_000),
)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ([], ["aa1", "bb2", "cc3", "dd4"]),
        (["type=regular"], ["aa1", "cc3"]),
        (["type==regular"], ["aa1", "cc3"]),
        (["type!=regular"], ["bb2", "dd4"]),
        (["type~=^source"], ["dd4"]),
        (["id=^c"], ["cc3"]),
        (["id~=[ab]"], ["aa1", "bb2"]),
        (["id!=aa1"], ["bb2", "cc3", "dd4"]),
        (["description=RUN aa1"], ["aa1"]),
        (["description~=(aa|bb)"], ["aa1", "bb2"]),
        (["parents=aa1"], ["cc3"]),
        (["parents"], ["cc3"]),
        (["inuse"], ["bb2"]),
        (["inuse=false"], ["aa1", "cc3", "dd4"]),
        (["inuse!=true"], ["aa1", "cc3", "dd4"]),
        (["shared"], ["cc3"]),
        (["private"], ["aa1", "bb2", "dd4"]),
        (["mutable"], ["bb2", "dd4"]),
        (["immutable=true"], ["aa1", "cc3"]),
        (["until=24h"], ["dd4"]),
        (["unused-for=2h"], ["aa1", "dd4"]),
        (["until=2h", "type=regular"], ["aa1"]),
    ],
)
def test_filters(words: list[str], ids: list[str]) -> None:
    chosen = parse_filters(words)
    assert names([item for item in ENTRIES if chosen.fit(item)]) == ids


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["colour=red"], "invalid filter 'colour'"),
        (["type=a", "type=b"], "more than one type filter specified"),
        (["until=1h", "unused-for=2h"], "more than one until filter specified"),
        (["until=x"], "invalid filter 'until=x'"),
        (["inuse=maybe"], "invalid filter 'inuse=maybe'"),
        (["id~=["], r"invalid filter 'id~=\['"),
    ],
)
def test_wrong_filters(words: list[str], message: str) -> None:
    with pytest.raises(PybuildError, match=message):
        parse_filters(words)


@pytest.mark.parametrize("word", ["", "=x", "!=x"])
def test_what_is_no_filter(word: str) -> None:
    with pytest.raises(UsageError, match="bad format of filter"):
        parse_filters([word])


def view(*entries: CacheEntry, pinned: Sequence[str] = ()) -> CacheView:
    return CacheView(entries, frozenset(("layer", name) for name in pinned))


def test_what_is_used_or_shared_stays() -> None:
    seen = view(*ENTRIES, pinned=["cc3"])
    assert sorted(names(plan(seen, Policy()).going)) == ["aa1", "dd4"]
    whole = plan(seen, Policy(everything=True))
    assert sorted(names(whole.going)) == ["aa1", "cc3", "dd4"]
    # The image keeps its layer.
    assert whole.freed_bytes == 20


def test_a_part_is_freed_with_its_last_user() -> None:
    seen = view(entry("a", part="same"), entry("b", part="same", age_s=5), entry("c"))
    assert seen.total_bytes() == 20
    assert plan(seen, Policy(filters=parse_filters(["id=a"]))).freed_bytes == 0
    assert plan(seen, Policy(filters=parse_filters(["id=[ab]"]))).freed_bytes == 10


def test_long_unused_and_little_used_ones_go_first() -> None:
    old, busy, new = entry("old", age_s=9), entry("busy", age_s=9, uses=5), entry("new")
    assert names(ranked([new, busy, old])) == ["old", "new", "busy"]


def test_what_lies_upon_others_goes_before_them() -> None:
    base = entry("base", age_s=100)
    middle = entry("middle", age_s=50, parents=("base",), depth=1)
    top = entry("top", parents=("middle",), depth=2)
    assert names(ranked([base, middle, top])) == ["top", "middle", "base"]


LIMITED = view(
    entry("a", age_s=400), entry("b", age_s=300), entry("c", age_s=200), entry("d", age_s=100)
)


@pytest.mark.parametrize(
    ("policy", "free", "ids"),
    [
        (Policy(), 0, ["a", "b", "c", "d"]),
        (Policy(max_used=40), 0, []),
        (Policy(max_used=39), 0, ["a"]),
        (Policy(max_used=20), 0, ["a", "b"]),
        (Policy(max_used=1, reserved=25), 0, ["a", "b"]),
        (Policy(reserved=25), 0, ["a", "b"]),
        (Policy(min_free=100), 100, []),
        (Policy(min_free=100), 85, ["a", "b"]),
        (Policy(min_free=100, max_used=35), 85, ["a", "b"]),
        (Policy(min_free=100, reserved=35), 0, ["a"]),
        (Policy(min_free=1000), 0, ["a", "b", "c", "d"]),
        (Policy(max_used=10, filters=parse_filters(["id=[cd]"])), 0, ["c", "d"]),
    ],
)
def test_limits(policy: Policy, free: int, ids: list[str]) -> None:
    chosen = plan(LIMITED, policy, free)
    assert names(chosen.going) == ids
    assert chosen.freed_bytes == 10 * len(ids)


def test_what_went_is_gone_for_the_next_policy() -> None:
    first = plan(LIMITED, Policy(max_used=25))
    left = without(LIMITED, first)
    assert names(left.entries) == ["c", "d"]
    assert names(plan(left, Policy(max_used=15)).going) == ["c"]
