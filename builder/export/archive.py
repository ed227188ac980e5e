"""A finished image as an archive: `--output type=oci,dest=FILE`, `type=docker`."""

import os
import sys
from collections.abc import Callable
from typing import BinaryIO

from builder.errors import ExportError
from builder.export.destinations import is_folder
from builder.request import Output
from builder.site import Step
from store.archive import export_docker, export_oci, export_oci_folder
from store.images import Image
from store.reference import Reference
from store.root import Store

Writer = Callable[[BinaryIO], None]


def write_archive(
    store: Store, image: Image, references: tuple[Reference, ...], output: Output, step: Step
) -> None:
    """Write `image` to the output's `dest`; a file appears under its name only when whole.

    Raises ExportError, StoreError.
    """
    dest = output.option("dest")
    assert dest is not None, "destinations.check_outputs has seen to it"
    compression = output.option("compression") or "gzip"
    if is_folder(output):
        step.message(f"writing {output.type} layout to {dest}")
        export_oci_folder(store, image, dest, references=references, compression=compression)
        return

    def write(file: BinaryIO) -> None:
        if output.type == "oci":
            export_oci(store, image, file, references=references, compression=compression)
        else:
            export_docker(store, [(image, references)], file)

    if dest == "-":
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    step.message(f"writing {output.type} archive to {dest}")
    write_file(dest, write)


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
