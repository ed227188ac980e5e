"""The file system that a build made, without an image around it: types local and tar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from builder.errors import ExportError
from builder.export.archive import write_file
from builder.export.attestations import Statement
from builder.export.foldercopy import write_folder
from builder.export.products import Product, Variant
from builder.request import Output
from builder.site import Site, Step
from runtime.mounting import open_overlay
from store.digest import DiffID
from store.oci import Platform
from store.trash import delete_at
from store.treetar import write_trees

_NAMES = {"local": "exporting to client directory", "tar": "exporting to client tarball"}


Attest = Callable[[Variant], Sequence[Statement]]


def write_rootfs(site: Site, product: Product, output: Output, attest: Attest) -> None:
    """Write the files of a product to the output's `dest`, as a step of its own.

    attest: gives what is attested of a variant; that is written as files, too.
    Several platforms go into folders of theirs, linux_amd64 and so on, unless it is asked for to
    be otherwise. Nothing is half-made after an error. Raises ExportError, StoreError,
    RuntimeFailure, Canceled.
    """
    dest = output.option("dest")
    assert dest is not None, "destinations.check_outputs has seen to it"
    step = site.progress.begin(_NAMES[output.type])
    try:
        is_split = output.is_on("platform-split", default=len(product.variants) > 1)
        is_exact, written = output.option("mode") == "delete", dict[str, str]()
        if output.type == "tar":
            _write_tar(site, product, dest, step, attest, is_split=is_split)
        else:
            for variant in product.variants:
                folder = os.path.join(dest, folder_of(variant.platform)) if is_split else dest
                site.absent.need(variant.chain)
                suffix = "" if is_split else _suffix(product, variant)
                with _root_of(site, variant.chain) as root_fd, ExitStack() as stack:
                    for fd in (root_fd, *_attested(site, attest(variant), root_fd, suffix, stack)):
                        # What comes after the first belongs beside it.
                        is_first = folder not in written
                        _copy(fd, folder, site, step, is_exact=is_exact and is_first)
                        written[folder] = os.path.basename(folder)
            if is_split and is_exact:
                _keep_only(dest, set(written.values()))
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


def _copy(root_fd: int, dest: str, site: Site, step: Step, *, is_exact: bool) -> None:
    step.message(f"copying files to {dest}")
    try:
        write_folder(root_fd, dest, lambda: site.pause(0), is_exact=is_exact)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ExportError(f"write {dest}: {cause}") from error


def _keep_only(dest: str, names: set[str]) -> None:
    """Remove what a folder holds besides these names. Raises ExportError."""
    try:
        fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in set(os.listdir(fd)) - names:
                delete_at(fd, name)
        finally:
            os.close(fd)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ExportError(f"write {dest}: {cause}") from error


def _suffix(product: Product, variant: Variant) -> str:
    """Return what tells the attestations of a variant from those of others in the same folder."""
    return f".{folder_of(variant.platform)}" if len(product.variants) > 1 else ""


def _attested(
    site: Site, statements: Sequence[Statement], root_fd: int, suffix: str, stack: ExitStack
) -> tuple[int, ...]:
    """Return the directory with the attestations of a root, until `stack` ends; none without."""
    if not statements:
        return ()
    from builder.export.attestedfiles import attested_folder

    folder = attested_folder(site.store, statements, root_fd, suffix, lambda: site.pause(0))
    return (stack.enter_context(folder),)


def _write_tar(
    site: Site, product: Product, dest: str, step: Step, attest: Attest, *, is_split: bool
) -> None:
    if len(product.variants) > 1 and not is_split:
        raise ExportError(
            "write tar: several platforms have the same paths",
            hint="leave platform-split out",
        )

    def write(file: BinaryIO) -> None:
        with ExitStack() as stack:
            trees: list[tuple[bytes, int]] = []
            for variant in product.variants:
                site.absent.need(variant.chain)
                folder = os.fsencode(folder_of(variant.platform)) if is_split else b""
                root_fd = stack.enter_context(_root_of(site, variant.chain))
                beside = _attested(site, attest(variant), root_fd, "", stack)
                trees += [(folder, fd) for fd in (root_fd, *beside)]
            trees.sort(key=lambda tree: tree[0])
            write_trees(trees, file, lambda: site.pause(0))

    if dest == "-":
        step.message("sending tarball")
        write(sys.stdout.buffer)
        return
    step.message(f"writing tarball to {dest}")
    write_file(dest, write)


def folder_of(platform: Platform) -> str:
    """Return the name of a platform's folder: linux_amd64."""
    return str(platform).replace("/", "_")
