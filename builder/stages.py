"""Stages of a Dockerfile: which there are, what they are called, what the target is.

Refuses to know what the instructions in a stage mean.
"""

import re

from builder.errors import BuildError, Place, UnknownStage
from grammar import ast
from store import platforms
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class StageText:
    """One stage as written: its FROM and the instructions up to the next FROM.

    index: from 0. name: lower-cased, or None. display: what progress and records call it.
    """

    index: int
    name: str | None
    display: str
    from_: ast.From
    instructions: tuple[ast.Instruction, ...]


@dataclass(frozen=True, slots=True)
class StageList:
    """All stages of a file, and the ARGs before the first FROM."""

    dockerfile: ast.Dockerfile
    source: tuple[str, ...]
    global_args: tuple[ast.Arg, ...]
    stages: tuple[StageText, ...]

    def directive_line(self, key: str) -> int:
        """Return the line of a parser directive, 1 where the file has none of this name."""
        wanted = re.compile(rf"\ufeff?\s*#\s*{key}\s*=", re.IGNORECASE)
        lines = enumerate(self.source, start=1)
        return next((number for number, line in lines if wanted.match(line)), 1)

    def place(self, node: ast.Instruction) -> Place:
        """Return where `node` stands, for errors."""
        return Place(self.dockerfile.name, node.span.first_line, node.span.last_line, self.source)

    def target(self, name: str | None) -> StageText:
        """Return the stage that `--target name` means; the last one without a name."""
        if name is None:
            return self.stages[-1]
        for stage in reversed(self.stages):
            if stage.name == name.lower():
                return stage
        raise BuildError(
            f'target stage "{name}" could not be found',
            hint=self._known_names_hint(),
        )

    def before(self, name: str, index: int) -> StageText | None:
        """Return the nearest stage before stage `index` that FROM's `name` means, or None."""
        for stage in reversed(self.stages[:index]):
            if stage.name is not None and stage.name == name:
                return stage
        return None

    def source_of_copy(self, name: str, user: StageText, node: ast.Instruction) -> StageText | None:
        """Return the stage that `--from=name` in stage `user` means, or None for an image.

        Raises UnknownStage for an index that does not exist and for a stage that comes later.
        """
        if re.fullmatch(r"[-+]?[0-9]+", name):
            if not 0 <= int(name) < user.index:
                raise UnknownStage(
                    self.place(node),
                    f"invalid --from={name}: {self._no_index(int(name), user)}",
                    hint=_earlier_stages(user.index),
                )
            return self.stages[int(name)]
        return self.named(name, user, node)

    def named(self, name: str, user: StageText, node: ast.Instruction) -> StageText | None:
        """Return the last stage called `name` for a use in stage `user`, None when there is none.

        Raises UnknownStage for `user` itself and for a stage that comes later.
        """
        for stage in reversed(self.stages):
            if stage.name != name.lower():
                continue
            if stage.index == user.index:
                raise UnknownStage(
                    self.place(node), f'stage "{user.display}" can not copy from itself'
                )
            if stage.index > user.index:
                raise UnknownStage(
                    self.place(node),
                    f'stage "{name}" needs to be defined before current stage "{user.display}"',
                )
            return stage
        return None

    def names(self) -> tuple[str, ...]:
        """Return the names of the stages that have one."""
        return tuple(stage.name for stage in self.stages if stage.name)

    def _no_index(self, index: int, user: StageText) -> str:
        if index == user.index:
            return "a stage can not copy from itself"
        if 0 <= index < len(self.stages):
            return "that stage comes later"
        return "there is no stage with that index"

    def _known_names_hint(self) -> str:
        names = self.names()
        return f"stages: {', '.join(names)}" if names else "no stage has a name"


def stages_of(dockerfile: ast.Dockerfile, text: bytes) -> StageList:
    """Return the stages of a parsed file; `text` is what it was parsed from, for excerpts."""
    global_args: list[ast.Arg] = []
    groups: list[tuple[ast.From, list[ast.Instruction]]] = []
    for node in dockerfile.instructions:
        if isinstance(node, ast.From):
            groups.append((node, []))
        elif groups:
            groups[-1][1].append(node)
        elif isinstance(node, ast.Arg):
            global_args.append(node)
    if not groups:
        raise BuildError(
            f"{dockerfile.name}: no build stage: there is no FROM",
            hint="begin with FROM image, or FROM scratch",
        )
    single = len(groups) == 1
    stages = tuple(
        StageText(
            index,
            from_.name.lower() if from_.name else None,
            from_.name.lower() if from_.name else ("" if single else f"stage-{index}"),
            from_,
            tuple(nodes),
        )
        for index, (from_, nodes) in enumerate(groups)
    )
    lines = tuple(text.decode("utf-8", "replace").splitlines())
    return StageList(dockerfile, lines, tuple(global_args), stages)


def _earlier_stages(count: int) -> str:
    """Return a hint: which stages the one with index `count` can copy from."""
    if count == 0:
        return "no stage comes before this one"
    if count == 1:
        return "one stage comes before this one: 0"
    return f"{count} stages come before this one: 0 to {count - 1}"


PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


def platform_args(platform: str, build_platform: str, target: str | None) -> dict[str, str]:
    """Return the platform ARGs of the global scope; platforms are `os/arch[/variant]`."""
    values: dict[str, str] = {}
    for prefix, text in (("BUILD", build_platform), ("TARGET", platform)):
        parsed = platforms.parse(text)
        values |= {
            f"{prefix}PLATFORM": text,
            f"{prefix}OS": parsed.os,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": parsed.architecture,
            f"{prefix}VARIANT": parsed.variant,
        }
    values["TARGETSTAGE"] = target or "default"
    return values
