"""FROM: where a stage's root file system, config and environment come from."""

import re
from collections.abc import Mapping

from builder.errors import BaseImageNotFound, BuildError, InstructionError, UnknownStage
from builder.gitref import without_password
from builder.lint import semantics
from builder.namedcontexts import NamedContext
from builder.persistent import PersistentMap
from builder.stage import DEFAULT_PATH, Plan, Stage, env_pairs, step_label
from builder.stages import StageList, StageText
from builder.vertex import (
    BaseOp,
    ContextPath,
    CopyOp,
    DownloadedFile,
    DownloadOp,
    GitOp,
    Op,
    Vertex,
    VertexID,
)
from grammar import ast
from grammar.errors import ExpansionError
from grammar.expand import expand
from store import platforms
from store.errors import InvalidReference
from store.images import Image
from store.oci import ContainerConfig
from store.reference import Reference
from values.classes import dataclass, replace


def begin(text: StageText, plan: Plan) -> Stage:
    """Return the stage as its FROM leaves it, before any ONBUILD trigger or instruction."""
    node = text.from_
    place = plan.stages.place(node)
    name = expand_global(node.image, node, plan)
    if not name:
        raise InstructionError(place, f"base name ({node.image}) should not be blank")
    plan = on_platform_of(node, plan)
    parent = plan.stages.before(name, text.index)
    if parent is not None:
        return continue_from(plan.stage(parent), text)
    if name == "scratch":
        return from_scratch(text, plan)
    context = plan.contexts.find(name, plan.platform)
    if context is not None:
        return from_context(context, text, plan)
    reference = reference_of(name, node, plan)
    image = plan.image(reference, place, plan.platform)
    stage = from_image(image, reference.familiar(), text, plan)
    actual = stage.base.config.platform if stage.base else None
    message = actual and semantics.invalid_base_image_platform(name, actual, plan.platform)
    if message:
        plan.warn("InvalidBaseImagePlatform", message, node.span.first_line)
    return stage


def stages_named_by(text: StageText, plan: Plan) -> list[StageText]:
    """Return the earlier stages that FROM, COPY and RUN name; what is wrong there counts later."""
    escape = plan.stages.dockerfile.directives.escape
    try:
        name = expand(text.from_.image, plan.global_env, escape).value
        found = [plan.stages.before(name, text.index)]
        for node in text.instructions:
            if isinstance(node, ast.Copy) and node.from_ is not None:
                found.append(plan.stages.source_of_copy(node.from_, text, node))
            elif isinstance(node, ast.Run):
                froms = (dict(mount.options).get("from") for mount in node.mounts)
                found += [plan.stages.named(name, text, node) for name in froms if name]
    except (ExpansionError, UnknownStage):
        return []
    return [stage for stage in found if stage is not None]


def on_platform_of(node: ast.From, plan: Plan) -> Plan:
    """Return the plan for a stage: on the platform that its FROM names, if it names one.

    What the stages share stays shared. Raises InstructionError.
    """
    if not node.platform:
        return plan
    place = plan.stages.place(node)
    text = expand_global(node.platform, node, plan)
    if not text:
        names = re.findall(r"\w+", node.platform)
        near = next(filter(None, (semantics.closest(n, plan.global_env) for n in names)), None)
        raise InstructionError(
            place,
            f"empty platform value from expression {node.platform}",
            hint=f"did you mean ${near}?" if near else "declare the ARG before the first FROM",
        )
    try:
        wanted = platforms.parse(text)
    except ValueError as error:
        raise InstructionError(place, f"FROM --platform: {error}") from error
    return plan if str(wanted) == plan.platform else replace(plan, platform=str(wanted))


def replaced_by_context(text: StageText, plan: Plan) -> Stage | None:
    """Return what a named context of the stage's own name makes of it; None without one."""
    context = plan.contexts.find(text.name, plan.platform) if text.name else None
    return None if context is None else from_context(context, text, plan)


def from_context(context: NamedContext, text: StageText, plan: Plan) -> Stage:
    """Return a stage that begins as a named context: an image, or files without settings."""
    if context.kind == "image" and context.where == "scratch":
        return from_scratch(text, plan)
    if context.kind in ("image", "layout"):
        return from_image(image_of(context, text.from_, plan), context.where, text, plan)
    if context.kind == "target":
        return replace(continue_from(end_of_target(context, plan), text), plan=plan)
    root = add_context(context, text.from_, text, plan)
    return replace(from_scratch(text, plan), root=root)


def end_of_target(context: NamedContext, plan: Plan) -> Stage:
    """Return the end of another target that is a named context. Raises BuildError."""
    if plan.among is None:
        raise BuildError(
            f"build context {context.name}: target:{context.where}: there is only one target",
            hint="pybuild bake builds several together",
        )
    return plan.among.end_of(context.where, plan.platform)


def image_of(context: NamedContext, node: ast.Instruction, plan: Plan) -> Image:
    """Return the image that a named context is."""
    if context.kind == "layout":
        return plan.layout(context, plan.platform)
    reference = reference_of(context.where, node, plan)
    return plan.image(reference, plan.stages.place(node), plan.platform)


def add_context(
    context: NamedContext, node: ast.Instruction, text: StageText, plan: Plan
) -> VertexID:
    """Put a named context into the plan, as a root file system, and return its vertex.

    text: the stage that needs it.
    """
    place = Placed(node, text, plan, f"[context {context.name}]")
    match context.kind:
        case "target":
            return end_of_target(context, plan).root
        case "local":
            files: Op = CopyOp((ContextPath("/", context=context.name),), "/")
            return place.add(files, (place.add(BaseOp(())),), "load from client")
        case "git":
            assert context.git is not None, "a git context has an address"
            return place.add(GitOp(context.git), (place.add(BaseOp(())),), context.where)
        case "http":
            download = place.add(DownloadOp(context.where), (), context.where)
            # One file, as BuildKit has it: only a main context is unpacked.
            files = CopyOp((DownloadedFile(1, name="context"),), "/")
            return place.add(files, (place.add(BaseOp(())), download), "load")
    if context.where == "scratch":
        return place.add(BaseOp(()))
    image = image_of(context, node, plan)
    return place.add(BaseOp(image.config.diff_ids, image.config.created), (), context.where)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where vertices that no instruction of their own makes are put: for whom, under what name."""

    node: ast.Instruction
    text: StageText
    plan: Plan
    label: str

    def add(
        self,
        op: Op,
        inputs: tuple[VertexID, ...] = (),
        what: str = "",
        facts: Mapping[str, object] | None = None,
    ) -> VertexID:
        """Put a vertex into the plan, unless an equal one is there, and return its id.

        facts: see Vertex.
        """
        no_cache = self.plan.is_uncached(self.text, op)
        identity = self.plan.identity(op, inputs, no_cache=no_cache)
        self.plan.vertices.setdefault(
            identity,
            Vertex(
                identity,
                op,
                inputs,
                name=f"{self.label} {without_password(what)}".rstrip(),
                title=self.node.text,
                stage=self.text.display,
                step=1,
                place=self.plan.stages.place(self.node),
                platform=self.plan.platform,
                no_cache=no_cache,
                facts=facts or {},
            ),
        )
        return identity


def from_scratch(text: StageText, plan: Plan) -> Stage:
    """Return a stage with an empty root file system."""
    root = add_base(BaseOp(()), text, plan)
    config = ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")
    return Stage(plan, text, root, config=config, env=PersistentMap(env_pairs(config.env)))


def from_image(image: Image, name: str, text: StageText, plan: Plan) -> Stage:
    """Return a stage that begins as an image, its ONBUILD triggers still in the config.

    name: what the image was asked for as.
    """
    op = BaseOp(image.config.diff_ids, image.config.created)
    digest = image.manifest.digest if image.manifest else image.id
    root = add_base(op, text, plan, {"image": name, "digest": digest})
    _note_name(root, name, plan)
    config = image.config.config
    if not any(item.startswith("PATH=") for item in config.env):
        config = replace(config, env=(*config.env, f"PATH={DEFAULT_PATH}"))
    return Stage(
        plan,
        text,
        root,
        base=image,
        config=config,
        env=PersistentMap(env_pairs(config.env)),
        author=image.config.author,
    )


def _note_name(root: VertexID, name: str, plan: Plan) -> None:
    """Keep for explanations that one more FROM calls the image of the vertex `root` `name`."""
    vertex = plan.vertices[root]
    also = vertex.facts.get("also", ())
    if name != vertex.facts.get("image") and isinstance(also, tuple) and name not in also:
        facts = {**vertex.facts, "also": (*also, name)}
        plan.vertices[root] = replace(vertex, facts=facts)


def continue_from(parent: Stage, text: StageText) -> Stage:
    """Return a stage that begins as another stage of the same file ended."""
    return replace(parent, text=text, step=1, cmd_set=False)


def add_base(
    op: BaseOp, text: StageText, plan: Plan, facts: Mapping[str, object] | None = None
) -> VertexID:
    """Put the vertex of a base into the plan and return its id."""
    label = step_label(plan.shown(text), 1, count_steps(text))
    return Placed(text.from_, text, plan, label).add(op, (), text.from_.text, facts)


def count_steps(text: StageText) -> int:
    """Return how many numbered steps a stage shows: FROM and what makes layers."""
    makers = (ast.Run, ast.Copy, ast.Add, ast.Workdir)
    return 1 + sum(isinstance(node, makers) for node in text.instructions)


def expand_global(word: str, node: ast.From, plan: Plan) -> str:
    """Return a word of FROM with the global ARGs replaced."""
    try:
        return expand(word, plan.global_env, plan.stages.dockerfile.directives.escape).value
    except ExpansionError as error:
        raise InstructionError(plan.stages.place(node), str(error), hint=error.hint) from error


def reference_of(name: str, node: ast.Instruction, plan: Plan) -> Reference:
    """Return `name` as an image reference. Raises InstructionError where it is none."""
    try:
        return Reference.parse(name)
    except InvalidReference as error:
        raise InstructionError(plan.stages.place(node), str(error), hint=error.hint) from error


def global_env(
    stages: StageList, build_args: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    """Return the global scope: platform ARGs, and the ARGs before the first FROM with values.

    A value given by `--build-arg` wins over a default and is not expanded again.
    Raises InstructionError. Source: Dockerfile reference, "Understand how ARG and FROM interact".
    """
    escape = stages.dockerfile.directives.escape
    scope = {name: build_args.get(name, value) for name, value in platform.items()}
    for node in stages.global_args:
        for name, default in node.pairs:
            value = build_args.get(name)
            try:
                if value is None and default is not None:
                    value = expand(default, scope, escape).value
            except ExpansionError as error:
                raise InstructionError(
                    stages.place(node), f"ARG {name}: {error}", hint=error.hint
                ) from error
            if value is not None:
                scope[name] = value
    return scope


def root_of_copy_source(node: ast.Copy, stage: Stage) -> VertexID:
    """Return the vertex whose files `COPY --from` copies: a stage's last one, or an image."""
    name = node.from_ or ""
    if "$" in name:
        raise InstructionError(
            stage.place(node),
            f"variables are not expanded in --from: {name}",
            hint="give the image a stage of its own, FROM $IMAGE AS name, and copy from that",
        )
    source = stage.plan.stages.source_of_copy(name, stage.text, node)
    return root_of_stage_or_image(name, source, node, stage)


def folder_of_copy_source(node: ast.Copy, stage: Stage) -> str | None:
    """Return the name of the named context that COPY --from means, if that is a folder.

    Its files are copied from where they are; for anything else see `root_of_copy_source`.
    """
    name = node.from_
    if name is None or "$" in name or not stage.plan.contexts.by_name:
        return None
    source = stage.plan.stages.source_of_copy(name, stage.text, node)
    wanted = name if source is None else source.name
    context = stage.plan.contexts.find(wanted, stage.plan.platform) if wanted else None
    return context.name if context is not None and context.kind == "local" else None


def root_of_mount_source(name: str, node: ast.Run, stage: Stage) -> VertexID:
    """Return the vertex whose files `RUN --mount=from=name` shows; here a number is a name."""
    source = stage.plan.stages.named(name, stage.text, node)
    return root_of_stage_or_image(name, source, node, stage)


def root_of_stage_or_image(
    name: str, source: StageText | None, node: ast.Instruction, stage: Stage
) -> VertexID:
    """Return the last vertex of a stage or, without one, the vertex of the image `name`."""
    if source is not None:
        return stage.plan.stage(source).root
    if name == "scratch":
        return stage.add_vertex(node, BaseOp(()), (), stage.step + 1, name="[internal] scratch")
    context = stage.plan.contexts.find(name, stage.plan.platform)
    if context is not None:
        return add_context(context, node, stage.text, stage.plan)
    reference = reference_of(name, node, stage.plan)
    try:
        image = stage.plan.image(reference, stage.place(node), stage.plan.platform)
    except BaseImageNotFound as error:
        if re.fullmatch(r"[\w.-]+", name) is None or not stage.plan.stages.names():
            raise
        raise UnknownStage(
            stage.place(node),
            f'no stage and no image in the store is called "{name}"',
            hint=f"stages: {', '.join(stage.plan.stages.names())}",
        ) from error
    op = BaseOp(image.config.diff_ids, image.config.created)
    return stage.add_vertex(node, op, (), stage.step + 1, name=f"[internal] {reference.familiar()}")
