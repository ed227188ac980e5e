"""When execute returns, the snapshot is nobody's any more."""

import errno
import os

import pytest

from runtime.linux.mount import make_detached

pytestmark = pytest.mark.kernel


def test_the_upper_directory_is_free_at_once(run, snapshot, rounds):
    """With index=on the kernel refuses an upper directory that another overlay still uses."""
    for _ in range(rounds(200, 20)):
        assert run("(sleep 77 &); exec 9>/x; sleep 88 & true").code == 0
        # The work directory's own folder, so that the index of this check stays out of the way.
        (snapshot.base / "check").mkdir(exist_ok=True)
        options = [
            ("lowerdir", str(snapshot.layer)),
            ("upperdir", str(snapshot.upper)),
            ("workdir", str(snapshot.base / "check")),
            ("index", "on"),
        ]
        try:
            os.close(make_detached("overlay", "overlay", options, 0))
        except OSError as error:
            assert error.errno != errno.EBUSY, "the container's mount still holds the directory"
            raise
