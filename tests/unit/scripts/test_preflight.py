"""scripts/preflight: everything that is missing, in one line."""

import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def preflight(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "scripts" / "preflight", "demo"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_python_is_named_in_one_line() -> None:
    result = preflight(PYTHON="no-such-python")
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("make demo: missing: ")
    assert "python3 (apt-get install python3 python3-venv)" in line


def test_an_old_python_is_named_with_its_version(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = preflight(PYTHON=str(old))
    assert result.returncode == 1
    assert "python 3.11 or newer" in result.stderr
    assert "Python 3.9.2" in result.stderr
