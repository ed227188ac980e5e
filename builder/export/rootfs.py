"""The file system that a build made, without an image around it: types local and tar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from builder.errors import ExportError
from builder.export.archive import write_file
from builder.export.foldercopy import write_folder
from builder.request import Output
from builder.site import Site, Step
from runtime.mounting import open_overlay
from store.digest import DiffID
from store.treetar import write_tree

_NAMES = {"local": "exporting to client directory", "tar": "exporting to client tarball"}


def write_rootfs(site: Site, chain: Sequence[DiffID], output: Output) -> None:
    """Write the file system of `chain` to the output's `dest`, as a step of its own.

    Nothing is half-made after an error. Raises ExportError, StoreError, RuntimeFailure, Canceled.
    """
    dest = output.option("dest")
    assert dest is not None, "destinations.check_outputs has seen to it"
    step = site.progress.begin(_NAMES[output.type])
    try:
        with _root_of(site, chain) as root_fd:
            if output.type == "local":
                _copy(root_fd, dest, lambda: site.pause(0), step)
            else:
                _write_tar(root_fd, dest, lambda: site.pause(0), step)
    except BaseException as error:
        step.failed(error)
        raise
    step.done()


@contextmanager
def _root_of(site: Site, chain: Sequence[DiffID]) -> Iterator[int]:
    root_fd = open_overlay(site.store.snapshots.view(chain))
    try:
        yield root_fd
    finally:
        os.close(root_fd)


def _copy(root_fd: int, dest: str, check: Callable[[], None], step: Step) -> None:
    step.message(f"copying files to {dest}")
    try:
        write_folder(root_fd, dest, check)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ExportError(f"write {dest}: {cause}") from error


def _write_tar(root_fd: int, dest: str, check: Callable[[], None], step: Step) -> None:
    if dest == "-":
        step.message("sending tarball")
        write_tree(root_fd, sys.stdout.buffer, check)
        return
    step.message(f"writing tarball to {dest}")

    def write(file: BinaryIO) -> None:
        write_tree(root_fd, file, check)

    write_file(dest, write)
