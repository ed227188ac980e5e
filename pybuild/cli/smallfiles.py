"""The small files that options name for a result: `--iidfile`, `--metadata-file`.

That one cannot be is said before anything is built; what is written at the end is there whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EACCES, EISDIR, ENOENT

from pybuild.cli.options import Parsed
from pybuild.errors import PybuildError


def check_small_files(parsed: Parsed, *options: str) -> None:
    """Refuse files that could not be written, as far as looking tells. Raises PybuildError."""
    for option in options:
        path = parsed.text(option)
        if path is not None:
            try:
                _check(path)
            except OSError as error:
                raise _failure(f"--{option}", path, error) from error


def write_small_file(option: str, path: str, text: str) -> None:
    """Write a small file whole: beside its name first. Raises PybuildError."""
    is_stream = _is_stream(path)
    beside = path if is_stream else _beside(path)
    try:
        with open(beside, "w") as file:
            file.write(text)
        if not is_stream:
            os.replace(beside, path)
    except OSError as error:
        if not is_stream:
            with suppress(OSError):
                os.unlink(beside)
        raise _failure(option, path, error) from error


def _check(path: str) -> None:
    """Raise the OSError that writing would, where it can be seen."""
    if os.path.isdir(path):
        raise OSError(EISDIR, os.strerror(EISDIR))
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise OSError(EACCES, os.strerror(EACCES))
        return
    with suppress(FileNotFoundError):
        os.lstat(_beside(path))  # a name that is too long, a folder that is a file
    folder = os.path.dirname(path) or "."
    if not path or not os.path.isdir(folder):
        raise OSError(ENOENT, os.strerror(ENOENT))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(EACCES, os.strerror(EACCES))


def _is_stream(path: str) -> bool:
    """Tell whether there is a pipe or a device, which nothing may take the place of."""
    return os.path.exists(path) and not os.path.isfile(path)


def _beside(path: str) -> str:
    return f"{path}.{os.getpid()}.part"


def _failure(option: str, path: str, error: OSError) -> PybuildError:
    return PybuildError(f"{option}: write {path}: {(error.strerror or str(error)).lower()}")
