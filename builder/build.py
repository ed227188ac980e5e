"""A whole build, in six phases: read, stages, lower, graph, schedule, export.

This is the builder's front door: `build` is what the rest of the program calls.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from builder.durations import expected_seconds
from builder.errors import Canceled, LayersLost
from builder.events import BuildStarted, OnEvent, Planned
from builder.export.destinations import check_outputs
from builder.export.exporting import Delivered, Exporter
from builder.export.products import Product, Variant
from builder.export.provenance import Facts
from builder.graph import build_graph
from builder.imageconfig import image_config
from builder.memorize import Memorizer
from builder.planning import BuildPlan
from builder.ready import Definition, Start, lock_of, platforms_of, read_definition
from builder.remotecache.ledger import Ledger
from builder.remotecache.places import check_places
from builder.request import BuildRequest, BuildResult
from builder.schedule import run_graph
from builder.site import Progress, Result, Site
from builder.solve import planned_steps, solve
from builder.sourcetree import opened_source
from builder.stage import Stage
from builder.supplies import supplies_of
from builder.tags import parse_tag
from builder.vertex import VertexID
from runtime.cancel import Cancel
from runtime.container import start_time
from store import platforms
from store.buildrecords import BuildRow
from store.digest import DiffID, Digest
from store.root import Store
from values.classes import replace


def build(store: Store, request: BuildRequest, on_event: OnEvent, cancel: Cancel) -> BuildResult:
    """Build what `request` says into `store`.

    on_event: takes the progress, one event at a time, from several threads. cancel: set by
    anyone, it stops the build.
    Raises GrammarError, BuildError, StoreError, RegistryError, RuntimeFailure; nothing is half-made
    then.
    """
    platforms_wanted = platforms_of(request)
    outputs = check_outputs(request)
    check_places(request)
    names = (
        *request.tags,
        *(name for _, name in request.stage_tags),
        *(name for output in outputs for name in output.names),
    )
    references = tuple(parse_tag(name) for name in dict.fromkeys(names))
    locked = lock_of(request)
    memorizer = Memorizer(store, request, on_event)
    progress = Progress(memorizer.recorder)
    with (
        store.lease(),
        supplies_of(store, request) as supplies,
        opened_source(store, request, progress, cancel, supplies.secrets, locked) as source,
    ):
        definition = read_definition(store, request, source, progress)
        with journaled(store, request, definition) as row, ExitStack() as stack:
            progress.emit(BuildStarted(row.build_id))
            start = Start(
                store,
                request,
                platforms_wanted,
                definition,
                supplies,
                progress,
                cancel,
                row.build_id,
                locked,
            )
            # With a remote cache a base's layers may not be needed at all.
            ready = start.ready(stack, lazily=bool(request.cache_from))
            plans, site = ready.plans, ready.site

            def facts() -> Facts:
                return Facts(
                    row.build_id,
                    row.started_ns,
                    time.time_ns(),
                    definition.dockerfile.name,
                    definition.dockerfile.data,
                    row.context,
                    str(platforms.host()),
                    ready.bases.digests(),
                )

            exporter = Exporter(site, request, outputs, facts)
            delivered = solved_and_exported(plans, site, exporter, row)
            export_cache(plans, site, request)
            done = finish(store, row, delivered.image_id)
            if len(plans) == 1:
                memorizer.keep(plans[0], ready.bases, site, done, delivered.metadata)
    used_stdout = any(output.option("dest") == "-" for output in outputs)
    return BuildResult(
        row.build_id, delivered.image_id, references, used_stdout, delivered.metadata
    )


def export_cache(plans: Sequence[BuildPlan], site: Site, request: BuildRequest) -> None:
    """Add the build's records to the remote caches that are named. Raises BuildError."""
    if not any(place.type != "inline" for place in request.cache_to):
        return
    from builder.remotecache.exports import Solved, export_all
    from builder.remotecache.opening import ERRORS, opened_exports

    first = plans[0]
    roots = [stage.root for plan in plans for stage in plan.images]
    with opened_exports(request, platforms.parse(first.platform), site.absent) as exports:
        rules = site.context.tree.rules
        ignored = rules.patterns if rules else None
        solved = Solved(first.vertices, roots, site.ledger, site.dockerfile, ignored)
        export_all(exports, solved, site.progress, ERRORS)


@contextmanager
def journaled(store: Store, request: BuildRequest, definition: Definition) -> Iterator[BuildRow]:
    """Open the build's row in the journal; an exception closes it as failed or cancelled."""
    details: dict[str, object] = {"tags": list(request.tags), "target": request.target or ""}
    if definition.rules is not None:
        details["ignore"] = list(definition.rules.patterns)
    row = BuildRow(
        build_id=secrets.token_hex(8),
        started_ns=time.time_ns(),
        dockerfile=definition.journal_name,
        context=definition.source.shown,
        details=details,
    )
    # While it runs its row says who builds, so that a build that was killed is known.
    process = [os.getpid(), start_time(os.getpid())[0]]
    store.records.begin_build(replace(row, details={**details, "process": process}))
    try:
        yield row
    except BaseException as error:
        status = "cancelled" if isinstance(error, Canceled | KeyboardInterrupt) else "failed"
        ended = replace(row, status=status, error=str(error), ended_ns=time.time_ns())
        store.records.end_build(ended)
        raise


def finish(store: Store, row: BuildRow, image_id: Digest | None) -> BuildRow:
    """Close the build's row in the journal and return it."""
    done = replace(row, status="done", image_id=image_id or "", ended_ns=time.time_ns())
    store.records.end_build(done)
    return done


def solved_and_exported(
    plans: Sequence[BuildPlan], site: Site, exporter: Exporter, row: BuildRow
) -> Delivered:
    """Solve the vertices and write the outputs.

    Where layers that a cache promised cannot be had, everything is solved again without them: what
    was done is cached now, and no result that was derived from them stays.
    """
    while True:
        try:
            results = run_plans(plans, site)
            products = products_of(plans, results, exporter.request, site.ledger)
            if exporter.request.budget is not None:
                from builder.budget import check_budget

                check_budget(exporter.request.budget, site, row, products)
            return exporter.run(products)
        except LayersLost as lost:
            site.absent.give_up(map(DiffID, lost.diff_ids))
            site.ledger.clear()
            step = site.progress.begin("[internal] build what a cache promised")
            step.message(str(lost))
            step.done()


def run_plans(plans: Sequence[BuildPlan], site: Site) -> dict[VertexID, Result]:
    """Solve all vertices that the targets need."""
    graph = build_graph(plans[0].vertices, *(root for plan in plans for root in plan.roots))
    site.progress.emit(Planned(planned_steps(graph.vertices.values())))
    seconds: Mapping[VertexID, float] = {}
    if graph.has_choice():
        seconds = expected_seconds(site.store, site.journal_name, graph.vertices.values())
    return run_graph(
        graph,
        lambda vertex, inputs: solve(vertex, inputs, site, vertex.platform),
        site.cancel,
        site.slots,
        seconds,
    )


def products_of(
    plans: Sequence[BuildPlan],
    results: Mapping[VertexID, Result],
    request: BuildRequest,
    ledger: Ledger,
) -> list[Product]:
    """Return what the targets give, the build's own first, each for all platforms.

    plans: one for each platform, of the same stages.
    """
    created = {name: result.created for name, result in results.items()}

    def variant(stage: Stage) -> Variant:
        chain = results[stage.root].chain
        config = image_config(stage, stage.plan.platform, chain, created, request.labels)
        if any(place.type == "inline" for place in request.cache_to):
            from builder.remotecache.exports import Solved
            from builder.remotecache.inline import written

            config = written(config, Solved(plans[0].vertices, (), ledger).all())
        return Variant(config, len(stage.base.config.diff_ids) if stage.base is not None else 0)

    tags = (tuple(dict.fromkeys(request.tags)), *(names for _, names in plans[0].named))
    stages = zip(*(plan.images for plan in plans), strict=True)
    return [
        Product(
            tuple(map(variant, same)),
            tuple(map(parse_tag, names)),
            same[0].text.display if number else "",
        )
        for number, (same, names) in enumerate(zip(stages, tags, strict=True))
    ]
