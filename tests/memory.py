"""A folder in memory, for tests that are not about disks.

Removing a file that was flushed takes a millisecond on a disk, flushing more; a test that builds
does both some hundred times.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
FREE_GIB = 4
PREFIX = "pybuild-tests-"


@contextmanager
def folder() -> Iterator[Path | None]:
    """Give a new folder in memory, which goes afterwards; None where there is none fit for stores.

    Those of processes that were killed go too.
    """
    for left in SHARED_MEMORY.glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    try:
        made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHARED_MEMORY))
    except OSError:
        yield None
        return
    try:
        made.chmod(0o755)
        yield made if holds_stores(made) else None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def holds_stores(place: Path) -> bool:
    """Tell whether there is room, programs may run, and files have attributes of users'.

    These tmpfs has since Linux 6.6; in containers /dev/shm is often small and noexec.
    """
    found = os.statvfs(place)
    try:
        os.setxattr(place, "user.pybuild", b"")
    except OSError:
        return False
    os.removexattr(place, "user.pybuild")
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= FREE_GIB << 30
