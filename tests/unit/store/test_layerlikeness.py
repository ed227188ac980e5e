"""Two layers are alike when nothing but excused times differs."""

import io
import tarfile
from collections.abc import Callable

import pytest

from store.layerlikeness import alike
from store.root import Store

NOW = 1_700_000_000
Change = Callable[[tarfile.TarInfo], object]


def member(name: str, **changes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = NOW
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def files(**changes: object) -> bytes:
    big = b"x" * 600_000
    directory = member("d", type=tarfile.DIRTYPE, mode=0o755)
    return tar((directory, b""), (member(**{"name": "d/a", **changes}), big), (member("d/b"), b"b"))


def both(store: Store, first: bytes, second: bytes, excused: bool = False) -> bool:
    sources = [store.layers.source(store.layers.unpack([data])) for data in (first, second)]
    return alike(sources[0], sources[1], lambda _one, _other: excused)


@pytest.mark.parametrize(
    ("changes", "is_alike"),
    [
        ({}, True),
        ({"mode": 0o600}, False),
        ({"uid": 5}, False),
        ({"gid": 5}, False),
        ({"name": "d/c"}, False),
        ({"pax_headers": {"SCHILY.xattr.user.a": "v"}}, False),
        ({"mtime": NOW + 1}, False),
    ],
)
def test_an_entry(store: Store, changes: dict[str, object], is_alike: bool) -> None:
    assert both(store, files(), files(**changes)) is is_alike


def test_times_that_are_excused(store: Store) -> None:
    asked: list[tuple[int, int]] = []
    first, second = (
        store.layers.source(store.layers.unpack([data])) for data in (files(), files(mtime=NOW + 9))
    )

    def same_time(one: int, other: int) -> bool:
        asked.append((one, other))
        return True

    assert alike(first, second, same_time)
    assert asked == [(NOW * 10**9, (NOW + 9) * 10**9)], "equal times are no question"


def test_bytes(store: Store) -> None:
    one = tar((member("a"), b"x" * 300_000 + b"1"))
    other = tar((member("a"), b"x" * 300_000 + b"2"))
    assert not both(store, one, other, excused=True)


def test_links_and_order_and_whiteouts(store: Store) -> None:
    linked = tar((member("a"), b"1"), (member("b", type=tarfile.LNKTYPE, linkname="a"), b""))
    apart = tar((member("a"), b"1"), (member("b"), b"1"))
    turned = tar((member("b"), b"1"), (member("a"), b"1"))
    removed = tar((member("a"), b"1"), (member(".wh.b"), b""))
    for other in (apart, turned, removed, tar((member("a"), b"1"))):
        assert not both(store, linked, other, excused=True)
