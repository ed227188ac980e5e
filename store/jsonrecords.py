"""JSON records: small files that are written whole or not at all, and that anyone can `cat`.

Owns reading, writing and removing them durably. Refuses to know what they say. A record carries
its format's version number under "version".
"""

import os
from collections.abc import Mapping

from store.document import Fields, decode, encode_readable
from store.errors import NewerFormat, disk_errors
from store.folder import Folder, sync_directory, write_durably


def write(folder: Folder, path: str, value: Mapping[str, object]) -> None:
    """Make `value` the content of the record `path`; parent directories are made.

    When this returns the record survives a power cut; a kill leaves the old record or the new.
    """
    with disk_errors("write record", path):
        _make_dirs(os.path.dirname(path))
        write_durably(folder, path, encode_readable(value))


def read(path: str, what: str, version: int) -> Fields | None:
    """Return the fields of the record `path` without its version, or None when there is none.

    what: names the record in errors. Raises Corrupt when it is broken, NewerFormat when its
    version is above `version`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields = decode(data, f"{what} {path}")
    written = fields.integer("version")
    if written > version:
        raise NewerFormat(
            f"{what} {path} has version {written}, this program knows {version}",
            hint="use a newer pybuild",
        )
    return fields


def remove(path: str, *, up_to: str) -> bool:
    """Remove the record `path`, durably, and its parents below `up_to` that are empty then.

    Returns whether there was one.
    """
    with disk_errors("remove record", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        parent = os.path.dirname(path)
        sync_directory(parent)
        while parent != up_to:
            try:
                os.rmdir(parent)
            except OSError:
                break  # not empty
            parent = os.path.dirname(parent)
    return True


def _make_dirs(path: str) -> None:
    """Make the directory `path` and its parents, each durable in its parent."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_dirs(os.path.dirname(path))
        _make_dirs(path)
        return
    sync_directory(os.path.dirname(path))
