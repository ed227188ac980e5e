"""The file system of a container as a tar: `export`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from pybuild.engine import records
from pybuild.errors import ContainerError

if TYPE_CHECKING:
    from pybuild.engine.records import ContainerRecord
    from store.mount import OverlayMount
    from store.root import Store


def export(store: Store, name: str, target: BinaryIO) -> None:
    """Write the root file system of the container `name`, running or not, to `target` as a tar.

    What is mounted into it (binds, /proc) shows as the empty folders and files below the mounts.
    Raises ContainerError, RuntimeFailure, StoreError.
    """
    from runtime.mounting import open_overlay
    from store.treetar import write_tree

    with store.lease():
        mount = read_only(store, records.find(store, name))
        root_fd = open_overlay(mount)
        try:
            write_tree(root_fd, target)
        finally:
            os.close(root_fd)


def read_only(store: Store, record: ContainerRecord) -> OverlayMount:
    """Return how to look at a container's tree: an upper directory can be mounted only once.

    Raises ContainerError.
    """
    from store.digest import DiffID

    upper = os.path.join("snapshots", record.snapshot, "fs")
    if not record.snapshot or not os.path.isdir(os.path.join(store.root, upper)):
        raise ContainerError(f"container {record.name}: its files are gone")
    return store.snapshots.look(record.snapshot, tuple(map(DiffID, record.layers)))
