import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store.errors import InUse
from store.locks import acquire, held, quote


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside = []
    overlaps = []

    def work() -> None:
        for _ in range(50):
            with held(str(tmp_path / "lock")):
                inside.append(1)
                overlaps.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(overlaps) == {1}


def test_shared_locks_live_together_and_keep_an_exclusive_one_out(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first, second = acquire(path, shared=True), acquire(path, shared=True)
    os.close(first)
    with pytest.raises(InUse, match="held by another process"):
        acquire(path, blocking=False)
    os.close(second)
    os.close(acquire(path, blocking=False))


def test_a_child_that_inherited_the_lock_keeps_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    fd = acquire(path)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=(fd,),
    )
    os.close(fd)
    with pytest.raises(InUse):
        acquire(path, blocking=False)
    child.communicate()
    os.close(acquire(path, blocking=False))


def test_the_lock_file_stays(tmp_path: Path) -> None:
    with held(str(tmp_path / "lock")):
        pass
    assert (tmp_path / "lock").exists()


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("layer sha256:ab", "layer%20sha256:ab"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        ("100%", "100%25"),
        ("ü", "%C3%BC"),
    ],
)
def test_quote(name: str, quoted: str) -> None:
    assert quote(name) == quoted


def test_long_names_stay_apart() -> None:
    one, other = quote("x" * 5000), quote("x" * 4999 + "y")
    assert one != other
    assert len(one) <= 200
