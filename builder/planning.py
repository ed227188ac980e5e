"""From text to graph: which stages the target needs, and what each of their instructions is.

Owns the order of lowering: a stage is lowered when something first needs it, so stages that the
target does not reach are never looked at, their base images neither. Runs nothing.
"""

from collections.abc import Callable
from importlib import import_module

from builder.among import Among
from builder.bases import BaseSource, StoredBases
from builder.errors import InstructionError, Place
from builder.instructions import origin
from builder.lint.engine import inspect, inspect_stage
from builder.lower import lower
from builder.namedcontexts import parse_all
from builder.request import BuildRequest
from builder.stage import HistoryStep, Plan, Stage
from builder.stages import StageList, StageText, platform_args
from builder.vertex import Vertex, VertexID
from grammar import ast
from grammar.errors import GrammarError
from store import platforms
from store.root import Store
from values.classes import dataclass, replace

# Importing them registers what each instruction means.
for _module in ("metadata", "filesystem", "run"):
    import_module(f"builder.instructions.{_module}")


_MANY = 50  # stages; each takes up to ten of Python's thousand calls


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is to be built: the target stage's end state, and all vertices by their ids.

    named: stages that give images of their own, with the names of those. also: stages that are
    only built. scans: what lists the packages of each image, where an image does that.
    """

    target: Stage
    vertices: dict[VertexID, Vertex]
    platform: str
    named: tuple[tuple[Stage, tuple[str, ...]], ...] = ()
    also: tuple[Stage, ...] = ()
    scans: tuple[VertexID, ...] = ()

    @property
    def images(self) -> tuple[Stage, ...]:
        """The stages that give images, the target first."""
        return (self.target, *(stage for stage, _ in self.named))

    @property
    def roots(self) -> tuple[VertexID, ...]:
        """The vertices that are wanted; everything else is there for them."""
        stages = (*self.images, *self.also)
        return tuple(dict.fromkeys((*(stage.root for stage in stages), *self.scans)))

    @property
    def history(self) -> tuple[HistoryStep, ...]:
        """The history entries that the target adds to its base's."""
        return tuple(self.target.history)


class Planner:
    """Lowers stages on demand, each once."""

    def __init__(  # noqa: PLR0913  what a plan is made from
        self,
        bases: BaseSource,
        request: BuildRequest,
        stages: StageList,
        platform: str,
        warn: Callable[[str, str, int | None], None],
        vertices: dict[VertexID, Vertex] | None = None,
        among: Among | None = None,
    ) -> None:
        given = dict(request.build_args)
        scope = origin.global_env(
            stages, given, platform_args(platform, str(platforms.host()), request.target)
        )
        self.plan = Plan(
            request=request,
            stages=stages,
            platform=platform,
            build_args=given,
            global_env=scope,
            stage=self.stage,
            image=bases.image,
            layout=bases.layout,
            contexts=parse_all(request.contexts),
            warn=warn,
            vertices={} if vertices is None else vertices,
            among=among,
        )
        self.done: dict[int, Stage] = {}
        self.open: list[int] = []

    def stage(self, text: StageText) -> Stage:
        """Return the state at the end of a stage. Raises InstructionError on a cycle.

        A stage is lowered where it is first needed. Only of many the first ones come first: a chain
        of a thousand would be a recursion of that depth.
        """
        if not self.open and len(self.plan.stages.stages) > _MANY:
            for needed in self.named_by(text):
                self.end_of(needed)
        return self.end_of(text)

    def named_by(self, text: StageText) -> list[StageText]:
        """Return the stages that a stage names, and those that they name, the first one first."""
        found: dict[int, StageText] = {}
        left = [text]
        while left:
            stage = left.pop()
            if stage.index in found or stage.index in self.done:
                continue
            found[stage.index] = stage
            if not (stage.name and self.plan.contexts.find(stage.name, self.plan.platform)):
                left += origin.stages_named_by(stage, self.plan)
        return [found[index] for index in sorted(found)]

    def end_of(self, text: StageText) -> Stage:
        """Lower a stage unless that is done."""
        if text.index in self.done:
            return self.done[text.index]
        place = self.plan.stages.place(text.from_)
        if text.index in self.open:
            raise InstructionError(
                place, f'circular dependency detected on stage: "{text.display}"'
            )
        self.open.append(text.index)
        try:
            stage = self.lowered(text, place)
        finally:
            self.open.pop()
        self.done[text.index] = stage
        return stage

    def lowered(self, text: StageText, place: Place) -> Stage:
        """Return the state at the end of a stage, all of its instructions inspected and lowered."""
        replaced = origin.replaced_by_context(text, self.plan)
        if replaced is not None:
            return replaced
        stage = origin.begin(text, self.plan)
        triggers = stage.container_config().on_build
        stage = stage.without_triggers()
        fired = tuple(self.trigger(trigger, text, place) for trigger in triggers)
        instructions = (*fired, *text.instructions)
        stage = replace(stage, steps=origin.count_steps(replace(text, instructions=instructions)))
        inspect_stage(instructions, self.plan.warn)
        for node in instructions:
            for rule, message in inspect(node, stage):
                self.plan.warn(rule, message, node.span.first_line)
            stage = lower(node, replace(stage, line=node.span.first_line))
        return stage

    def trigger(self, trigger: str, text: StageText, place: Place) -> ast.Instruction:
        """Return the instruction of an ONBUILD trigger, as standing where the FROM stands."""
        from grammar.parse import parse_instruction

        escape = self.plan.stages.dockerfile.directives.escape
        try:
            node = parse_instruction(trigger, escape)
        except GrammarError as error:
            raise InstructionError(
                place, f"ONBUILD trigger {trigger!r} of the base: {error}", hint=error.hint
            ) from error
        return replace(node, span=text.from_.span)


def plan_build(  # noqa: PLR0913  what a plan is made from, and what it is added to
    store: Store,
    request: BuildRequest,
    stages: StageList,
    platform: str,
    warn: Callable[[str, str, int | None], None],
    bases: BaseSource | None = None,
    vertices: dict[VertexID, Vertex] | None = None,
    among: Among | None = None,
) -> BuildPlan:
    """Return the plan of a build on `platform` (os/arch[/variant]).

    bases: gives base images; by default those of the store. vertices: those of the build's other
    platforms, which this one's are added to. among: the targets that it is built with.
    Raises BuildError (InstructionError with the place, where one instruction is to blame).
    """
    target = stages.target(request.target)
    names: dict[str, list[str]] = {}
    for stage, name in request.stage_tags:
        names.setdefault(stage.lower(), []).append(name)
    planner = Planner(bases or StoredBases(store), request, stages, platform, warn, vertices, among)
    plan = BuildPlan(
        planner.stage(target),
        planner.plan.vertices,
        platform,
        tuple((planner.stage(stages.target(name)), tuple(found)) for name, found in names.items()),
        tuple(planner.stage(stages.target(name)) for name in request.also),
    )
    if request.sbom is None:
        return plan
    from builder.scanning import generator_of, plan_scan

    generator = generator_of(request)
    if generator is None:
        return plan
    return replace(plan, scans=tuple(plan_scan(stage, generator) for stage in plan.images))
