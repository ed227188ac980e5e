"""The image config that a finished stage makes.

Source: image-spec config.md; BuildKit's exporter for `created` of entries without a layer.
"""

from collections.abc import Mapping
from dataclasses import replace

from builder.stage import HistoryStep, Stage
from builder.vertex import VertexID
from store.digest import DiffID
from store.oci import HistoryEntry, ImageConfig

COMMENT = "buildkit.dockerfile.v0"


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
    the time of this build.
    """
    base = stage.base.config if stage.base else None
    base_created = base.created if base else None
    history = (*(base.history if base else ()), *entries(stage.history, created, base_created))
    os_name, architecture, variant = (*platform.split("/"), "", "")[:3]
    config = replace(
        stage.config,
        labels=tuple({**dict(stage.config.labels), **dict(labels)}.items()),
        working_dir=stage.config.working_dir or "/",
    )
    latest = next((entry.created for entry in reversed(history) if entry.created), base_created)
    if base is not None:
        return replace(
            base,
            created=latest,
            author=stage.author or "",
            config=config,
            diff_ids=chain,
            history=history,
        )
    return ImageConfig(
        architecture=architecture,
        os=os_name,
        variant=variant,
        created=latest,
        author=stage.author or "",
        config=config,
        diff_ids=chain,
        history=history,
    )


def entries(
    steps: tuple[HistoryStep, ...],
    created: Mapping[VertexID, str | None],
    before: str | None,
) -> list[HistoryEntry]:
    """Return the history entries; one without a layer gets the time of the layer before it.

    Those before the first layer get the base's time, `before`; without one, the first layer's.
    """
    first = next((created[step.vertex] for step in steps if step.vertex), None)
    time = before or first
    result = []
    for step in steps:
        if step.vertex is not None:
            time = created[step.vertex] or time
        result.append(
            HistoryEntry(
                created=time,
                created_by=step.created_by,
                comment=COMMENT,
                empty_layer=step.vertex is None,
            )
        )
    return result
