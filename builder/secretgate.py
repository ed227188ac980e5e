"""The gate that keeps values of secrets out of images: all that a build makes goes through it.

Searched are the layers that the build's steps make, or take from the cache, and what becomes
history, environment, labels and other text of the image. What is found stops the build before the
layer is recorded or anything is written; or it is a warning, where the build may go on with it.
A layer is searched once for each value: that it was is remembered, by a keyed digest of the value.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from builder.errors import BuildError, Place, SecretLeaked
from builder.events import BuildWarning
from builder.packedsearch import Bound, FileSearch
from builder.request import ALL, BuildRequest
from builder.secrets import Secrets
from builder.secretsearch import SHORTEST_BYTES, Needles, is_short, needles_of
from builder.site import Progress
from builder.stage import Stage
from builder.vertex import BaseOp, RunOp, Vertex, VertexID
from store.digest import DiffID
from store.root import Store
from store.salt import salted_digest
from values.classes import dataclass, field, fields, is_dataclass, replace

RULE = "SecretLeak"
_MEMO = "searched-inside"  # what searches layers is part of the name
_SHOWN = 3  # places that a message names


def gate_of(
    store: Store, request: BuildRequest, secrets: Secrets, progress: Progress
) -> "SecretGate | None":
    """Return the gate of a build, None for one without secrets. Raises BuildError."""
    keys = _keys_of(request)
    known = {source.id for source in request.secrets} | keys.keys()
    for name in request.allow_secret_leak:
        if name not in known and name != ALL:
            raise BuildError(
                f'--allow-secret-leak: there is no secret "{name}"',
                hint=f"secrets: {', '.join(sorted(known)) or 'none are given'}",
            )
    if not known:
        return None
    gate = SecretGate(store, secrets, frozenset(request.allow_secret_leak), progress, keys)
    gate.check_request(request)
    return gate


def _keys_of(request: BuildRequest) -> dict[str, bytes]:
    """Return the private keys that agents are started for, `ssh:ID` each; a socket shows none."""
    if not any(source.paths for source in request.ssh):
        return {}
    from builder.sshagent import keys_of

    return keys_of(request.ssh)


class SecretGate:
    """Searches for the values of one build's secrets. Used by several threads.

    keys: private keys by their names.
    """

    def __init__(
        self,
        store: Store,
        secrets: Secrets,
        allowed: frozenset[str],
        progress: Progress,
        keys: Mapping[str, bytes],
    ) -> None:
        self._keys = keys
        self._store = store
        self._secrets = secrets
        self._allowed = allowed
        self._progress = progress
        self._said: set[str] = set()
        self._watches: dict[VertexID, LayerWatch] = {}
        self._lock = threading.Lock()
        self._values: Mapping[str, bytes] = {}
        self._needles = Needles()

    def needles(self) -> Needles:
        """Return what to look for by now: what comes through a pipe is known when it was read."""
        values = {**self._keys, **self._secrets.searchable()}
        with self._lock:
            if values != self._values:
                self._values, self._needles = values, needles_of(values)
        for name, value in values.items():
            if is_short(value):
                self._warn(
                    f'secret "{name}" is shorter than {SHORTEST_BYTES} bytes: '
                    "the image is not searched for it",
                    None,
                )
        return self._needles

    def check_request(self, request: BuildRequest) -> None:
        """Refuse build arguments, labels and annotations with a secret in them."""
        for option, pairs in (
            ("--build-arg", request.build_args),
            ("--label", request.labels),
            ("--annotation", request.annotations),
        ):
            for name, value in pairs:
                ids = self.needles().found_in_text(f"{name}={value}")
                self._settle(ids, f"{option} {self._needles.hidden(name)}", None)

    def check_plan(self, vertices: Iterable[Vertex], images: Iterable[Stage]) -> None:
        """Refuse instructions, history and configs with a secret in them, before anything runs."""
        needles = self.needles()
        for vertex in vertices:
            if not isinstance(vertex.op, BaseOp):
                op = vertex.op
                kept = replace(op, proxy_env=()) if isinstance(op, RunOp) else op
                ids = _ids(needles, strings_of(kept))
                self._settle(ids, "the instruction", vertex.place)
        for stage in images:
            for entry in stage.history:
                place = _place(stage, entry.line)
                ids = needles.found_in_text(entry.created_by)
                self._settle(ids, "the history of the image", place)
            for name, texts in config_texts(stage):
                where = f"{needles.hidden(name)} of the image"
                self._settle(_ids(needles, texts), where, _place(stage, 0))

    def watch(self, vertex: Vertex) -> "LayerWatch | None":
        """Return what looks at a layer while it is made; None where there is nothing to find."""
        needles = self.needles()
        if not needles:
            return None
        watch = LayerWatch(needles, lambda found: self._judge(found, vertex))
        self._watches[vertex.id] = watch
        return watch

    def passed(self, vertex: Vertex, diff_id: DiffID) -> None:
        """Remember what was found in the layer that a vertex made."""
        watch = self._watches.pop(vertex.id, None)
        if watch is not None:
            self._remember(diff_id, watch.needles, watch.found)

    def admit(self, vertex: Vertex, diff_ids: Sequence[DiffID]) -> None:
        """Refuse layers of the cache with a secret in them; they are searched once a value.

        Layers that are not here are not looked at. Raises SecretLeaked.
        """
        from store.layerwatch import show

        needles = self.needles()
        found: dict[str, list[str]] = {}
        for diff_id in diff_ids if needles else ():
            known = self._recall(diff_id)
            names = {name: self._print(value) for name, value in needles.plain}
            if not set(names.values()) <= known.keys():
                if not self._store.layers.has(diff_id):
                    continue
                watch = LayerWatch(needles)
                show(self._store.layers.source(diff_id), watch)
                self._remember(diff_id, needles, watch.found)
                known = self._recall(diff_id)
            for name, key in names.items():
                if known.get(key):
                    found.setdefault(name, []).extend(known[key])
        self._judge(found, vertex)

    def _judge(self, found: Mapping[str, Sequence[str]], vertex: Vertex) -> None:
        for name, places in found.items():
            more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
            where = f"the step's layer: {', '.join(places[:_SHOWN])}{more}"
            self._settle({name}, where, vertex.place)

    def _settle(self, ids: Iterable[str], where: str, place: Place | None) -> None:
        """Warn of secrets that were found `where`, or raise."""
        ids = sorted(ids)
        refused = [name for name in ids if not self._allowed & {name, ALL}]
        named = " and ".join(f'"{name}"' for name in refused or ids)
        text = f"the value of secret {named} is in {where}"
        if not refused:
            if ids:
                self._warn(text, place)
            return
        options = " ".join(f"--allow-secret-leak={name}" for name in refused)
        hint = f"who gets the image gets the secret; {options} builds it all the same"
        if place is None:
            raise BuildError(text, hint=hint)
        source = tuple(map(self._needles.hidden, place.source))
        shown = replace(place, source=source)
        raise SecretLeaked(shown, text, ids=refused, hint=hint)

    def _warn(self, text: str, place: Place | None) -> None:
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        self._progress.emit(BuildWarning(RULE, text, place.first_line if place else None))

    def _print(self, value: bytes) -> str:
        """Return what a value is remembered by: of no use without the store's own salt."""
        return salted_digest(self._store.folder, _MEMO, value)

    def _recall(self, diff_id: DiffID) -> dict[str, list[str]]:
        """Return where values are in a layer, by their prints; nowhere: it is free of that one."""
        known = self._store.records.recall_fields(_MEMO, diff_id)
        return {
            name: list(map(str, found)) for name, found in known.items() if isinstance(found, list)
        }

    def _remember(
        self, diff_id: DiffID, needles: Needles, found: Mapping[str, Sequence[str]]
    ) -> None:
        now = {self._print(value): list(found.get(name, ())) for name, value in needles.plain}
        known = self._recall(diff_id)
        if any(known.get(key) != places for key, places in now.items()):
            self._store.records.remember(_MEMO, diff_id, json.dumps({**known, **now}))


@dataclass(slots=True)
class LayerWatch:
    """Looks at one layer as it passes by (a `store.diff.Watcher`).

    judge: told at the end what was found; may raise. found: places by ids of secrets.
    """

    needles: Needles
    judge: Callable[[Mapping[str, Sequence[str]]], None] = lambda found: None
    found: dict[str, list[str]] = field(default_factory=dict)
    _name: bytes = b""
    _search: FileSearch | None = None
    _bound: Bound = field(default_factory=Bound)

    def entry(
        self, name: bytes, target: bytes, xattrs: tuple[tuple[bytes, bytes], ...]
    ) -> Callable[[bytes], None]:
        """Look at what a tar says of an entry, and return what looks at its bytes."""
        self._close()
        self._name = name
        for what, data in (
            (" (its name)", name),
            (" (target of the link)", target),
            *((" (extended attribute)", key + b"=" + value) for key, value in xattrs),
        ):
            for found in self.needles.found_in(data):
                self._add(found, what)
        self._search = FileSearch(self.needles, self._bound)
        return self._search.feed

    def finish(self) -> None:
        """All of the layer was shown."""
        self._close()
        self.judge(self.found)

    def _close(self) -> None:
        if self._search is not None:
            for found in self._search.found:
                self._add(found, "")
            for found in self._search.found_inside:
                self._add(found, " (compressed)")
            self._search = None

    def _add(self, found: str, what: str) -> None:
        path = self.needles.hidden(self._name.rstrip(b"/").decode("utf-8", "surrogateescape"))
        self.found.setdefault(found, []).append(f"/{path}{what}")


def strings_of(value: object) -> Iterator[str]:
    """Yield all text in a value of dataclasses, tuples and mappings."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from strings_of(getattr(value, each.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings_of(key)
            yield from strings_of(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from strings_of(item)


def config_texts(stage: Stage) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield what a stage's image config says, what of it first; the base's history too."""
    config = stage.container_config()
    yield from ((f"variable {item.partition('=')[0]}", [item]) for item in config.env)
    yield from ((f"label {name}", [name, value]) for name, value in config.labels)
    yield "the config", strings_of(replace(config, env=(), labels=()))
    if stage.base is not None:
        yield "the base's history", strings_of(stage.base.config.history)


def _ids(needles: Needles, texts: Iterable[str]) -> set[str]:
    return {name for text in texts for name in needles.found_in_text(text)}


def _place(stage: Stage, line: int) -> Place:
    """Return the place of an instruction, or that of the stage's FROM."""
    stages = stage.plan.stages
    if not line:
        return stages.place(stage.text.from_)
    return Place(stages.dockerfile.name, line, line, stages.source)
