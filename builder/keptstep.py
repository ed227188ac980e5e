"""Keeping a failed step as it was left, and reading what was kept.

What its process wrote is not copied: its snapshot stays, with a note of what its process was given.
Values of secrets are in no note, nor those of proxy variables: whoever enters gives them again.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from builder.ops.mounts import Place, Provided
from builder.request import Sandbox, Ulimit
from builder.runmounts import (
    BindMount,
    CacheMount,
    ScriptMount,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from builder.site import Step
from builder.vertex import RunOp, plain
from store.activesnapshot import Active
from store.digest import DiffID
from store.errors import Corrupt, StoreError
from store.keptsteps import FAILED, MOUNT, KeptStep, note_of
from values.classes import dataclass, replace

_CLASSES: Mapping[str, type] = {
    each.__name__: each
    for each in (
        *(RunOp, Sandbox, Ulimit),
        *(BindMount, CacheMount, ScriptMount, SecretMount, SshMount, TmpfsMount),
    )
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a step's process was given, as far as it is kept, or the journal has it.

    inputs: chains of the vertex's inputs. supplied: ids of the secrets and agents that it got.
    binds: by numbers of bind mounts, the kept snapshots that were made for them, topmost first.
    proxies: names of the proxy variables that it had. place: the Dockerfile's name and line.
    """

    op: RunOp
    inputs: tuple[tuple[DiffID, ...], ...]
    supplied: frozenset[str]
    binds: Mapping[int, tuple[str, ...]]
    proxies: tuple[str, ...]
    place: tuple[str, int]


def keep(op: RunOp, place: Place, active: Active, mounts: Provided, step: Step) -> bool:
    """Keep what a failed step's process left; tell whether that was possible.

    A full disk, of all things, is no reason to say something else than why the step failed.
    """
    site, vertex = place.site, place.vertex
    chains = [list(source.chain) for source in place.inputs]
    binds = {
        str(number): [behind.id for behind in scratch] for number, scratch in mounts.scratch.items()
    }
    head = site.build_id, step.number
    with suppress(StoreError, OSError):
        for scratch in mounts.scratch.values():
            for behind in scratch:
                behind.keep(note_of(*head, MOUNT, vertex.name))
        layers = [diff_id for chain in chains for diff_id in chain]
        also = [other.build_id for other in site.sharers.get(vertex.id, ())]
        note = note_of(*head, FAILED, vertex.name, layers, also=also, binds=binds)
        active.keep({**note, **fields_of(op, place, chains)})
        return True
    return False


def fields_of(op: RunOp, place: Place, inputs: Sequence[Sequence[DiffID]]) -> dict[str, object]:
    """Return what a step's process was given as JSON values, but for what was made for it."""
    return {
        "op": plain(replace(op, proxy_env=())),
        "proxies": [name for name, _ in op.proxy_env],
        "inputs": [list(chain) for chain in inputs],
        "supplied": sorted(supplied(op, place)),
        "place": [place.vertex.place.dockerfile, place.vertex.place.first_line],
    }


def mounts_of(place: Place) -> dict[str, object]:
    """Return what the journal says of a step's mounts for who enters it; nothing without any."""
    op = place.vertex.op
    if not isinstance(op, RunOp) or all(isinstance(mount, ScriptMount) for mount in op.mounts):
        return {}
    shown = {mount.input for mount in op.mounts if isinstance(mount, BindMount)}
    chains = [each.chain if number in shown else () for number, each in enumerate(place.inputs)]
    return {"given": fields_of(op, place, chains)}


def supplied(op: RunOp, place: Place) -> set[str]:
    """Return the ids of the secrets and key agents that a step was given."""
    supplies = place.site.supplies
    secrets = (mount.id for mount in op.mounts if isinstance(mount, SecretMount))
    agents = (mount.id for mount in op.mounts if isinstance(mount, SshMount))
    found = {f"secret {id_}" for id_ in secrets if supplies.secrets.value(id_) is not None}
    if supplies.agents is not None:
        found |= {f"ssh {id_}" for id_ in agents if supplies.agents.socket_path(id_) is not None}
    return found


def given_of(kept: KeptStep) -> Given:
    """Return what a failed step's process was given. Raises Corrupt."""
    return given_from(kept.note, kept.build_id, kept.number)


def given_from(note: Mapping[str, object], build_id: str, number: int) -> Given:
    """Return what `fields_of` made JSON of, of a step of a build. Raises Corrupt."""
    try:
        op = _run(_built(note["op"]))
        binds = _mapping(note.get("binds", {}))
        name, line = _list(note["place"])
        return Given(
            op,
            tuple(tuple(map(DiffID, map(str, _list(chain)))) for chain in _list(note["inputs"])),
            frozenset(map(str, _list(note["supplied"]))),
            {int(number): tuple(map(str, _list(ids))) for number, ids in binds.items()},
            tuple(map(str, _list(note["proxies"]))),
            (str(name), int(str(line))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(
            f"build {build_id}: what is kept of step {number} is damaged",
            hint=f"pybuild builds rm {build_id} removes it",
        ) from error


def _built(value: object) -> object:
    """Return the value that `plain` made JSON of. Raises KeyError, TypeError."""
    if isinstance(value, dict):
        fields = {name: _built(each) for name, each in value.items() if name != "is"}
        return _CLASSES[str(value["is"])](**fields)
    return tuple(map(_built, value)) if isinstance(value, list) else value


def _run(value: object) -> RunOp:
    if not isinstance(value, RunOp):
        raise TypeError(value)
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value
