"""What every test may ask for: tools, privileges, rounds, and the rule that CI skips nothing.

A skip names the capability that is missing. With CI=true a skip is a failure: a build machine has
everything (`make test` installs it), so a test that did not run there has not passed.
"""

import ctypes
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import memory
import pytest
from hypothesis import settings

CI = os.environ.get("CI") == "true"
FULL = os.environ.get("PYBUILD_FULL") == "1"
# No test is decided by how busy the machine is. `make test` tries the same examples everywhere; new
# ones are looked for by `make test-full`.
settings.register_profile("any-machine", deadline=None, derandomize=not FULL)
settings.load_profile("any-machine")
PROJECT = Path(__file__).parents[1]
# Whose files are on a real disk: they are about what disks do, or about what a build makes.
ON_DISK = (
    *("tests/unit/store/", "tests/unit/runtime/", "tests/conformance/"),
    *(f"tests/integration/{folder}/" for folder in ("oci", "rootless", "runtime", "vm")),
    *(
        f"tests/integration/test_{subject}"
        for subject in (
            *(
                "build",
                "copy",
                "faults",
                "full_disks",
                "image_files",
                "kills",
                "peers",
                "platforms",
            ),
            *("hostile", "pytest_plugin", "python_api", "seccomp", "store", "wheel"),
        )
    ),
)
CLONE_NEWNS = 0x00020000
EPERM = 1


def missing_privilege() -> str:
    """Return what this process lacks for the tests marked `kernel`, or an empty string."""
    if os.geteuid() != 0:
        return "root"
    # Root in an unprivileged container may not mount. Tried in a child: unshare cannot be undone.
    child = os.fork()
    if child == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0 else EPERM)
    _, status = os.waitpid(child, 0)
    return "" if status == 0 else "the right to make mount namespaces (CAP_SYS_ADMIN)"


def pytest_configure(config: pytest.Config) -> None:
    # Below nohup or `&` of a script SIGINT is ignored, and what tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Asked once, before any test has threads.
    config.stash[PRIVILEGE] = missing_privilege()


PRIVILEGE: pytest.StashKey[str] = pytest.StashKey()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest at a stretch, so that no worker ends long after the others."""
    items.sort(key=lambda item: "/vm/" not in item.nodeid)


def pytest_report_header() -> list[str]:
    rounds = "full (PYBUILD_FULL=1)" if FULL else "reduced; make test-full runs the full counts"
    return [f"rounds: {rounds}", f"skips: {'are failures (CI=true)' if CI else 'allowed'}"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    lacking = item.config.stash[PRIVILEGE]
    if lacking and item.get_closest_marker("kernel"):
        pytest.skip(f"needs {lacking}")


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where CI=true. An expected failure is not a skip."""
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI=true: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    forbid_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the rounds of every slow test: nobody should take a reduced run for a full one."""
    chosen = [
        (report.nodeid, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, value in report.user_properties
        if key == "rounds"
    ]
    if chosen:
        terminalreporter.section("rounds")
        for nodeid, text in sorted(chosen):
            terminalreporter.line(f"{text:>12}  {nodeid}")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return a function: rounds(full, reduced) is how often this run repeats the slow part."""

    def choose(full: int, reduced: int) -> int:
        count = full if FULL else min(full, reduced)
        request.node.user_properties.append(("rounds", f"{count} of {full}"))
        return count

    return choose


@pytest.fixture(scope="session")
def memory_folder() -> Iterator[Path | None]:
    """Return a folder in memory; None where there is none, and in full runs, which use disks."""
    if FULL:
        yield None
        return
    with memory.folder() as found:
        yield found


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, tmp_path: Path, memory_folder: Path | None
) -> Iterator[Path]:
    """Return a new folder: on the disk for what is about stores or kernels, else in memory."""
    if memory_folder is None or request.node.nodeid.startswith(ON_DISK):
        yield tmp_path
        return
    found = memory_folder / tmp_path.name
    found.mkdir()
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a function: tool("skopeo") is the path of that program, or the test is skipped."""

    def find(name: str) -> str:
        # Debian keeps runc in sbin, which an ordinary user's PATH lacks.
        path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"needs {name} (make test-deps installs it)")
        return path

    return find


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the folder of the source tree."""
    return PROJECT
