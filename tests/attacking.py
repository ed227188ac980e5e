"""What attacks on containers are made of: our command line without a guard, and who swaps files."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

UNGUARDED = """
import os, sys
sys.path.append({project!r})
from runtime.command.main import leave, main
{change}
leave(main(sys.argv[1:]))
"""


def quietly(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.stdout


def write(folder: Path, spec: dict) -> None:
    (folder / "config.json").write_text(json.dumps(spec))


def read(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


NAIVE_READING = """
from runtime.launch import accounts
def naive(root, path, limit):
    with open(os.open(path, os.O_RDONLY, dir_fd=root), "rb") as file:
        return file.read()
accounts.read_regular = naive
"""


def open_when_somebody_reads(fifo: Path, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody yet
            time.sleep(0.01)
    pytest.fail("nobody opened it")


SWAP = """
import ctypes, os, sys
os.chdir(sys.argv[1])
call = ctypes.CDLL(None).renameat2
while call(-100, b"a", -100, b"b", 2) == 0:  # neither is ever missing
    pass
"""


@contextlib.contextmanager
def swapped(volume: Path) -> Iterator[subprocess.Popen]:
    """Let another process swap a directory and a symlink in `volume` all the time."""
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, volume])
    try:
        yield swapping
    finally:
        swapping.kill()
        swapping.wait()
