"""What the steps of one build share while they run: the store, the context, progress, the cache.

A `Site` is made for one build and handed to every step. Steps run in threads; everything here
may be called from any of them.
"""

import itertools
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import events
from builder.absent import Absent
from builder.context import LocalContext
from builder.errors import Canceled, InstructionError
from builder.networks import StepNetwork
from builder.remotecache.ledger import Ledger
from builder.slots import Slots
from builder.supplies import Supplies
from builder.vertex import BaseOp, Vertex, VertexID
from runtime.cancel import Cancel
from runtime.launcher import Launchers
from store.digest import DiffID, Digest
from store.keylocks import held_key
from store.root import Store
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.cache import Key
    from builder.causes import Cause
    from builder.gitcheckout import Commit
    from builder.gitref import GitRef
    from builder.remotecache.imports import Imports
    from builder.secretgate import LayerWatch, SecretGate
    from builder.why import Explainer


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that was downloaded: its blob, what it is called, when it was last modified."""

    digest: Digest
    size_bytes: int
    name: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a root file system comes from, for explanations: a step, or a base image.

    label: of the step. image, digest: of a base. also: the image's other names in FROM. causes:
    why the step ran, none where it was cached. said: what changed anywhere below.
    """

    label: str
    image: str = ""
    digest: str = ""
    also: tuple[str, ...] = ()
    causes: "tuple[Cause, ...]" = ()
    said: "tuple[Cause, ...]" = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a vertex made: a root file system as its layers, base first, or a downloaded file.

    created: when the top layer was made, RFC 3339.
    """

    chain: tuple[DiffID, ...] = ()
    created: str | None = None
    fetched: FetchedFile | None = None
    origin: Origin | None = field(default=None, compare=False)


def origin_of(vertex: Vertex, inputs: Sequence[Result], causes: "tuple[Cause, ...]" = ()) -> Origin:
    """Return what a vertex's result says to those that stand on it. causes: why it ran."""
    said = tuple(cause for item in inputs if item.origin for cause in item.origin.said)
    image, digest = str(vertex.facts.get("image", "")), str(vertex.facts.get("digest", ""))
    names = vertex.facts.get("also", ())
    also = names if isinstance(names, tuple) else ()
    return Origin(vertex.name, image, digest, also, causes, (*said, *causes))


@dataclass(slots=True)
class Progress:
    """Gives steps their numbers and passes events on, one at a time.

    target: whose steps these are, of several targets; their names say it.
    """

    on_event: events.OnEvent
    target: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _warned: set[str] = field(default_factory=set)

    def of_target(self, name: str) -> "Progress":
        """Return the progress of one of several targets; the numbers go on."""
        return Progress(self.on_event, name, self._lock, self._numbers, self._warned)

    def shown(self, name: str) -> str:
        """Return what a step is called: `[build 2/4] …` of target app is `[app build 2/4] …`."""
        if not self.target:
            return name
        return f"[{self.target} {name[1:]}" if name.startswith("[") else f"[{self.target}] {name}"

    def emit(self, event: events.Event) -> None:
        """Pass an event on."""
        with self._lock:
            self.on_event(event)

    def warn_once(self, rule: str, message: str) -> None:
        """Say something about the surroundings of the build, unless it was said before."""
        with self._lock:
            if rule not in self._warned:
                self._warned.add(rule)
                self.on_event(events.BuildWarning(rule, message, None))

    def begin(self, name: str, log_folder: str | None = None, digest: str = "") -> "Step":
        """Start a step: it gets the next number. digest: of the vertex that it solves."""
        with self._lock:
            step = Step(self, next(self._numbers), self.shown(name), log_folder)
            self.on_event(events.StepStarted(step.number, step.name, digest))
        return step


@dataclass(slots=True)
class Step:
    """One running step: where its output, its log and its end go.

    tries, try_began_ns: how often it was begun, and when the last time (0 for never; ns since the
    epoch), where it may be tried again.
    """

    progress: Progress
    number: int
    name: str
    log_folder: str | None
    tries: int = 0
    try_began_ns: int = 0
    started_ns: int = field(default_factory=time.time_ns)
    _began: float = field(default_factory=time.monotonic)
    _log: int | None = None

    @property
    def seconds(self) -> float:
        """How long the step has been running."""
        return time.monotonic() - self._began

    @property
    def log_path(self) -> str | None:
        """The file with the step's whole output; None while there is none."""
        if self._log is None or self.log_folder is None:
            return None
        return os.path.join(self.log_folder, f"{self.number}.log")

    def output(self, fd: int, data: bytes) -> None:
        """Take bytes that the step's process wrote to descriptor 1 or 2."""
        if self.log_folder is not None:
            if self._log is None:
                os.makedirs(self.log_folder, exist_ok=True)
                path = os.path.join(self.log_folder, f"{self.number}.log")
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._log = os.open(path, flags, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(self._log, view) :]
        self.progress.emit(events.StepOutput(self.number, fd, data, self.seconds))

    def message(self, text: str, *, done: bool = False) -> None:
        """Say in a line what the step is doing, or has done."""
        self.progress.emit(events.StepMessage(self.number, text, done))

    def transfer(self, what: str, done_bytes: int, total_bytes: int, *, done: bool = False) -> None:
        """Say how much of something has come or gone."""
        self.progress.emit(events.StepTransfer(self.number, what, done_bytes, total_bytes, done))

    def end(self, event: events.Event) -> None:
        """Close the log and pass on the event that ends the step."""
        if self._log is not None:
            os.close(self._log)
            self._log = None
        self.progress.emit(event)

    def cached(self) -> None:
        """End the step: its result came from the cache."""
        self.end(events.StepCached(self.number))

    def done(self) -> None:
        """End the step well."""
        self.end(events.StepDone(self.number, self.seconds))

    def failed(self, error: BaseException) -> None:
        """End the step with an error, or as canceled where that is what it is."""
        if isinstance(error, Canceled | KeyboardInterrupt):
            self.end(events.StepCanceled(self.number))
        else:
            # The step says where it stands by its name, and the build's own error says it again.
            message = str(error)
            if isinstance(error, InstructionError):
                message = message.removeprefix(f"{error.place}: ")
            self.end(events.StepFailed(self.number, message, self.seconds))


@dataclass(slots=True)
class Site:
    """Everything that a step needs besides its vertex and its inputs' results.

    dockerfile: its name. journal_name: what the journal calls it.
    absent: layers that may not be in the store. ledger: what steps came to. imports: remote caches
    to look up in. commits: what refs of git repositories were when this build first asked. named:
    the named contexts that are directories. vertices: the plan's. gate: keeps secrets out of
    layers, where there are any. journaled: the numbers of the steps that have a row in the journal.
    sharers: the sites of other builds that a vertex is solved for. keep_failed: what a step that
    fails leaves is kept.
    """

    store: Store
    context: LocalContext
    progress: Progress
    cancel: Cancel
    build_id: str
    dockerfile: str
    warn: Callable[[str, str, int | None], None]
    slots: Slots
    supplies: Supplies
    launchers: Launchers
    network: StepNetwork
    absent: Absent
    journal_name: str
    ledger: Ledger = field(default_factory=Ledger)
    imports: "Imports | None" = None
    commits: "dict[GitRef, Commit]" = field(default_factory=dict)
    named: Mapping[str, LocalContext] = field(default_factory=dict)
    vertices: Mapping[VertexID, Vertex] = field(default_factory=dict)
    gate: "SecretGate | None" = None
    journaled: dict[VertexID, int] = field(default_factory=dict)
    sharers: "Mapping[VertexID, Sequence[Site]]" = field(default_factory=dict)
    keep_failed: bool = False
    _explainer: "Explainer | None" = None

    def causes(self, vertex: Vertex, key: "Key", inputs: Sequence[Result]) -> "tuple[Cause, ...]":
        """Return why a vertex that has no record has to run."""
        if self._explainer is None:
            # A build that finds everything cached explains nothing.
            from builder.why import Explainer

            self._explainer = Explainer(
                self.store,
                self.build_id,
                self.journal_name,
                self.context,
                self.vertices.values(),
                None if self.imports is None else self.imports.last_steps(self.dockerfile),
            )
        return self._explainer.causes(vertex, key, inputs)

    def stands_on(self, vertex: Vertex) -> dict[str, list[object]]:
        """Return what the journal says of a vertex's inputs.

        inputs: numbers of steps in the journal. bases: names of what has no row there: images and
        downloads.
        """
        inputs: dict[object, None] = {}
        bases: dict[object, None] = {}
        todo = list(reversed(vertex.inputs))
        while todo:
            item = self.vertices[todo.pop()]
            if item.id in self.journaled:
                inputs[self.journaled[item.id]] = None
            elif item.inputs:
                todo += reversed(item.inputs)
            elif item.facts.get("image") or item.op != BaseOp(()):
                bases[str(item.facts.get("image") or item.name)] = None
        return {"inputs": list(inputs), "bases": list(bases)}

    def recall(self, namespace: str, selector: str) -> str | None:
        """Return what a memo of the store or of a remote cache says, None where there is none."""
        records = self.store.records
        known = records.recall(namespace, selector)
        if known is None and self.imports is not None:
            known = self.imports.recall(namespace, selector)
            if known is not None:
                records.remember(namespace, selector, known)
        if known is not None:
            self.ledger.memos[namespace, selector] = known
        return known

    def remember(self, namespace: str, selector: str, value: str) -> None:
        """Keep a memo."""
        self.store.records.remember(namespace, selector, value)
        self.ledger.memos[namespace, selector] = value

    def context_called(self, name: str) -> LocalContext:
        """Return the named context that is a directory, the main one for ""."""
        return self.named[name] if name else self.context

    def forget_selections(self) -> None:
        """Look at the contexts again the next time: something changed."""
        for context in (self.context, *self.named.values()):
            context.forget_selections()

    def watch(self, vertex: Vertex) -> "LayerWatch | None":
        """Return what has to see a vertex's layer while it is made."""
        return None if self.gate is None else self.gate.watch(vertex)

    @property
    def log_folder(self) -> str:
        """Where this build's step logs lie."""
        return os.path.join(self.store.root, "logs", self.build_id)

    @contextmanager
    def step(self, vertex: Vertex) -> Iterator[Step]:
        """Begin a vertex's step; an exception ends it as failed."""
        step = self.progress.begin(vertex.name, self.log_folder, vertex.id)
        try:
            yield step
        except BaseException as error:
            step.failed(error)
            raise

    @contextmanager
    def key_lock(self, key: Digest) -> Iterator[None]:
        """Be the only one, over all processes, that makes the layer of a key. Raises Canceled."""
        with held_key(os.path.join(self.store.root, "locks/keys"), key, self.pause):
            yield

    def pause(self, seconds: float) -> None:
        """Wait, but not on after the build was stopped. Raises Canceled."""
        poller = select.poll()
        poller.register(self.cancel.fd, select.POLLIN)
        if poller.poll(1000 * seconds):
            raise Canceled
