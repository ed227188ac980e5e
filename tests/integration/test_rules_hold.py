"""Each rule of testdata/rules.toml switched off, in a copy of the project: its tests notice.

A test that cannot fail proves nothing. All changes are tried by `make test-full`, a few otherwise.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "testdata/rules.toml").read_text())["rule"]
FULL = os.environ.get("PYBUILD_FULL") == "1"
HANGS_S = "600"
ALWAYS = {"the parent is exact-0", "writers begin as writers-0"}
CASES = [
    (f"{rule['name']}-{number}", off, off.get("tests", rule["tests"]))
    for rule in RULES
    for number, off in enumerate(rule.get("off", ()))
    if FULL or f"{rule['name']}-{number}" in ALWAYS
]
COUNT = sum(len(rule.get("off", ())) for rule in RULES)
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".*_cache", ".hypothesis", "*.egg-info"
)
FAILED = 1  # pytest's exit status when tests failed; others mean that it could not run them


@pytest.mark.parametrize(("off", "tests"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_rule_switched_off_is_noticed(off, tests, project, tmp_path, rounds) -> None:
    assert rounds(COUNT, len(ALWAYS)) == len(CASES)
    copy = tmp_path / "project"
    shutil.copytree(project, copy, symlinks=True, ignore=LEFT_OUT)
    # What is fetched and made once is shared.
    for kept in (".venv", ".cache"):
        if (project / kept).exists() and not (copy / kept).exists():
            (copy / kept).symlink_to(project / kept)
    path = copy / off["file"]
    path.write_text(path.read_text().replace(off["from"], off["to"]))
    # A test that hangs without the rule has not noticed it, and may not hold up the others.
    limit = ["timeout", "--signal=KILL", HANGS_S]
    done = subprocess.run(
        [*limit, sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYBUILD_FULL": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(copy)
    assert done.returncode == FAILED, done.stdout[-5000:] + done.stderr
    assert " failed" in done.stdout.splitlines()[-1], done.stdout
