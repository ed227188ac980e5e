"""A build that is remembered as a whole: its progress, its tags and its journal, and nothing else.

Tags are always done, warnings are said again, and the journal has a row for the build and for each
of its steps, so that nobody can tell it from a build that found every step cached, but by the time.
"""

import os
import time
from collections.abc import Sequence

from builder import events
from builder.events import OnEvent
from builder.memo import FOLDER, Memo, Packed, identity_of, recall, tags_that_lead
from builder.request import BuildRequest, BuildResult
from builder.tags import parse_tag
from store.buildjournal import BuildRow, StepRow
from store.digest import Digest
from store.reference import Reference
from store.root import Store
from values.classes import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def replayed(store: Store, request: BuildRequest, on_event: OnEvent) -> BuildResult | None:
    """Return the result of a build in which nothing changed, None for every other.

    Raises BuildError for a tag that is none, StoreError.
    """
    if not os.path.isdir(store.folder.path(FOLDER)):
        return None
    identity = identity_of(request)
    if identity is None:
        return None
    with store.lease():
        memo = recall(store, identity)
        if memo is None:
            return None
        details: dict[str, object] = {"tags": list(request.tags), "target": request.target or ""}
        if memo.ignored is not None:
            details["ignore"] = memo.ignored
        row = BuildRow(
            build_id=os.urandom(8).hex(),
            started_ns=time.time_ns(),
            dockerfile=memo.dockerfile,
            context=memo.context,
            status="done",
            image_id=memo.image_id,
            details=details,
        )
        there = tags_that_lead(store, memo, request.tags)
        references = tuple(
            (Reference(*tag[1]) for tag in there)
            if there is not None
            else dict.fromkeys(map(parse_tag, request.tags))
        )
        on_event(events.BuildStarted(row.build_id))
        for event in memo.said:
            on_event(_unpacked(event))
        _export(store, memo, references, is_done=there is not None, on_event=on_event)
        _journal(store, memo, row)
    metadata = {**dict(memo.metadata), "buildx.build.ref": row.build_id}
    metadata.pop("image.name", None)
    if references:
        metadata["image.name"] = ",".join(map(str, references))
    return BuildResult(row.build_id, Digest(memo.image_id), references, metadata=metadata)


def _unpacked(value: Packed) -> "Any":
    """Return the event that `memorize.packed` made plain."""
    if isinstance(value, dict):
        return getattr(events, value["type"])(*map(_unpacked, value["values"]))
    return tuple(map(_unpacked, value)) if isinstance(value, tuple) else value


def _export(
    store: Store,
    memo: Memo,
    references: Sequence[Reference],
    *,
    is_done: bool,
    on_event: OnEvent,
) -> None:
    """Let the tags lead to the image, unless all of them do."""
    began, number = time.monotonic(), memo.export_step
    on_event(events.StepStarted(number, "exporting to image"))
    if not is_done:
        for reference in references:
            store.images.tag(Digest(memo.image_id), reference)
    on_event(events.StepMessage(number, f"writing image {memo.image_id}", done=True))
    for reference in references:
        on_event(events.StepMessage(number, f"naming to {reference}", done=True))
    on_event(events.StepDone(number, time.monotonic() - began))


def _journal(store: Store, memo: Memo, row: BuildRow) -> None:
    now_ns = time.time_ns()
    steps = [
        StepRow(
            build_id=row.build_id,
            number=number,
            title=title,
            stage=stage,
            step=step,
            key=key,
            status="cached",
            details=details,
            started_ns=row.started_ns,
            ended_ns=now_ns,
        )
        for number, title, stage, step, details, key in memo.steps
    ]
    store.journal.add_cached_build(replace(row, ended_ns=now_ns), steps)
