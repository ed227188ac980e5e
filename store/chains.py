"""Layers that mean something only on the layers below them, made up for one chain.

A layer may lack its parent directories' entries, link to a file below, or delete what nothing below
has. Unpacked as it is, it would give /tmp another mode, miss a file, or show the mark of the
deletion. So each of its chains is looked at once, under its chain_id, and where it matters the
layer is unpacked anew for that chain, with what it needs from below.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from store import aliases
from store.checkpoint import checkpoint
from store.contents import Policy
from store.digest import DiffID, chain_id, hex_of
from store.errors import Corrupt, NewerFormat, disk_errors
from store.folder import Folder, durable_rename
from store.tarreader import TarReader
from store.unpack import Unpacker

if TYPE_CHECKING:
    from store.layers import LayerStore

VERSION = 1


def alias_on(folder: Folder, layers: "LayerStore", chain: Sequence[DiffID]) -> str:
    """Return the alias of the top layer of `chain` as it must look there, made if needed.

    Raises BadArchive when the layer links to a file that is nowhere.
    """
    name = chain_id(chain)
    path = folder.path("chains", "sha256", hex_of(name))
    alias = _recorded(path)
    if alias is None:
        with (
            disk_errors(f"compose layer {chain[-1]}", path),
            folder.lease(),
            folder.lock(f"chain {name}"),
        ):
            alias = _recorded(path)
            if alias is None:
                alias = _compose(folder, layers, chain, path)
    return alias or layers.record(chain[-1]).alias


def _recorded(path: str) -> str | None:
    """Return the alias of the chain's own tree, "" when the layer's tree will do, else None."""
    try:
        with open(f"{path}/chain.json", "rb", buffering=0) as file:
            value = json.loads(file.read())
        if value["version"] > VERSION:
            raise NewerFormat(f"chain {path}: format {value['version']} is newer than {VERSION}")
        return str(value["alias"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"chain {path}: its chain.json is damaged") from error


def _compose(folder: Folder, layers: "LayerStore", chain: Sequence[DiffID], path: str) -> str:
    record = layers.record(chain[-1])
    below = layers.merged(chain[:-1])
    scratch = folder.scratch_directory()
    alias = ""
    try:
        own = not record.info.shareable
        if not own:
            with open(f"{layers.path(chain[-1])}/whiteouts", "rb", buffering=0) as file:
                deleted = file.read().split(b"\0")
            own = any(below.find(name) is None for name in deleted)
        if own:
            tree = f"{scratch.path}/fs"
            os.mkdir(tree, 0o755)
            os.chmod(tree, 0o755)
            root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                reader = TarReader(layers.stream_tar(chain[-1]))
                Unpacker(root_fd, Policy(below=below)).run(reader)
            finally:
                os.close(root_fd)
            alias = aliases.make(folder, f"chains/sha256/{os.path.basename(path)}/fs")
        with open(f"{scratch.path}/chain.json", "xb", buffering=0) as out:
            value = {"version": VERSION, "diff_ids": list(chain), "alias": alias}
            out.write(json.dumps(value).encode())
        checkpoint("chain-composed")
        durable_rename(scratch.path, path, scratch.fd)
    except BaseException:
        folder.remove_tree(scratch.path)
        raise
    finally:
        os.close(scratch.fd)
    return alias


def remove_with(folder: Folder, diff_id: DiffID) -> None:
    """Delete every chain that `diff_id` is part of."""
    for path, value in _all(folder):
        if diff_id in value.get("diff_ids", ()):
            _remove(folder, path, value)


def sweep(folder: Folder) -> None:
    """Delete chains that cannot be read or lack a layer; they are made again when needed."""
    for path, value in _all(folder):
        diff_ids = value.get("diff_ids", ())
        present = (
            os.path.exists(folder.path("layers", "sha256", str(diff_id)[7:]))
            for diff_id in diff_ids
        )
        if not diff_ids or not all(present):
            _remove(folder, path, value)


def _all(folder: Folder) -> Iterator[tuple[str, dict[str, Any]]]:
    root = folder.path("chains", "sha256")
    for name in os.listdir(root):
        value: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            with open(f"{root}/{name}/chain.json", "rb", buffering=0) as file:
                read = json.loads(file.read())
            value = read if isinstance(read, dict) else {}
        yield f"{root}/{name}", value


def _remove(folder: Folder, path: str, value: dict[str, Any]) -> None:
    folder.remove_tree(path)
    if alias := value.get("alias"):
        aliases.remove(folder, str(alias))
