"""A whole build, in six phases: read, stages, lower, graph, schedule, export.

This is the builder's front door: `build` is what the rest of the program calls, `together` where
there are several targets. What comes before the graph is in `ready`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from builder.among import Among
from builder.durations import expected_seconds
from builder.errors import BuildError, Canceled, LayersLost, TargetFailed
from builder.events import BuildStarted, OnEvent, Planned
from builder.export.destinations import check_outputs
from builder.export.exporting import Delivered, Exporter
from builder.export.products import Product, Variant
from builder.export.provenance import Facts
from builder.graph import build_graph
from builder.imageconfig import image_config
from builder.memorize import Memorizer
from builder.openbuild import OpenBuild, journaled
from builder.planning import BuildPlan
from builder.ready import Definition, Ready, Start, lock_of, platforms_of, read_definition
from builder.remotecache.ledger import Ledger
from builder.remotecache.places import check_places
from builder.request import BuildRequest, BuildResult, Output
from builder.schedule import default_jobs, run_graph
from builder.shared import Shared, context_name, new_shared
from builder.site import Progress, Result, Site
from builder.solve import planned_steps, solve
from builder.stage import Stage
from builder.supplies import supplies_of
from builder.tags import parse_tag
from builder.vertex import Vertex, VertexID
from runtime.cancel import Cancel
from store import platforms
from store.digest import DiffID
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, replace

T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """A build that is ready to be solved. target: its name where it is one of several."""

    request: BuildRequest
    outputs: tuple[Output, ...]
    references: tuple[Reference, ...]
    opened: OpenBuild
    ready: Ready
    exporter: Exporter

    @property
    def target(self) -> str:
        """Its name where it is one of several, else empty."""
        return self.opened.target

    @property
    def site(self) -> Site:
        """What its steps share."""
        return self.ready.site

    @property
    def roots(self) -> tuple[VertexID, ...]:
        """The vertices that are wanted."""
        return tuple(dict.fromkeys(root for plan in self.ready.plans for root in plan.roots))

    def result(self, delivered: Delivered) -> BuildResult:
        """Return what the build comes to."""
        used_stdout = any(output.option("dest") == "-" for output in self.outputs)
        build_id, metadata = self.opened.row.build_id, delivered.metadata
        return BuildResult(build_id, delivered.image_id, self.references, used_stdout, metadata)


def build(store: Store, request: BuildRequest, on_event: OnEvent, cancel: Cancel) -> BuildResult:
    """Build what `request` says into `store`.

    on_event: takes the progress, one event at a time, from several threads. cancel: set by
    anyone, it stops the build.
    Raises GrammarError, BuildError, StoreError, RegistryError, RuntimeFailure; nothing is half-made
    then.
    """
    memorizer = Memorizer(store, request, on_event)
    progress = Progress(memorizer.recorder)
    with store.lease(), ExitStack() as stack:
        shared = new_shared(store, request.jobs or default_jobs(), stack)
        job = stack.enter_context(opened_job(shared, request, progress, cancel))
        delivered = with_what_is_there(
            shared, progress, lambda: exported(job, run_jobs([job], shared, progress, cancel))
        )
        export_cache(job)
        done = job.opened.finish(delivered.image_id)
        ready = job.ready
        if len(ready.plans) == 1:
            memorizer.keep(ready.plans[0], ready.bases, ready.site, done, delivered.metadata)
        return job.result(delivered)


@contextmanager
def opened_job(
    shared: Shared,
    request: BuildRequest,
    progress: Progress,
    cancel: Cancel,
    linked: Callable[[str, str], Stage] | None = None,
) -> Iterator[Job]:
    """Make a build ready; its row in the journal is open until the end.

    progress: has the target's name where there are several; linked: see `Among`.
    Raises GrammarError, BuildError, StoreError, RegistryError.
    """
    wanted, outputs = platforms_of(request), check_outputs(request)
    check_places(request)
    references = references_of(request, outputs)
    store, locked = shared.store, lock_of(request)
    with supplies_of(store, request, shared.cleared) as supplies, ExitStack() as stack:
        source = shared.source(request, progress, cancel, supplies.secrets, locked)
        definition = read_definition(store, request, source, progress)
        opened = stack.enter_context(journaled(store, request, definition, progress.target))
        progress.emit(BuildStarted(opened.row.build_id))
        among = linked and Among(context_name(source, definition.rules), linked)
        start = Start(
            store,
            request,
            wanted,
            definition,
            supplies,
            progress,
            cancel,
            opened.row.build_id,
            locked,
            shared,
            among,
        )
        # With a remote cache a base's layers may not be needed at all.
        ready = start.ready(stack, lazily=bool(request.cache_from))
        exporter = Exporter(ready.site, request, outputs, facts_of(opened, definition, ready))
        yield Job(request, outputs, references, opened, ready, exporter)


def references_of(request: BuildRequest, outputs: Sequence[Output]) -> tuple[Reference, ...]:
    """Return all names that a build gives. Raises BuildError."""
    names = (
        *request.tags,
        *(name for _, name in request.stage_tags),
        *(name for output in outputs for name in output.names),
    )
    return tuple(parse_tag(name) for name in dict.fromkeys(names))


def facts_of(opened: OpenBuild, definition: Definition, ready: Ready) -> Callable[[], Facts]:
    """Return what gives provenance its facts, when the build is solved."""
    row, dockerfile = opened.row, definition.dockerfile
    return lambda: Facts(
        row.build_id,
        row.started_ns,
        time.time_ns(),
        dockerfile.name,
        dockerfile.data,
        row.context,
        str(platforms.host()),
        ready.bases.digests(),
    )


def with_what_is_there(shared: Shared, progress: Progress, solve_and_export: Callable[[], T]) -> T:
    """Solve the vertices and write the outputs.

    Where layers that a cache promised cannot be had, everything is solved again without them: what
    was done is cached now, and no result that was derived from them stays.
    """
    while True:
        try:
            return solve_and_export()
        except LayersLost as lost:
            shared.absent.give_up(map(DiffID, lost.diff_ids))
            shared.ledger.clear()
            step = progress.begin("[internal] build what a cache promised")
            step.message(str(lost))
            step.done()


def exported(job: Job, results: Mapping[VertexID, Result]) -> Delivered:
    """Write the outputs of a build that is solved. Raises what they raise, LayersLost."""
    exporter, site = job.exporter, job.site
    products = products_of(job.ready.plans, results, exporter.request, site.ledger)
    if exporter.request.budget is not None:
        from builder.budget import check_budget

        check_budget(exporter.request.budget, site, job.opened.row, products)
    return exporter.run(products)


def export_cache(job: Job) -> None:
    """Add a build's records to the remote caches that are named. Raises BuildError."""
    if not any(place.type != "inline" for place in job.request.cache_to):
        return
    from builder.remotecache.exports import Solved, export_all
    from builder.remotecache.opening import ERRORS, opened_exports

    plans, site = job.ready.plans, job.site
    roots = [stage.root for plan in plans for stage in plan.images]
    with opened_exports(job.request, platforms.parse(plans[0].platform), site.absent) as exports:
        rules, ledger = site.context.tree.rules, site.ledger.of(site.vertices)
        ignored = rules.patterns if rules else None
        solved = Solved(site.vertices, roots, ledger, site.dockerfile, ignored)
        export_all(exports, solved, site.progress, ERRORS)


def run_jobs(
    jobs: Sequence[Job], shared: Shared, progress: Progress, cancel: Cancel
) -> dict[VertexID, Result]:
    """Solve all vertices that builds need, each once: for the first build that needs it."""
    vertices = {name: vertex for job in jobs for name, vertex in job.site.vertices.items()}
    graph = build_graph(vertices, *(root for job in jobs for root in job.roots))
    users = users_of(graph.vertices, jobs)
    for job in jobs:
        job.site.sharers = {
            name: [other.site for other in them if other is not job]
            for name, them in users.items()
            if len(them) > 1 and them[0] is job
        }
    steps = [
        replace(step, name=users[VertexID(step.digest)][0].site.progress.shown(step.name))
        for step in planned_steps(graph.vertices.values())
    ]
    progress.emit(Planned(tuple(steps)))
    seconds: dict[VertexID, float] = {}
    for job in jobs if graph.has_choice() else ():
        own = [vertex for vertex in graph.vertices.values() if users[vertex.id][0] is job]
        seconds |= expected_seconds(shared.store, job.site.journal_name, own)
    return run_graph(
        graph,
        lambda vertex, inputs: solved_for(users[vertex.id], vertex, inputs),
        cancel,
        shared.slots,
        seconds,
    )


def users_of(vertices: Mapping[VertexID, Vertex], jobs: Sequence[Job]) -> dict[VertexID, list[Job]]:
    """Return the builds that need each vertex; first one that looks in remote caches, if any."""
    if len(jobs) == 1:
        return {name: [jobs[0]] for name in vertices}
    users: dict[VertexID, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.site.imports is None):
        for name in needed(vertices, job.roots):
            users.setdefault(name, []).append(job)
    return users


def needed(vertices: Mapping[VertexID, Vertex], roots: Sequence[VertexID]) -> set[VertexID]:
    """Return the vertices that `roots` stand on, those themselves included."""
    found: set[VertexID] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += vertices[name].inputs
    return found


def solved_for(users: Sequence[Job], vertex: Vertex, inputs: Sequence[Result]) -> Result:
    """Return the result of a vertex. Raises BuildError; TargetFailed where there are targets."""
    try:
        result = solve(vertex, inputs, users[0].site, vertex.platform)
        for other in users[1:]:
            if other.site.gate is not None and vertex.id in other.site.journaled:
                # What holds no secret of one target may hold one of another.
                other.site.gate.admit(vertex, result.chain[-1:])
    except (Canceled, LayersLost):
        raise
    except BuildError as error:
        if not users[0].target:
            raise
        raise TargetFailed([user.target for user in users], error) from error
    return result


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
    scans = {
        stage.root: results[scan].chain
        for plan in plans
        for stage, scan in zip(plan.images, plan.scans, strict=False)  # all of them, or none
    }

    def variant(stage: Stage) -> Variant:
        chain = results[stage.root].chain
        config = image_config(stage, stage.plan.platform, chain, created, request.labels)
        if any(place.type == "inline" for place in request.cache_to):
            from builder.remotecache.exports import Solved
            from builder.remotecache.inline import written

            own = plans[0].vertices
            config = written(config, Solved(own, (), ledger.of(own)).all())
        base_layers = len(stage.base.config.diff_ids) if stage.base is not None else 0
        return Variant(config, base_layers, scans.get(stage.root))

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
