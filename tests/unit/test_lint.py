"""Style and types are tests: what the tools find fails here, with their own words."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMANDS = {
    "ruff check": ["ruff", "check", "--quiet", "."],
    "ruff format": ["ruff", "format", "--quiet", "--diff", "."],
    "mypy": ["mypy", "--no-error-summary"],  # strict, and which packages: pyproject.toml
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_found(name: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"{name}:\n{found.stdout}"
