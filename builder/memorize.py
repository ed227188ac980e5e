"""Remembering a finished build as a whole, if everything it was made of can be looked at again.

Sources from other machines would have to be asked for first; links in the context and files that
were written a moment ago are not worth the doubt. Such builds are not remembered. See `memo`.
"""

import marshal
import os
import time
from collections.abc import Iterator, Mapping

from builder import derived, events
from builder.bases import Bases
from builder.context import LocalContext
from builder.events import OnEvent
from builder.memo import (
    Memo,
    Packed,
    TagMemo,
    TreeState,
    identity_of,
    manifest_of,
    path_of,
)
from builder.planning import BuildPlan
from builder.policy import expires_ns
from builder.request import BuildRequest
from builder.site import Site
from builder.statcache import is_settled
from builder.tags import parse_tag
from builder.vertex import DownloadOp, GitOp, VertexID
from store.buildjournal import BuildRow, StepRow
from store.digest import Digest
from store.images import Image
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field, fields, is_dataclass

_KEPT = 256
_EXPORT = "exporting to "
_PULL = "[internal] pull "


@dataclass(slots=True)
class Recorder:
    """Listens to a build's events, and passes them on."""

    on_event: OnEvent
    heard: list[events.Event] = field(default_factory=list)

    def __call__(self, event: events.Event) -> None:
        """Take one event; what steps print is nobody's to remember, nor which build it was."""
        if not isinstance(event, events.StepOutput | events.BuildStarted):
            self.heard.append(event)
        self.on_event(event)

    def when_cached(self) -> list[events.Event]:
        """Return what the same build says when all is here, up to where it is exported."""
        names = {e.step: e.name for e in self.heard if isinstance(e, events.StepStarted)}
        phases = {step for step, name in names.items() if name.startswith("[internal]")}
        pulls = {step for step, name in names.items() if name.startswith(_PULL)}
        found: list[events.Event] = []
        for event in self.heard:
            step = getattr(event, "step", 0)
            if names.get(step, "").startswith(_EXPORT):
                break
            if step in pulls or (isinstance(event, events.StepMessage) and step not in phases):
                continue
            ended = isinstance(event, events.StepDone) and step not in phases
            found.append(events.StepCached(step) if ended else event)
        return found


def packed(value: object) -> Packed:
    """Return an event as plain values."""
    if is_dataclass(value):
        values = [packed(getattr(value, each.name)) for each in fields(value)]
        return {"type": type(value).__name__, "values": values}
    return tuple(map(packed, value)) if isinstance(value, tuple) else value


class Memorizer:
    """Remembers one build; `recorder` has to hear of all of its events."""

    def __init__(self, store: Store, request: BuildRequest, on_event: OnEvent) -> None:
        """Begin, before the first file is read."""
        self.recorder = Recorder(on_event)
        self._store = store
        self._request = request
        self._began_ns = time.time_ns()
        self._identity = identity_of(request)

    def keep(
        self,
        plan: BuildPlan,
        bases: Bases,
        site: Site,
        done: BuildRow,
        metadata: Mapping[str, object],
    ) -> None:
        """Remember the build unless something speaks against it; losing it is no error.

        done: the build's final row in the journal. metadata: that of its result.
        """
        if not done.image_id or self._identity is None or not _is_local(plan):
            return
        if any(vertex.policies.no_cache for vertex in plan.vertices.values()):
            return
        trees = [self._tree(context) for context in (site.context, *site.named.values())]
        same = [self._name(reference, image) for reference, image in bases.asked.items()]
        # The definition is read again: what was changed meanwhile may not be what was built.
        if None in trees or None in same or identity_of(self._request) != self._identity:
            return
        image_id, images = Digest(done.image_id), self._store.images
        manifest = manifest_of(self._store, image_id)
        if manifest is None:
            return
        rows = self._store.journal.steps(done.build_id)
        said = self.recorder.when_cached()
        memo = Memo(
            image_id=image_id,
            dockerfile=done.dockerfile,
            context=done.context,
            ignored=patterns if isinstance(patterns := done.details.get("ignore"), list) else None,
            there=tuple(images.files_of(image_id, images.get(image_id).config.diff_ids)),
            same=tuple(name for name in same if name is not None),
            trees=tuple(tree for tree in trees if tree is not None),
            steps=tuple(
                (row.number, row.title, row.stage, row.step, where(row), row.key) for row in rows
            ),
            records=self._store.records.newest(row.key for row in rows),
            said=tuple(map(packed, said)),
            export_step=1 + max(getattr(event, "step", 0) for event in said),
            tags=tuple(self._tags(image_id)),
            manifest=manifest,
            metadata=tuple(metadata.items()),
            until_ns=self._until_ns(plan, site),
        )
        save(path_of(self._store, self._identity), memo)

    def _until_ns(self, plan: BuildPlan, site: Site) -> int:
        """Return from when on one of the results may not be used, 0 for never."""
        times = [
            expires_ns(plan.vertices[VertexID(name)], record, self._store.records)
            for name, record in site.ledger.records.items()
        ]
        return min((time_ns for time_ns in times if time_ns is not None), default=0)

    def _tree(self, context: LocalContext) -> TreeState | None:
        """Return what was looked at in a context, None where that may change unseen."""
        looked, cache = context.tree.looked, context.cache
        if looked is None or cache is None or looked.followed or not cache.is_trusted:
            return None
        root = os.path.realpath(context.path)
        device = os.stat(root).st_dev
        for stamp in looked.stamps():
            # What is mounted below may be of any kind.
            if stamp[0] != device or not is_settled(stamp, self._began_ns):
                return None
        groups = looked.groups()
        return root, tuple(sorted(looked.ways)), groups, looked.digest(groups)

    def _name(self, reference: Reference, image: Image) -> tuple[str, bytes] | None:
        """Return the record that leads from a base's name to the base."""
        record = self._store.images.reference_file(reference)
        return record[:2] if record is not None and record[2] == image.id else None

    def _tags(self, image_id: Digest) -> Iterator[TagMemo]:
        for text in dict.fromkeys(self._request.tags):
            reference = parse_tag(text)
            record = self._store.images.reference_file(reference)
            if record is not None and record[2] == image_id:
                parts = (reference.registry, reference.repository, reference.tag)
                yield text, parts, record[0], record[1]


def _is_local(plan: BuildPlan) -> bool:
    """Tell whether all that a build is made of is on this machine."""
    contexts = plan.target.plan.contexts.by_name.values()
    fetched = (isinstance(vertex.op, DownloadOp | GitOp) for vertex in plan.vertices.values())
    return not any(fetched) and all(item.kind in ("local", "image") for item in contexts)


def where(row: StepRow) -> dict[str, object]:
    """Return what the journal says of a step whether it ran or not."""
    kept = ("line", "name", "inputs", "bases", "policies", "shell")
    return {name: row.details[name] for name in kept if name in row.details}


def save(path: str, memo: Memo) -> None:
    """Write a memo; losing it is no error. The oldest go when there are many."""
    data = marshal.dumps(tuple(getattr(memo, each.name) for each in fields(memo)))
    if not derived.write(path, data):
        return
    try:
        with os.scandir(os.path.dirname(path)) as entries:
            found = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
        for _, old in found[:-_KEPT]:
            os.unlink(old)
    except OSError:
        return
