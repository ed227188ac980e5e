"""Parsed Dockerfiles, remembered by the digest of their text: an unchanged file loads no Lark.

A derived cache: it may be lost or dropped at any time, and one of another version of pybuild or
Python is not read. It lies in the store, whose owner alone may write there.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Callable

from builder import derived
from grammar import ast
from store.digest import digest_of, hex_of

# Of the newest trees so many are kept, and so many bytes; a tree of half of that is not.
_KEPT = 256
_KEPT_BYTES = 64 << 20

Parse = Callable[[bytes, str], ast.Dockerfile]


def parse_cached(data: bytes, name: str, folder: str, parse: Callable[[], Parse]) -> ast.Dockerfile:
    """Return the tree of a Dockerfile called `name`, from `folder` where it is known.

    parse: gives the parser; called only when it is needed. What the parser raises passes through.
    """
    text = fingerprint() + os.fsencode(name) + b"\0" + data
    path = os.path.join(folder, hex_of(digest_of(text)))
    known = load(path)
    if known is not None:
        return known
    tree = parse()(data, name)
    save(path, tree)
    return tree


def fingerprint() -> bytes:
    """Return what tells trees of different programs apart: the grammar's files, Python's version.

    The files count by name, size and time; asking the installed version takes ten times as long.
    """
    with os.scandir(os.path.dirname(ast.__file__)) as entries:
        found = sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
            for entry in entries
            if entry.name.endswith((".py", ".lark"))
        )
    return repr((found, sys.version_info[:3])).encode()


def load(path: str) -> ast.Dockerfile | None:
    """Return a remembered tree, None where there is none that can be read."""
    data = derived.read(path)
    tree = pickle.loads(data) if data is not None else None
    return tree if isinstance(tree, ast.Dockerfile) else None


def save(path: str, tree: ast.Dockerfile) -> None:
    """Remember a tree; losing it is no error. The oldest go when there are many."""
    data = pickle.dumps(tree, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) > _KEPT_BYTES // 2:
        return
    if derived.write(path, data):
        with contextlib.suppress(OSError):
            drop_oldest(os.path.dirname(path))


def drop_oldest(folder: str) -> None:
    """Keep the newest trees only; other files in the folder are the grammar's tables."""
    with os.scandir(folder) as entries:
        found = [(entry.stat(), entry.path) for entry in entries if "." not in entry.name]
    found.sort(key=lambda item: item[0].st_mtime_ns, reverse=True)
    size_bytes = 0
    for number, (status, path) in enumerate(found):
        size_bytes += status.st_size
        if number >= _KEPT or size_bytes > _KEPT_BYTES:
            os.unlink(path)
