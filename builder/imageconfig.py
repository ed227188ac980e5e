"""The image config that a finished stage makes.

Source: image-spec config.md; BuildKit's exporter (writer.go) for histories that do not fit and
times that are missing.
"""

from collections.abc import Mapping, Sequence

from builder.stage import HistoryStep, Stage
from builder.vertex import VertexID
from store import platforms
from store.digest import DiffID
from store.oci import HistoryEntry, ImageConfig
from values.classes import replace

COMMENT = "buildkit.dockerfile.v0"
EXPORTER_COMMENT = "buildkit.exporter.image.v0"


def image_config(
    stage: Stage,
    platform: str,
    chain: tuple[DiffID, ...],
    created: Mapping[VertexID, str | None],
    labels: tuple[tuple[str, str], ...],
) -> ImageConfig:
    """Return the config of the image that `stage` made.

    chain: all its layers, base first. created: when each vertex's layer was made, RFC 3339.
    labels: `--label`s, which win. An unchanged build gives the same config: nothing in it is
    the time of this build. What a base's config has besides the known fields is left out, as by
    BuildKit: it was about that image.
    """
    base = stage.base.config if stage.base else None
    wanted = platforms.parse(platform)
    history = reconciled(
        (*base_history(base), *entries(stage.history, created)), layer_times(stage, chain, created)
    )
    config = stage.container_config()
    config = replace(
        config, labels=tuple({**dict(config.labels), **dict(labels)}.items()), extra={}
    )
    latest = next((entry.created for entry in reversed(history) if entry.created), None)
    return ImageConfig(
        architecture=(base and base.architecture) or wanted.architecture,
        os=(base and base.os) or wanted.os,
        variant=base.variant if base and base.architecture else wanted.variant,
        os_version=base.os_version if base else "",
        os_features=base.os_features if base else (),
        created=latest or (base.created if base else None),
        author=stage.author or "",
        config=config,
        diff_ids=chain,
        history=history,
    )


def base_history(base: ImageConfig | None) -> tuple[HistoryEntry, ...]:
    """Return the history that an image brings; its layers without a time get the image's."""
    if base is None:
        return ()
    return tuple(
        entry
        if entry.created or entry.empty_layer
        else replace(entry, created=base.created, extra={})
        for entry in base.history
    )


def entries(
    steps: Sequence[HistoryStep], created: Mapping[VertexID, str | None]
) -> list[HistoryEntry]:
    """Return the entries of instructions; those without a layer have no time yet."""
    return [
        HistoryEntry(
            created=created[step.vertex] if step.vertex is not None else None,
            created_by=step.created_by,
            comment=COMMENT,
            empty_layer=step.vertex is None,
        )
        for step in steps
    ]


def layer_times(
    stage: Stage, chain: Sequence[DiffID], created: Mapping[VertexID, str | None]
) -> list[str | None]:
    """Return when each layer was made, base first."""
    made = [created[step.vertex] for step in stage.history if step.vertex is not None]
    base = stage.base.config.created if stage.base else None
    below: list[str | None] = [base] * max(0, len(chain) - len(made))
    return [*below, *made][: len(chain)]


def reconciled(
    history: Sequence[HistoryEntry], layers: Sequence[str | None]
) -> tuple[HistoryEntry, ...]:
    """Return a history with an entry for each layer, and a time in each entry.

    layers: when each was made. Entries for more layers than there are count as empty ones;
    missing ones are added at the end, whichever layer has none.
    """
    fitting: list[HistoryEntry] = []
    count = 0
    for entry in history:
        is_surplus = not entry.empty_layer and count == len(layers)
        fitting.append(replace(entry, empty_layer=True) if is_surplus else entry)
        count += not entry.empty_layer and not is_surplus
    fitting += [
        HistoryEntry(created=time, created_by="created by buildkit", comment=EXPORTER_COMMENT)
        for time in layers[count:]
    ]
    return tuple(with_times(fitting))


def with_times(history: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Return a history whose entries without a time have a neighbour's.

    The first of them take that of the next entry that has one, later ones that of the entry before.
    """
    missing = next((n for n, entry in enumerate(history) if not entry.created), len(history))
    known = [entry.created for entry in history[missing:] if entry.created]
    time = known[0] if known else next((e.created for e in reversed(history) if e.created), None)
    result = []
    for number, entry in enumerate(history):
        if entry.created and number > missing:
            time = entry.created
        result.append(entry if entry.created else replace(entry, created=time))
    return result
