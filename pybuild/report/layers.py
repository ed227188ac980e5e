"""The layers of a build's image: sizes, what nobody sees, and the biggest files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.report.markup import escaped
from pybuild.sizes import human_size

if TYPE_CHECKING:
    from pybuild.engine.imagefiles import LayerLine
    from store.root import Store

_BIGGEST = 5


def layers(store: Store, image_id: str) -> Iterator[str]:
    """Yield the layers of an image as HTML, base first."""
    from pybuild.engine.imagefiles import tree
    from store.errors import StoreError

    if not image_id:
        yield '<p class="note">This build made no image.</p>\n'
        return
    try:
        found = tree(store, image_id, _BIGGEST)
    except StoreError as error:
        yield f'<p class="note">The image cannot be read any more: {escaped(error)}.</p>\n'
        return
    whole = max(1, *(layer.size_bytes for layer in found)) if found else 1
    yield (
        '<ul class="key"><li class="done"><i></i>seen in the image</li>'
        '<li class="cancelled"><i></i>hidden: a later layer deletes or replaces it</li></ul>\n'
    )
    for layer in found:
        yield from _layer(layer, whole)


def _layer(layer: LayerLine, whole: int) -> Iterator[str]:
    hidden = min(layer.hidden_bytes, layer.size_bytes)
    seen = 100 * (layer.size_bytes - hidden) / whole
    made_by = escaped(" ".join(layer.created_by.split()) or layer.diff_id)
    note = f" ({human_size(hidden)} hidden)" if hidden else ""
    yield (
        f'<div class="layer"><div class="top"><span class="mono" title="{made_by}">'
        f"{layer.number}. {made_by}</span><b>{human_size(layer.size_bytes)}{note}</b></div>"
        f'<div class="meter"><i style="width:{seen:.2f}%"></i>'
        f'<i class="hidden" style="width:{100 * hidden / whole:.2f}%"></i></div>'
    )
    if layer.biggest:
        yield "<ol>"
        for file in layer.biggest:
            path = escaped(file.path)
            yield (
                f"<li><span>{human_size(file.size_bytes)}</span>"
                f'<span class="mono" title="{path}">{path}</span></li>'
            )
        yield "</ol>"
    yield "</div>\n"
