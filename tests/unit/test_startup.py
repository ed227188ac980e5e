"""Start-up is a promise: a verb imports what it needs and nothing else.

The seconds are measured by bench/; a test asks only what was imported, which does not depend on
how busy the machine is.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each costs a verb that does not need it between 12 and 150 ms.
HEAVY = {"lark", "networkx", "requests", "pyroute2", "rich", "zstandard", "isal", "asyncio"}
HEAVY |= {"http", "logging", "tarfile"}
# dataclasses brings inspect, ast, dis and tokenize: 5 to 10 ms.
HEAVY |= {"dataclasses", "inspect"}

PROBE = """
import sys
from pybuild.__main__ import main
sys.argv[0] = "pybuild"
try:
    code = main()
finally:
    names = {name.partition(".")[0] for name in sys.modules}
    sys.stderr.write("\\nimported: " + " ".join(sorted(names)) + "\\n")
sys.exit(code)
"""


def imported_by(root: Path, *words: str) -> set[str]:
    """Run a verb in a fresh interpreter and return the top-level modules it has loaded."""
    environment = {**os.environ, "PYBUILD_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("imported:")[2].split())


@pytest.mark.parametrize("words", [("images",), ("version",), ("--help",), ("build", "--help")])
def test_a_verb_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    modules = imported_by(tmp_path / "store", *words)
    assert "pybuild" in modules
    assert not modules & HEAVY


def test_the_probe_sees_what_is_imported(tmp_path: Path) -> None:
    modules = imported_by(tmp_path / "store", "version")
    assert {"sys", "os", "pybuild"} <= modules


def test_folders_of_the_working_directory_do_not_become_our_packages(tmp_path: Path) -> None:
    for name in ("store", "runtime", "builder", "grammar"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pybuild", "images"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYBUILD_ROOT": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
