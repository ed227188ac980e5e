"""RUN: a process on the stage's root file system."""

from collections.abc import Sequence
from functools import partial

from builder.devices import parse_device
from builder.errors import InstructionError, Place
from builder.instructions.metadata import command_args
from builder.instructions.origin import root_of_mount_source
from builder.lower import lower
from builder.runmounts import PIPES, RunMount, ScriptMount, SecretMount, lower_mounts
from builder.stage import Stage, proxy_env
from builder.vertex import RunOp
from grammar import ast
from values.classes import replace

SANDBOX_HOSTNAME = "buildkitsandbox"


def shell_text(command: ast.ShellForm, node: ast.Run) -> str:
    """Return what the shell is given: the text, or a heredoc's body, or text with heredocs.

    Source: Dockerfile reference, "Here-documents". A RUN that is only a heredoc passes the body;
    with anything else on the line the shell reads the heredocs itself.
    """
    if not node.heredocs:
        return command.text
    if command.text:
        return command.text + "".join(f"\n{doc.written}{doc.name}" for doc in node.heredocs)
    return node.heredocs[0].body


def script_of(node: ast.Run) -> ScriptMount | None:
    """Return the file to be executed when RUN is only a heredoc that begins with `#!`."""
    if not node.heredocs or node.command != ast.ShellForm(""):
        return None
    heredoc = node.heredocs[0]
    return ScriptMount(f"{PIPES}/{heredoc.name}", heredoc.body) if is_script(heredoc) else None


def is_script(heredoc: ast.Heredoc) -> bool:
    """Tell whether a heredoc names its own interpreter."""
    return heredoc.body.startswith("#!")


@lower.register
def run(node: ast.Run, stage: Stage) -> Stage:
    """RUN makes a layer of what the process changes."""
    check_devices(node, stage)
    mounts, inputs = lower_mounts(
        node, stage, partial(root_of_mount_source, node=node, stage=stage)
    )
    if node.policies is not None and node.policies.secret_key:
        check_secrets(mounts, stage.place(node))
    script = script_of(node)
    if script is not None:
        args: tuple[str, ...] = (script.target,)
        mounts = (script, *mounts)
    else:
        command = node.command
        if isinstance(command, ast.ShellForm):
            command = replace(command, text=shell_text(command, node))
        args = command_args(command, stage)
    if not args:
        raise InstructionError(stage.place(node), "RUN needs a command")
    op = RunOp(
        args=args,
        env=tuple(stage.env.items()),
        cwd=stage.cwd,
        user=stage.config.user,
        network=network_of(node, stage),
        hostname=stage.plan.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", SANDBOX_HOSTNAME),
        platform=stage.plan.platform,
        proxy_env=tuple(sorted(proxy_env(stage.plan.build_args, stage.args).items())),
        security=security_of(node, stage),
        mounts=mounts,
        sandbox=stage.plan.request.sandbox,
    )
    facts = {"arg_names": list(stage.args)} if stage.args else {}
    return stage.apply(node, op, history_text(args, stage), inputs, facts)


def check_secrets(mounts: Sequence[RunMount], place: Place) -> None:
    """Raise InstructionError for a policy about secrets where there is none."""
    if not any(isinstance(mount, SecretMount) for mount in mounts):
        raise InstructionError(
            place,
            "policy secret-key: this RUN has no secret",
            hint="it is for RUN --mount=type=secret",
        )


def check_devices(node: ast.Run, stage: Stage) -> None:
    """Raise InstructionError for a device that cannot be read or done without."""
    for text in node.devices:
        try:
            device = parse_device(text)
        except ValueError as error:
            raise InstructionError(stage.place(node), f"--device={text}: {error}") from error
        if device.is_required:
            raise InstructionError(
                stage.place(node),
                f'required device "{device.name}" is not registered',
                hint="builds know no devices of the host; without `required` the step runs without",
            )


def network_of(node: ast.Run, stage: Stage) -> str:
    """Return the network of a RUN's process. Raises InstructionError where it is not allowed."""
    network = node.network or "default"
    if network == "host":
        need_entitlement("network.host", node, stage)
    if network == "default":
        network = stage.plan.request.network
    return network if network in ("host", "none") else "default"


def security_of(node: ast.Run, stage: Stage) -> str:
    """Return the security mode. Raises InstructionError where it is not allowed."""
    if node.security == "insecure":
        need_entitlement("security.insecure", node, stage)
    return node.security or "sandbox"


def need_entitlement(name: str, node: ast.Run, stage: Stage) -> None:
    """Raise InstructionError unless the build was allowed to do what `name` stands for."""
    if name not in stage.plan.request.allow:
        raise InstructionError(
            stage.place(node),
            f"{name} is not allowed",
            hint=f"build with --allow {name} if you trust this Dockerfile",
        )


def history_text(args: tuple[str, ...], stage: Stage) -> str:
    """Return RUN's history text: `RUN |1 V=2 /bin/sh -c make # buildkit`.

    All ARGs stand there, also those without a value, with what the process sees of them.
    """
    shown = [f"{name}={stage.env.get(name, value)}" for name, value in stage.args.items()]
    prefix = f"|{len(shown)} {' '.join(shown)} " if shown else ""
    return f"RUN {prefix}{' '.join(args)} # buildkit"
