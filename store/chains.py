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
from store.digest import DiffID, chain_id, hex_of
from store.errors import NewerFormat, disk_errors
from store.folder import Folder, durable_rename
from store.overlay import Merged

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
                folder.remove_tree(path)
                alias = _compose(folder, layers, chain, path)
    return alias or layers.record(chain[-1]).alias


def _recorded(path: str) -> str | None:
    """Return the alias of the chain's own tree, "" when the layer's tree will do.

    None when nothing usable is recorded: what was made can be made again.
    """
    value = _read(path)
    if value.get("version", 0) > VERSION:
        raise NewerFormat(f"chain {path}: format {value['version']} is newer than {VERSION}")
    alias = value.get("alias")
    if alias and not os.path.exists(f"{path}/fs"):
        return None
    return alias if isinstance(alias, str) else None


def _read(path: str) -> dict[str, Any]:
    """Return a chain's record, an empty one for none and for a damaged one."""
    try:
        with open(f"{path}/chain.json", "rb", buffering=0) as file:
            value = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _compose(folder: Folder, layers: "LayerStore", chain: Sequence[DiffID], path: str) -> str:
    below = layers.merged(chain[:-1])
    scratch = folder.scratch_directory()
    alias = ""
    try:
        own = _leans_on(layers, chain[-1], below)
        if own:
            _unpack(layers, chain[-1], below, f"{scratch.path}/fs")
            alias = aliases.make(folder, f"chains/sha256/{os.path.basename(path)}/fs")
        with open(f"{scratch.path}/chain.json", "xb", buffering=0) as out:
            value = {"version": VERSION, "diff_ids": list(chain), "alias": alias}
            out.write(json.dumps(value).encode())
        checkpoint("chain-composed")
        if own:
            durable_rename(scratch.path, path, scratch.fd)
        else:
            os.rename(scratch.path, path)  # lost in a power cut, it is found out again
    except BaseException:
        folder.remove_tree(scratch.path)
        if alias:
            aliases.remove(folder, alias)
        raise
    finally:
        os.close(scratch.fd)
    return alias


def _leans_on(layers: "LayerStore", diff_id: DiffID, below: Merged) -> bool:
    """Tell whether the layer must look different on what lies below than on nothing."""
    record = layers.record(diff_id)
    if record.external:
        return True
    for name in layers.noted(diff_id, "missing"):
        if below.at(name).exists():
            return True
    return any(below.find(name) is None for name in layers.noted(diff_id, "whiteouts"))


def _unpack(layers: "LayerStore", diff_id: DiffID, below: Merged, tree: str) -> None:
    # Not to be imported where a chain has long been made: a container's start.
    from store.contents import Policy
    from store.tarreader import TarReader
    from store.unpack import Unpacker

    os.mkdir(tree, 0o755)
    os.chmod(tree, 0o755)
    root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.closing(layers.stream_tar(diff_id)) as tar:
            Unpacker(root_fd, Policy(below=below)).run(TarReader(tar))
    finally:
        os.close(root_fd)


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
        yield f"{root}/{name}", _read(f"{root}/{name}")


def _remove(folder: Folder, path: str, value: dict[str, Any]) -> None:
    folder.remove_tree(path)
    if alias := value.get("alias"):
        aliases.remove(folder, str(alias))
