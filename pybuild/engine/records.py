"""Container records: one JSON file each in the store's containers/, which anyone can read.

Owns their form and their names. A record is written before anything is mounted, and names the
layers and the snapshot that the container needs: garbage collection keeps them. A
container lives as long as the flock of its snapshot is held: no pid tells that safely.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pybuild.errors import ContainerError
from values.classes import asdict, dataclass, fields

if TYPE_CHECKING:
    from store.root import Store

VERSION = 1

_DAMAGED = "remove that file, and the container is forgotten"

RUNNING, EXITED = "running", "exited"

_ADJECTIVES = (
    "able agile amber bold brave bright calm clever cosy crisp daring deft eager fair gentle glad"
    " happy honest jolly keen kind lively lucid mellow merry modest noble patient proud quiet"
    " rapid ready serene sharp smart steady sunny swift tidy upbeat vivid warm wise witty"
)
_SURNAMES = (
    "abel archimedes banach bell bohr boole cantor cauchy cori curie darwin dijkstra edison euclid"
    " euler faraday fermat fermi franklin galois gauss goodall hamilton hopper hypatia joliot"
    " kepler knuth lamarr lovelace maxwell meitner mendel newton noether pascal pike planck"
    " ritchie sagan shannon tesla thompson turing volta wozniak wright"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """A container that exists.

    layers: diff_ids of its image, base first. snapshot: its writable tree. state: running until
    its supervisor says `exited`. created, started, finished: RFC 3339 in UTC, or empty.
    supervisor_pid and supervisor_start (of /proc/pid/stat): the process that runs it.
    args: what is executed. remove: nothing is to be kept once it has ended. ports: published, one
    each: the host's address, its port, the container's, the protocol.
    """

    id: str
    name: str
    image_id: str
    image_name: str
    args: tuple[str, ...]
    layers: tuple[str, ...]
    created: str
    snapshot: str = ""
    state: str = RUNNING
    started: str = ""
    finished: str = ""
    exit_code: int = 0
    error: str = ""
    supervisor_pid: int = 0
    supervisor_start: int = 0
    env: tuple[str, ...] = ()
    working_dir: str = "/"
    user: str = ""
    hostname: str = ""
    network: str = ""
    ports: tuple[tuple[str, int, int, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    folders: tuple[tuple[str, str, bool], ...] = ()
    tty: bool = False
    interactive: bool = False
    read_only: bool = False
    remove: bool = False


def save(root: str, record: ContainerRecord, *, durable: bool = True) -> None:
    """Write `record`, replacing what was there at once; `durable` waits for the disk.

    Raises StoreError when the disk refuses.
    """
    from store.errors import disk_errors
    from store.folder import Folder, write_all, write_durably

    text = json.dumps({"version": VERSION, **asdict(record)}, indent=2, ensure_ascii=True) + "\n"
    folder, path = Folder(root), _path(root, record.id)
    with disk_errors(f"write record of container {record.id[:12]}", root):
        if durable:
            write_durably(folder, path, text.encode())
            return
        scratch = folder.scratch_file()
        try:
            write_all(scratch.fd, text.encode())
            os.rename(scratch.path, path)
        finally:
            os.close(scratch.fd)


def delete(root: str, container_id: str) -> None:
    """Delete a record; an absent one is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(root, container_id))


def load(root: str, container_id: str) -> ContainerRecord | None:
    """Return one record, None when it has gone meanwhile."""
    path = _path(root, container_id)
    try:
        with open(path, encoding="utf-8") as file:
            read = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ContainerError(f"container record {path} is no JSON", hint=_DAMAGED) from error
    if not isinstance(read, dict) or read.get("version") != VERSION:
        raise ContainerError(f"container record {path} is not of version {VERSION}", hint=_DAMAGED)
    try:
        return _record(read)
    except TypeError as error:
        raise ContainerError(f"container record {path} lacks fields", hint=_DAMAGED) from error


def load_all(store: Store) -> list[ContainerRecord]:
    """Return every record, the newest first, but of those that are damaged: the store is told."""
    try:
        names = os.listdir(os.path.join(store.root, "containers"))
    except FileNotFoundError:
        return []
    records = []
    for name in names:
        if not name.endswith(".json"):
            continue
        try:
            record = load(store.root, name.removesuffix(".json"))
        except ContainerError as error:
            store.note_damage(error)
            continue
        if record is not None:
            records.append(record)
    return sorted(records, key=lambda record: (record.created, record.id), reverse=True)


def find(store: Store, name: str) -> ContainerRecord:
    """Return the container called `name`, or whose ID begins so. Raises ContainerError."""
    records = load_all(store)
    for record in records:
        if name in (record.name, record.id):
            return record
    fitting = [record for record in records if name and record.id.startswith(name)]
    if len(fitting) > 1:
        raise ContainerError(f"{name}: the ID fits {len(fitting)} containers")
    if not fitting:
        raise ContainerError(f"no such container: {name}", hint="pybuild ps -a lists them")
    return fitting[0]


def containers_of(store: Store, image_id: str) -> list[ContainerRecord]:
    """Return the containers that are made of an image."""
    return [record for record in load_all(store) if record.image_id == image_id]


def is_alive(root: str, record: ContainerRecord) -> bool:
    """Tell whether the container runs, or is being made or removed, at this moment."""
    from store.folder import claim_abandoned

    if not record.snapshot:
        return False
    lock = os.path.join(root, "snapshots", record.snapshot, "lock")
    if not os.path.exists(lock):
        return False
    fd = claim_abandoned(lock)
    if fd is None:
        return True
    os.close(fd)
    return False


def new_name(taken: set[str]) -> str:
    """Return a name for people, adjective_surname, that is not in `taken`."""
    adjectives, surnames = _ADJECTIVES.split(), _SURNAMES.split()
    for attempt in range(1000):
        # `random` takes 1 ms to import, and modulo's bias does not matter in a name.
        first, second = os.urandom(2)
        name = f"{adjectives[first % len(adjectives)]}_{surnames[second % len(surnames)]}"
        if attempt > 10:
            name += str(attempt)
        if name not in taken:
            return name
    raise ContainerError("no container name is left")


def _path(root: str, container_id: str) -> str:
    return os.path.join(root, "containers", f"{container_id}.json")


def _record(read: Mapping[str, object]) -> ContainerRecord:
    known = {field.name for field in fields(ContainerRecord)}
    values = {name: _frozen(value) for name, value in read.items() if name in known}
    return ContainerRecord(**values)  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
