import threading
from pathlib import Path

import pytest

from store.digest import digest_of
from store.keylocks import held_key

ONE, TWO = digest_of(b"1"), digest_of(b"2")


class GaveUp(Exception):
    pass


def give_up(_seconds: float) -> None:
    raise GaveUp


def test_a_key_is_held_once(tmp_path: Path) -> None:
    path = str(tmp_path / "keys")
    with held_key(path, ONE, give_up):
        with held_key(path, TWO, give_up):
            pass
        with pytest.raises(GaveUp), held_key(path, ONE, give_up):
            pass
    with held_key(path, ONE, give_up):
        pass
    assert (tmp_path / "keys").stat().st_size == 0


def test_a_waiter_gets_it_when_the_holder_is_done(tmp_path: Path) -> None:
    path = str(tmp_path / "keys")
    waited, entered = threading.Event(), threading.Event()

    def second() -> None:
        with held_key(path, ONE, lambda _seconds: waited.set()):
            entered.set()

    thread = threading.Thread(target=second)
    with held_key(path, ONE, give_up):
        thread.start()
        assert waited.wait(30)
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()
