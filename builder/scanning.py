"""`--sbom generator=IMAGE`: running an image that lists what is in a root file system.

A scan is a RUN on the generator's root file system, so that it is cached, journalled and stopped as
any other. Source: BuildKit docs/attestations/sbom-protocol.md, frontend/attestations/sbom/sbom.go;
docs/attestations/sbom.md for the arguments that add stages and the context.
"""

from collections.abc import Iterator

from builder.errors import BuildError
from builder.export.sbom import CORE, OUT, PARAMETER
from builder.instructions.origin import reference_of, stages_named_by
from builder.instructions.run import SANDBOX_HOSTNAME
from builder.request import FALSE, TRUE, BuildRequest, Place
from builder.runmounts import BindMount, RunMount, TmpfsMount
from builder.stage import DEFAULT_PATH, Plan, Stage, env_pairs
from builder.stages import StageText
from builder.vertex import BaseOp, MakeDirOp, Op, RunOp, Vertex, VertexID, vertex_id
from store import platforms
from values.classes import dataclass

_SOURCES = "/run/src"
SCAN_CONTEXT, SCAN_STAGE = "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"


def generator_of(request: BuildRequest) -> Place | None:
    """Return what says which image lists packages, None where it is not an image that does."""
    place = request.sbom
    if place is None or place.is_on("disabled"):
        return None
    return place if place.option("generator") else None


def plan_scan(stage: Stage, generator: Place) -> VertexID:
    """Put the scan of a stage into the plan and return its vertex. Raises BuildError."""
    name = generator.option("generator") or ""
    node, plan = stage.text.from_, stage.plan
    host = str(platforms.host())
    reference = reference_of(name, node, plan)
    image = plan.image(reference, plan.stages.place(node), host)
    config = image.config.config
    args = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not args:
        raise BuildError(
            f"--sbom: generator {reference.familiar()} has no command",
            hint="an image that scans has an ENTRYPOINT or a CMD",
        )
    scan = _Scan(stage, f"[sbom] generate with {reference.familiar()}", host)
    base = scan.add(BaseOp(image.config.diff_ids, image.config.created), ())
    folder = scan.add(MakeDirOp(OUT, ""), (base,))
    extras = dict(extras_of(stage))
    mounts: list[RunMount] = [
        TmpfsMount("/tmp"),
        BindMount(f"{_SOURCES}/core/{CORE}", 1, "/"),
    ]
    roots = [stage.root]
    for extra, root in extras.items():
        target = f"{_SOURCES}/extras/{CORE}-{extra}"
        mounts.append(BindMount(target, None if root is None else len(roots) + 1, "/"))
        roots += [] if root is None else [root]
    env = {"PATH": DEFAULT_PATH, **dict(env_pairs(config.env))}
    env |= {"BUILDKIT_SCAN_DESTINATION": f"{OUT}/"}
    env |= {"BUILDKIT_SCAN_SOURCE": f"{_SOURCES}/core/{CORE}"}
    env |= {"BUILDKIT_SCAN_SOURCE_EXTRAS": f"{_SOURCES}/extras"} if extras else {}
    env |= {f"BUILDKIT_SCAN_{k}": v for k, v in generator.options if PARAMETER.fullmatch(k)}
    run = RunOp(
        args=args,
        env=tuple(env.items()),
        cwd=config.working_dir or "/",
        user="",
        network=plan.request.network if plan.request.network in ("host", "none") else "default",
        hostname=SANDBOX_HOSTNAME,
        platform=host,
        mounts=tuple(mounts),
        sandbox=plan.request.sandbox,
    )
    return scan.add(run, (folder, *roots))


def extras_of(stage: Stage) -> Iterator[tuple[str, VertexID | None]]:
    """Yield what is scanned besides a stage: names and roots, None for the context."""
    if is_asked_for(SCAN_CONTEXT, stage):
        yield "context", None
    for text in reachable(stage.text, stage.plan):
        other = stage.plan.stage(text)
        if text.index != stage.text.index and is_asked_for(SCAN_STAGE, other):
            yield text.display, other.root


def is_asked_for(name: str, stage: Stage) -> bool:
    """Tell whether an ARG, of the stage or before all stages, asks for a scan."""
    value = stage.args.get(name) or stage.plan.global_env.get(name) or ""
    if not value or value.lower() in FALSE:
        return False
    return value.lower() in TRUE or stage.text.display in value.split(",")


def reachable(text: StageText, plan: Plan) -> list[StageText]:
    """Return the stages that a stage is made from, and those that they are, in the file's order."""
    found: dict[int, StageText] = {}
    left = [text]
    while left:
        stage = left.pop()
        if stage.index not in found:
            found[stage.index] = stage
            left += stages_named_by(stage, plan)
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Scan:
    """Where the vertices of a scan are put, and what progress and the journal call them."""

    stage: Stage
    name: str
    platform: str

    def add(self, op: Op, inputs: tuple[VertexID, ...]) -> VertexID:
        """Put a vertex into the plan, unless an equal one is there, and return its id."""
        stage, plan = self.stage, self.stage.plan
        no_cache = plan.request.no_cache and isinstance(op, RunOp)
        identity = vertex_id(op, inputs, self.platform, no_cache=no_cache)
        shown = self.name if isinstance(op, RunOp) else self.name.replace("generate", "prepare")
        vertex = Vertex(
            identity,
            op,
            inputs,
            name=shown,
            title=shown,
            stage=stage.text.display,
            step=stage.steps + 1,
            place=plan.stages.place(stage.text.from_),
            platform=self.platform,
            no_cache=no_cache,
        )
        plan.vertices.setdefault(identity, vertex)
        return identity
