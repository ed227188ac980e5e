"""The question before something is deleted, as docker asks it."""

from __future__ import annotations

import sys


def confirmed(warning: str) -> bool:
    """Ask whether to go on; the end of the input means no."""
    print(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() == "y"
