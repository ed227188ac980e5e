"""The test suites of runc and crun on our runtime: what fails is listed, with the reason."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from judges import suites

pytestmark = pytest.mark.kernel

# The quick files that see most of a runtime.
RUNC = ("cwd.bats", "mask.bats", "mounts.bats")
CRUN = ("test_capabilities.py", "test_uid_gid.py")


@pytest.fixture
def work(tool: Callable[[str], str], tmp_path: Path) -> Path:
    """Return a folder that an ordinary user may pass, for a suite that cleans up behind itself."""
    for name in suites.NEEDED:
        tool(name)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


def failures(outcomes: Iterable[suites.Outcome]) -> tuple[int, dict[str, str]]:
    """Return how many tests passed, and those that failed with their part of the log."""
    count, failed = 0, {}
    with suites.left_alone():
        for outcome in outcomes:
            count += len(outcome.passed)
            failed |= outcome.failed
    return count, failed


def unexpected(suite: str, failed: dict[str, str]) -> dict[str, str]:
    reasons = suites.known(suite) | suites.known("may-fail")
    return {title: log for title, log in failed.items() if title not in reasons}


def test_runc(executable, work, rounds, request):
    files = suites.all_files("runc")
    whole = rounds(len(files), len(RUNC)) == len(files)
    debian = request.getfixturevalue("debian_rootfs_tar") if whole else None
    count, failed = failures(suites.runc(executable, work, files if whole else RUNC, debian))
    assert not unexpected("runc", failed)
    assert count > (100 if whole else 8)
    assert not whole or not suites.known("runc").keys() - failed.keys()


def test_crun(executable, work, rounds):
    files = suites.all_files("crun")
    whole = rounds(len(files), len(CRUN)) == len(files)
    count, failed = failures(suites.crun(executable, work, files if whole else CRUN))
    assert not unexpected("crun", failed)
    assert count > (55 if whole else 12)
