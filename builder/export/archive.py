"""Finished images as an archive: `--output type=oci,dest=FILE`, `type=docker`."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO

from builder.errors import ExportError
from builder.export.destinations import is_folder
from builder.request import Output
from builder.site import Step
from store.archive import write_exported
from store.layout import Exported
from store.root import Store

Writer = Callable[[BinaryIO], None]


def write_images(store: Store, images: Sequence[Exported], output: Output, step: Step) -> None:
    """Write images to the output's `dest`; a file appears under its name only when whole.

    Raises ExportError, StoreError.
    """
    dest, docker = output.option("dest"), output.type == "docker"
    assert dest is not None, "destinations.check_outputs has seen to it"
    if is_folder(output):
        step.message(f"writing {output.type} layout to {dest}")
        write_exported(store, images, dest, docker=docker)
        return
    if dest == "-":
        write_exported(store, images, sys.stdout.buffer, docker=docker)
        sys.stdout.buffer.flush()
        return
    step.message(f"writing {output.type} archive to {dest}")
    write_file(dest, lambda file: write_exported(store, images, file, docker=docker))


def write_file(dest: str, write: Writer) -> None:
    """Write a file beside `dest` and rename it when it is whole. Raises ExportError.

    A pipe or a device is written as it is.
    """
    if os.path.exists(dest) and not os.path.isfile(dest):
        _write_special(dest, write)
        return
    temporary = os.path.join(
        os.path.dirname(dest) or ".", f".{os.path.basename(dest)}.{os.getpid()}"
    )
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, dest)
    except OSError as error:
        raise ExportError(f"write {dest}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _write_special(dest: str, write: Writer) -> None:
    try:
        with open(dest, "wb") as file:
            write(file)
    except OSError as error:
        raise ExportError(f"write {dest}: {(error.strerror or str(error)).lower()}") from error
