"""Warnings that need the text as written, which the tree does not keep: the casing of words.

Rules bear BuildKit's names and speak in its words.
"""

from collections.abc import Iterator

from grammar import ast


def warnings(tree: ast.Dockerfile) -> tuple[ast.Warning_, ...]:
    """Return the casing warnings of a tree, in order of lines."""
    found = [*_instruction_casing(tree), *_stages(tree), *_not_json(tree)]
    return tuple(sorted(found, key=lambda warning: warning.line))


def _instruction_casing(tree: ast.Dockerfile) -> Iterator[ast.Warning_]:
    """Name the instruction words that are cased unlike most of the stages'.

    As in BuildKit, the ARGs before the first FROM do not count.
    """
    begin = next((at for at, node in enumerate(tree.instructions) if isinstance(node, ast.From)), 0)
    nodes = tree.instructions[begin:]
    words = [(node.text.split(None, 1)[0], node.span.first_line) for node in nodes]
    lower = sum(word.islower() for word, _ in words)
    upper = sum(word.isupper() for word, _ in words)
    casing = "lowercase" if lower > upper else "uppercase"
    for word, line in words:
        if not (word.islower() if lower > upper else word.isupper()):
            message = f"Command '{word}' should match the case of the command majority ({casing})"
            yield ast.Warning_("ConsistentInstructionCasing", line, message)


def _stages(tree: ast.Dockerfile) -> Iterator[ast.Warning_]:
    for node in tree.instructions:
        if isinstance(node, ast.From) and node.name is not None:
            first, *_, keyword, name = node.text.split()
            line = node.span.first_line
            if name != name.lower():
                message = f"Stage name '{name}' should be lowercase"
                yield ast.Warning_("StageNameCasing", line, message)
            if (first.islower() and not keyword.islower()) or (
                first.isupper() and not keyword.isupper()
            ):
                message = f"'{keyword}' and '{first}' keywords' casing do not match"
                yield ast.Warning_("FromAsCasing", line, message)


def _not_json(tree: ast.Dockerfile) -> Iterator[ast.Warning_]:
    """Name commands that look like an exec form, yet are none and go to the shell as text."""
    for node in tree.instructions:
        inner = node.instruction if isinstance(node, ast.Onbuild) else node
        if isinstance(inner, ast.Run | ast.Cmd | ast.Entrypoint | ast.Healthcheck):
            command = inner.command
            if isinstance(command, ast.ShellForm) and command.text.startswith(('["', "['")):
                word = inner.text.split(None, 1)[0].upper()
                message = f"{word} looks like an exec form, but is no valid JSON: the shell gets it"
                yield ast.Warning_("ExecFormInvalidJSON", node.span.first_line, message)
