"""FROM: where a stage's root file system, config and environment come from."""

import re
from collections.abc import Mapping
from dataclasses import replace

from builder.errors import BuildError, InstructionError, UnknownStage
from builder.lint import semantics
from builder.stage import DEFAULT_PATH, Plan, Stage, env_pairs, step_label
from builder.stages import StageText
from builder.vertex import BaseOp, Vertex, VertexID, vertex_id
from grammar import ast
from grammar.errors import ExpansionError
from grammar.expand import expand
from store.errors import InvalidReference
from store.oci import ContainerConfig
from store.reference import Reference


def begin(text: StageText, plan: Plan) -> Stage:
    """Return the stage as its FROM leaves it, before any ONBUILD trigger or instruction."""
    node = text.from_
    place = plan.stages.place(node)
    name = expand_global(node.image, node, plan)
    if not name:
        raise InstructionError(place, f"base name ({node.image}) should not be blank")
    if node.platform is not None:
        platform = expand_global(node.platform, node, plan)
        if platform != plan.platform:
            raise InstructionError(
                place, f"FROM --platform={platform} on {plan.platform}: not supported yet"
            )
    parent = plan.stages.before(name, text.index)
    if parent is not None:
        return continue_from(plan.stage(parent), text)
    if name == "scratch":
        return from_scratch(text, plan)
    stage = from_image(reference_of(name, node, plan), text, plan)
    actual = stage.base.config.platform if stage.base else None
    message = actual and semantics.invalid_base_image_platform(name, actual, plan.platform)
    if message:
        plan.warn("InvalidBaseImagePlatform", message, node.span.first_line)
    return stage


def from_scratch(text: StageText, plan: Plan) -> Stage:
    """Return a stage with an empty root file system."""
    root = add_base(BaseOp(()), text, plan)
    config = ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")
    return Stage(plan, text, root, config=config, env=env_pairs(config.env))


def from_image(reference: Reference, text: StageText, plan: Plan) -> Stage:
    """Return a stage that begins as an image, its ONBUILD triggers still in the config."""
    image = plan.image(reference, plan.stages.place(text.from_))
    root = add_base(BaseOp(image.config.diff_ids, image.config.created), text, plan)
    config = image.config.config
    if not any(item.startswith("PATH=") for item in config.env):
        config = replace(config, env=(*config.env, f"PATH={DEFAULT_PATH}"))
    return Stage(
        plan,
        text,
        root,
        base=image,
        config=config,
        env=env_pairs(config.env),
        author=image.config.author,
    )


def continue_from(parent: Stage, text: StageText) -> Stage:
    """Return a stage that begins as another stage of the same file ended."""
    return replace(parent, text=text, step=1, cmd_set=False)


def add_base(op: BaseOp, text: StageText, plan: Plan) -> VertexID:
    """Put the vertex of a base into the plan and return its id."""
    identity = vertex_id(op, ())
    plan.vertices.setdefault(
        identity,
        Vertex(
            identity,
            op,
            (),
            name=f"{step_label(text.display, 1, count_steps(text))} {text.from_.text}",
            title=text.from_.text,
            stage=text.display,
            step=1,
            place=plan.stages.place(text.from_),
        ),
    )
    return identity


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
    global_args: tuple[ast.Arg, ...],
    build_args: Mapping[str, str],
    platform: Mapping[str, str],
    escape: str,
) -> dict[str, str]:
    """Return the global scope: platform ARGs, and the ARGs before the first FROM with values.

    A value given by `--build-arg` wins over a default and is not expanded again.
    Source: Dockerfile reference, "Understand how ARG and FROM interact".
    """
    scope = {name: build_args.get(name, value) for name, value in platform.items()}
    for node in global_args:
        for name, default in node.pairs:
            value = build_args.get(name)
            try:
                if value is None and default is not None:
                    value = expand(default, scope, escape).value
            except ExpansionError as error:
                raise BuildError(f"ARG {name}: {error}", hint=error.hint) from error
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


def root_of_mount_source(name: str, node: ast.Run, stage: Stage) -> VertexID:
    """Return the vertex whose files `RUN --mount=from=name` shows; here a number is a name."""
    source = stage.plan.stages.named(name, stage.text, node)
    if source is None and name == "scratch":
        return stage.add_vertex(node, BaseOp(()), (), stage.step + 1, name="[internal] scratch")
    return root_of_stage_or_image(name, source, node, stage)


def root_of_stage_or_image(
    name: str, source: StageText | None, node: ast.Instruction, stage: Stage
) -> VertexID:
    """Return the last vertex of a stage or, without one, the vertex of the image `name`."""
    if source is not None:
        return stage.plan.stage(source).root
    reference = reference_of(name, node, stage.plan)
    try:
        image = stage.plan.image(reference, stage.place(node))
    except BuildError as error:
        if re.fullmatch(r"[\w.-]+", name) is None or not stage.plan.stages.names():
            raise
        raise UnknownStage(
            stage.place(node),
            f'no stage and no image in the store is called "{name}"',
            hint=f"stages: {', '.join(stage.plan.stages.names())}",
        ) from error
    op = BaseOp(image.config.diff_ids, image.config.created)
    return stage.add_vertex(node, op, (), stage.step + 1, name=f"[internal] {reference.familiar()}")


def without_triggers(stage: Stage) -> tuple[Stage, tuple[str, ...]]:
    """Return the stage with its config's ONBUILD triggers taken out, and those."""
    return stage.configure(on_build=()), stage.config.on_build
