import errno
import os
from pathlib import Path

import pytest

from store.errors import DiskFull, NotFound, StoreError, disk_errors, mount_point_of


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught, disk_errors("unpack layer x", tmp_path / "absent"):
        raise OSError(number, "whatever")
    assert str(caught.value).startswith("unpack layer x: ")
    assert str(caught.value).endswith(f" on {mount_point_of(str(tmp_path))}")
    assert caught.value.hint
    assert "free some space" in caught.value.hint


def test_other_errors_keep_their_cause() -> None:
    with pytest.raises(StoreError) as caught, disk_errors("read blob", "/"):
        os.stat("/does/not/exist")
    assert str(caught.value) == "read blob: /does/not/exist: no such file or directory"
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_store_errors_pass_through() -> None:
    with pytest.raises(NotFound), disk_errors("read blob", "/"):
        raise NotFound("image x")


def test_mount_point_of_a_path_that_is_not_there() -> None:
    assert mount_point_of("/proc/no/such/thing") == "/proc"
