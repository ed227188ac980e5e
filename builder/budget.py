"""Budgets: what a build may come to. Looked at when all steps are done and nothing is written.

They end nothing that runs, which is what the policy `timeout` does: steps stay in the cache, so
that who has seen which one was slow does not wait for it again.
"""

import time
from collections.abc import Iterator, Sequence

from builder.errors import BudgetExceeded
from builder.export.products import Product
from builder.request import Budget
from builder.site import Site
from store.buildjournal import BuildRow, StepRow

_RAN = ("done", "adopted", "failed")


def check_budget(budget: Budget, site: Site, row: BuildRow, products: Sequence[Product]) -> None:
    """Raise BudgetExceeded, which names every limit that the build is above, and by how much.

    row: of the build, in the journal. products: what it would write. Raises LayersLost.
    """
    passed_s = (time.time_ns() - row.started_ns) / 1e9
    steps = site.store.journal.steps(row.build_id)
    said = [*_steps_above(budget, steps), *_total_above(budget, passed_s)]
    said += _images_above(budget, site, products)
    if said:
        raise BudgetExceeded(said)


def _steps_above(budget: Budget, steps: Sequence[StepRow]) -> Iterator[str]:
    for step in steps:
        seconds = (step.ended_ns - step.started_ns) / 1e9
        if budget.step_s is not None and step.status in _RAN and seconds > budget.step_s:
            name = " ".join(str(step.details.get("name") or step.title).split())
            yield f"step {name}: {_above(seconds, budget.step_s)}"


def _total_above(budget: Budget, passed_s: float) -> Iterator[str]:
    if budget.total_s is not None and passed_s > budget.total_s:
        yield f"total: {_above(passed_s, budget.total_s)}"


def _images_above(budget: Budget, site: Site, products: Sequence[Product]) -> Iterator[str]:
    if budget.image_bytes is None:
        return
    for product in products:
        for variant in product.variants:
            site.absent.need(variant.chain)
            layers = map(site.store.layers.info, variant.chain)
            size = sum(layer.content_bytes for layer in layers)
            if size > budget.image_bytes:
                parts = [product.stage and f"of {product.stage}"]
                if len(product.variants) > 1:
                    parts.append(f"for {variant.platform}")
                what = " ".join(["image", *filter(None, parts)])
                over = _megabytes(size - budget.image_bytes)
                limit = _megabytes(budget.image_bytes)
                yield f"{what}: {_megabytes(size)}, {over} above {limit}"


def _above(seconds: float, limit_s: float) -> str:
    return f"{seconds:.2f}s, {seconds - limit_s:.2f}s above {limit_s:g}s"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f}MB" if size_bytes >= 10_000 else f"{size_bytes}B"
