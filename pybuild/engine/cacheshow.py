"""Everything that is stored about one entry of the build cache, as JSON values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.engine.cacheentries import CacheEntry, layer_bytes, view_of
from pybuild.errors import PybuildError

if TYPE_CHECKING:
    from store.cacheusage import UsedRecord
    from store.root import Store

# What stands apart from the other ingredients.
_APART = ("parent", "files")


def find(store: Store, name: str) -> CacheEntry:
    """Return the entry whose ID or key begins with `name`, or the cache mount or address `name`.

    Raises PybuildError when there is none, or more than one.
    """
    prefix = name.rpartition(":")[2] if name.startswith("sha256:") else name
    entries = view_of(store).entries
    found = [entry for entry in entries if name and (entry.id == prefix or entry.name == name)]
    found = found or [entry for entry in entries if prefix and entry.id.startswith(prefix)]
    if not found:
        raise PybuildError(
            f"no such entry in the build cache: {name}", hint="pybuild cache ls --all lists them"
        )
    if len(found) > 1:
        which = ", ".join(entry.id[:16] for entry in found[:4])
        raise PybuildError(
            f"{name} means several entries of the build cache: {which}", hint="give more digits"
        )
    return found[0]


def described(store: Store, entry: CacheEntry) -> dict[str, object]:
    """Return what is known of an entry: its use, and of a layer its results and ingredients."""
    known: dict[str, object] = {
        "ID": entry.id,
        "Type": entry.type,
        "Description": entry.description,
        "CreatedAt": moment(entry.created_s),
        "LastUsedAt": moment(entry.used_s),
        "UsageCount": entry.uses,
        "Size": entry.size_bytes,
        "Reclaimable": not entry.is_in_use,
        "Shared": entry.is_shared,
        "Mutable": entry.is_mutable,
        "Parents": list(entry.parents),
    }
    if not entry.records:
        return {**known, "Name": entry.name}
    newest = entry.records[0].record
    return {
        **known,
        "Key": entry.name,
        "Kind": newest.kind,
        "Step": newest.title,
        "Stage": newest.stage,
        "Number": newest.step,
        "Dockerfile": newest.dockerfile,
        "Results": [_result(store, used) for used in entry.records],
        "Parent": newest.ingredients.get("parent", []),
        "Ingredients": {k: v for k, v in newest.ingredients.items() if k not in _APART},
        "Files": files_of(entry),
    }


def files_of(entry: CacheEntry) -> list[dict[str, str]]:
    """Return what a step read: of files the digest of their bytes, of links their target.

    Mode and, where it is not root, Owner stand beside it as far as they count for the step.
    """
    files = entry.records[0].record.ingredients.get("files", ()) if entry.records else ()
    if not isinstance(files, list | tuple):
        return []
    return [{"Path": str(path), **_state(str(state))} for path, state in files]


def _state(state: str) -> dict[str, str]:
    """Take apart what builder.contenthash.states tells of a file."""
    if state.startswith("-> "):
        return {"Target": state[3:]}
    return dict(zip(("Digest", "Mode", "Owner"), state.split(" "), strict=False))


def _result(store: Store, used: UsedRecord) -> dict[str, object]:
    record = used.record
    return {
        "Layers": [
            {
                "DiffID": diff_id,
                "Present": store.layers.has(diff_id),
                "Size": layer_bytes(store, diff_id) if store.layers.has(diff_id) else 0,
            }
            for diff_id in record.diff_ids
        ],
        "Created": record.created,
        "Seconds": round((record.ended_ns - record.started_ns) / 1e9, 3),
        "Build": record.build_id,
        "LastUsedAt": moment(used.used_ns / 1e9),
        "UsageCount": used.uses,
        "Held": used.is_held,
    }


def moment(seconds: float) -> str:
    """Return a time as RFC 3339, "" for 0."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
