"""RUN: a process on the stage's root file system."""

from dataclasses import replace

from builder.errors import InstructionError
from builder.instructions.metadata import command_args
from builder.lower import lower
from builder.stage import Stage, proxy_env
from builder.vertex import RunOp
from grammar import ast

SANDBOX_HOSTNAME = "buildkitsandbox"


def shell_text(command: ast.ShellForm, node: ast.Run, stage: Stage) -> str:
    """Return what the shell is given: the text, or a heredoc's body, or text with heredocs.

    Source: Dockerfile reference, "Here-documents". A RUN that is only a heredoc passes the body;
    with anything else on the line the shell reads the heredocs itself.
    """
    if not node.heredocs:
        return command.text
    if command.text:
        return command.text + "".join(f"\n{doc.written}{doc.name}" for doc in node.heredocs)
    body = node.heredocs[0].body
    if body.startswith("#!"):
        raise InstructionError(stage.place(node), "a RUN heredoc with #!: not supported yet")
    return body


@lower.register
def run(node: ast.Run, stage: Stage) -> Stage:
    """RUN makes a layer of what the process changes."""
    if node.mounts or node.devices:
        flag = "--mount" if node.mounts else "--device"
        raise InstructionError(stage.place(node), f"RUN {flag}: not supported yet")
    if node.security not in (None, "sandbox"):
        raise InstructionError(
            stage.place(node), f"RUN --security={node.security}: not supported yet"
        )
    network = node.network or "default"
    if network not in ("default", "host", "none"):
        raise InstructionError(
            stage.place(node),
            f'invalid network mode "{network}"',
            hint="one of default, none, host",
        )
    command = node.command
    if isinstance(command, ast.ShellForm):
        command = replace(command, text=shell_text(command, node, stage))
    args = command_args(command, stage)
    if not args:
        raise InstructionError(stage.place(node), "RUN needs a command")
    declared = frozenset(name for name, _ in stage.args)
    op = RunOp(
        args=args,
        env=tuple((key, value) for key, value in stage.env),
        cwd=stage.cwd,
        user=stage.config.user,
        network="host" if network == "default" else network,
        hostname=stage.plan.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", SANDBOX_HOSTNAME),
        platform=stage.plan.platform,
        proxy_env=tuple(sorted(proxy_env(stage.plan.build_args, declared).items())),
    )
    return stage.apply(node, op, history_text(args, stage))


def history_text(args: tuple[str, ...], stage: Stage) -> str:
    """Return RUN's history text: `RUN |1 V=2 /bin/sh -c make # buildkit`."""
    shown = [f"{name}={value}" for name, value in stage.args]
    prefix = f"|{len(shown)} {' '.join(shown)} " if shown else ""
    return f"RUN {prefix}{' '.join(args)} # buildkit"
