"""Instructions that change the image config and no file.

Each makes an empty history entry, but ONBUILD, which makes none. Source: Dockerfile reference and
image-spec config.md, "Properties".
"""

import re

from builder.errors import InstructionError
from builder.gotext import duration, quoted_list
from builder.lint import semantics
from builder.lower import lower
from builder.ports import exposed_ports
from builder.stage import Stage
from grammar import ast
from store.oci import Healthcheck
from values.classes import replace

# Those that docker knows on Linux; some are second names of others, for which Python has one only.
_SIGNAL = re.compile(
    "ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT"
    "|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ"
    r"|RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?"
)
_MAX_INT32, _MAX_INT64 = (1 << 31) - 1, (1 << 63) - 1
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@lower.register
def env(node: ast.Env, stage: Stage) -> Stage:
    """ENV sets config.Env and the build's environment; one snapshot for all its pairs."""
    pairs = [(stage.expand(key, node), stage.expand(value, node)) for key, value in node.pairs]
    result = stage
    for key, value in pairs:
        result = replace(result, config_env=result.config_env.set(key, value))
        result = result.with_env(key, value)
    return result.record("ENV " + " ".join(f"{key}={value}" for key, value in pairs))


@lower.register
def label(node: ast.Label, stage: Stage) -> Stage:
    """LABEL sets config.Labels."""
    pairs = [(stage.expand(key, node), stage.expand(value, node)) for key, value in node.pairs]
    labels = stage.labels
    for key, value in pairs:
        labels = labels.set(key, value)
    return replace(stage, labels=labels).record(
        "LABEL " + " ".join(f"{key}={value}" for key, value in pairs)
    )


# They change what a scanner sees, and no step. Source: BuildKit dockerfile2llb, nonEnvArgs.
_NO_VARIABLES = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")


@lower.register
def arg(node: ast.Arg, stage: Stage) -> Stage:
    """ARG: build-arg, else default, else the global ARG of that name, else unset."""
    result, shown = stage, []
    for raw_name, raw_default in node.pairs:
        name = result.expand(raw_name, node)
        value = stage.plan.build_args.get(name)
        if value is None and raw_default is not None:
            value = result.expand(raw_default, node)
        if value is None:
            value = stage.plan.global_env.get(name)
        if value is not None:
            if is_in_config(name, stage):
                message = semantics.arg_shadows_env(name)
                stage.plan.warn("ArgShadowsEnv", message, node.span.first_line)
            if name not in _NO_VARIABLES:
                result = result.with_env(name, value)
        result = replace(result, args=result.args.set(name, value or ""))
        shown.append(name if value is None else f"{name}={value}")
    return result.record("ARG " + " ".join(shown))


def is_in_config(name: str, stage: Stage) -> bool:
    """Tell whether the image config has a variable."""
    start = f"{name}="
    return name in stage.config_env or any(item.startswith(start) for item in stage.config.env)


@lower.register
def user(node: ast.User, stage: Stage) -> Stage:
    """USER sets config.User as given; names are looked up only when something runs."""
    name = stage.expand(node.user, node)
    return stage.configure(user=name).record(f"USER {name}")


@lower.register
def expose(node: ast.Expose, stage: Stage) -> Stage:
    """EXPOSE adds to config.ExposedPorts, ranges written out."""
    # Sorted before they are expanded, as BuildKit's parser does it: the history shows the order.
    words = [word for raw in sorted(node.ports) for word in stage.expand_words(raw, node)]
    try:
        ports = [port for word in words for port in exposed_ports(word)]
    except ValueError as error:
        raise InstructionError(
            stage.place(node),
            str(error),
            hint="write a port or a range with an optional protocol, as 80, 8000-8010/udp",
        ) from error
    merged = stage.ports
    for port in ports:
        merged = merged.set(port, None)
    return replace(stage, ports=merged).record(f"EXPOSE [{' '.join(ports)}]")


@lower.register
def volume(node: ast.Volume, stage: Stage) -> Stage:
    """VOLUME adds to config.Volumes."""
    paths = [stage.expand(path, node).strip() for path in node.paths]
    if not all(paths):
        raise InstructionError(stage.place(node), "VOLUME specified can not be an empty string")
    merged = stage.volumes
    for path in paths:
        merged = merged.set(path, None)
    return replace(stage, volumes=merged).record(f"VOLUME [{' '.join(paths)}]")


def command_args(command: ast.Command, stage: Stage) -> tuple[str, ...]:
    """Return the argument vector of a command: shell forms get the stage's shell before."""
    if isinstance(command, ast.ExecForm):
        return command.args
    return (*stage.shell, command.text)


@lower.register
def cmd(node: ast.Cmd, stage: Stage) -> Stage:
    """CMD sets config.Cmd; an empty list clears it."""
    args = command_args(node.command, stage)
    result = replace(stage.configure(cmd=args or None, args_escaped=True), cmd_set=True)
    return result.record(f"CMD {quoted_list(args)}")


@lower.register
def entrypoint(node: ast.Entrypoint, stage: Stage) -> Stage:
    """ENTRYPOINT sets config.Entrypoint, and clears a CMD that this stage did not set."""
    args = command_args(node.command, stage)
    result = stage.configure(entrypoint=args or None)
    if not stage.cmd_set:
        result = result.configure(cmd=None)
    return result.record(f"ENTRYPOINT {quoted_list(args)}")


@lower.register
def shell(node: ast.Shell, stage: Stage) -> Stage:
    """SHELL sets config.Shell, for all shell forms that follow."""
    return stage.configure(shell=node.args).record(f"SHELL [{' '.join(node.args)}]")


@lower.register
def stop_signal(node: ast.StopSignal, stage: Stage) -> Stage:
    """STOPSIGNAL sets config.StopSignal: a number but 0, or a name with or without SIG."""
    text = stage.expand(node.signal, node)
    number = re.fullmatch(r"[-+]?0*[1-9][0-9]{0,17}", text)
    if number is None and not _SIGNAL.fullmatch(text.upper().removeprefix("SIG")):
        raise InstructionError(stage.place(node), f"invalid signal: {text}")
    return stage.configure(stop_signal=text).record(f"STOPSIGNAL {text}")


@lower.register
def maintainer(node: ast.Maintainer, stage: Stage) -> Stage:
    """MAINTAINER sets the image's author."""
    return replace(stage, author=node.name).record(f"MAINTAINER {node.name}")


@lower.register
def onbuild(node: ast.Onbuild, stage: Stage) -> Stage:
    """ONBUILD appends to config.OnBuild; no history entry."""
    return replace(stage, triggers=stage.triggers.append(node.trigger))


def duration_ns(text: str | None, flag: str, node: ast.Healthcheck, stage: Stage) -> int:
    """Return a Go duration (`1m30s`) in nanoseconds; 0 for one that was not given.

    Raises InstructionError for one that cannot be read or is below 1 ms without being 0.
    """
    if text is None or text.lstrip("+-") == "0":
        return 0
    parts = re.findall(r"([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("+"):
        raise InstructionError(
            stage.place(node),
            f'invalid duration "{text}" for --{flag}',
            hint="write a number with a unit: 500ms, 30s, 1m30s",
        )
    total = round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))
    if total > _MAX_INT64:
        raise InstructionError(stage.place(node), f"--{flag} is too long: {text}")
    if 0 < total < 1_000_000:
        raise InstructionError(stage.place(node), f"--{flag} can not be less than 1ms: {text}")
    return total


@lower.register
def healthcheck(node: ast.Healthcheck, stage: Stage) -> Stage:
    """HEALTHCHECK sets config.Healthcheck; zero means inherit. NONE has none of the flags."""
    if node.command is None:
        check = Healthcheck(test=("NONE",))
    else:
        check = health_check_of(node, node.command, stage)
    return stage.configure(healthcheck=check).record(f"HEALTHCHECK {shown(check)}")


def health_check_of(node: ast.Healthcheck, command: ast.Command, stage: Stage) -> Healthcheck:
    """Return what HEALTHCHECK CMD asks for. Raises InstructionError."""
    retries = int(node.retries or "0")
    if retries > _MAX_INT32:
        raise InstructionError(stage.place(node), f"--retries is too large: {node.retries}")
    if isinstance(command, ast.ExecForm):
        test: tuple[str, ...] = ("CMD", *command.args)
    else:
        test = ("CMD-SHELL", command.text)
    return Healthcheck(
        test=test,
        interval_ns=duration_ns(node.interval, "interval", node, stage),
        timeout_ns=duration_ns(node.timeout, "timeout", node, stage),
        start_period_ns=duration_ns(node.start_period, "start-period", node, stage),
        start_interval_ns=duration_ns(node.start_interval, "start-interval", node, stage),
        retries=retries,
    )


def shown(check: Healthcheck) -> str:
    """Return a health check as history has it: as Go prints a struct with its fields' names."""
    fields = {
        "Test": f"[{' '.join(check.test)}]",
        "Interval": duration(check.interval_ns),
        "Timeout": duration(check.timeout_ns),
        "StartPeriod": duration(check.start_period_ns),
        "StartInterval": duration(check.start_interval_ns),
        "Retries": str(check.retries),
    }
    return f"{{{' '.join(f'{name}:{value}' for name, value in fields.items())}}}"
