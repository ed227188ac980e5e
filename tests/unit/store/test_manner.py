"""Who may use a store that another has made."""

import json
from pathlib import Path

import pytest

from store import manner
from store.errors import StoreError
from store.manner import ROOTS, Manner
from store.root import Store

OWN = (0, 1000, 1)
MANY = Manner("user", True, (OWN, (1, 100000, 65536)), (OWN, (1, 100000, 65536)))
MORE = Manner("user", True, (*MANY.uids, (65537, 300000, 10)), MANY.gids)
OTHERS = Manner("user", True, (OWN, (1, 200000, 65536)), (OWN, (1, 200000, 65536)))
ONE = Manner("user", False, (OWN,), (OWN,))
ALL = Manner("user", True, ((0, 0, 4294967295),), ((0, 0, 4294967295),))


@pytest.mark.parametrize(
    ("ours", "made", "fits"),
    [
        (ROOTS, ROOTS, True),
        (MANY, MANY, True),
        (MORE, MANY, True),
        (MANY, MORE, False),
        (MANY, OTHERS, False),
        (MANY, ROOTS, False),
        (ROOTS, MANY, False),
        (ONE, ONE, True),
        (ONE, MANY, False),
        (MANY, ONE, False),
        (ALL, ROOTS, False),
    ],
)
def test_the_same_file_must_mean_the_same(ours: Manner, made: Manner, fits: bool) -> None:
    assert ours.can_use(made) == fits


def test_a_store_says_how_it_was_made(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store.open(root).close()
    noted = root / "manner"
    if manner.current() == ROOTS:
        assert not noted.exists()
    noted.write_text(json.dumps(["user", True, OTHERS.uids, OTHERS.gids]))
    with pytest.raises(StoreError, match="made with 65537 ids, this process works "):
        Store.open(root)
    noted.write_text("[1")
    with pytest.raises(StoreError, match="its manner file is damaged"):
        Store.open(root)
