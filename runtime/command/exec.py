"""exec: run another process in a container."""

import os

from runtime import jsontext, schema
from runtime.command.arguments import container_id, passed_descriptors
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.creating import AGENT, connect, pass_pidfd, raised, write_pid_file
from runtime.errors import InvalidSpec, RuntimeFailure, WrongState
from runtime.launch.joining import Joining
from runtime.launch.process import Failed
from runtime.linux.process import close_range, pidfd_open
from runtime.preparation import add_filter
from runtime.process import memory_policy, process_plan
from runtime.validate import check_process, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.command.foreground import Stay
    from runtime.plan import ProcessPlan

USAGE = "[OPTIONS] ID COMMAND [ARGUMENTS]"
INTERSPERSED = False
OPTIONS: Options = {
    "console-socket": ("", "text"),
    "pidfd-socket": ("", "text"),
    "cwd": ("", "text"),
    "env": ("e", "many"),
    "tty": ("t", "flag"),
    "user": ("u", "text"),
    "additional-gids": ("g", "many"),
    "process": ("p", "text"),
    "detach": ("d", "flag"),
    "pid-file": ("", "text"),
    "process-label": ("", "text"),
    "apparmor": ("", "text"),
    "no-new-privs": ("", "flag"),
    "cap": ("c", "many"),
    "preserve-fds": ("", "number"),
    "cgroup": ("", "many"),
    "ignore-paused": ("", "flag"),
    "no-subreaper": ("", "flag"),
}


def run(parsed: Parsed, context: Context) -> int:
    """Run the process; without --detach its exit code is ours, and 255 what we could not do."""
    try:
        return _run(parsed, context)
    except RuntimeFailure as failure:
        failure.status = 255  # type: ignore[attr-defined]
        raise


def _run(parsed: Parsed, context: Context) -> int:
    container = Container.load(context.root, container_id(parsed, more=True))
    keep, _ = passed_descriptors(parsed)
    status = container.status()
    if status == "stopped":
        raise WrongState("cannot exec in a stopped container")
    if status == "creating":
        raise WrongState("cannot exec in a container that is being created")
    if status == "paused" and not parsed.flag("ignore-paused"):
        raise WrongState("cannot exec in a paused container (use --ignore-paused to override)")
    spec = container.spec()
    process = _process(parsed, spec)  # whose file may be a descriptor's: exec --process <(…)
    close_range(3 + keep)
    plan = process_plan(process)  # type: ignore[arg-type]
    plan["keep_fds"], plan["strict"] = keep, True
    plan["memory_policy"] = memory_policy((spec.get("linux") or {}).get("memoryPolicy"))
    if parsed.text("user") and not parsed.text("process") and _has_name(parsed):
        plan["user"] = parsed.text("user")
    add_filter(plan, spec, context.cache)
    context.debug(f"container {container.id}: enter as {' '.join(process['args'])}")
    return _join(parsed, container, plan)


def _join(parsed: Parsed, container: Container, plan: "ProcessPlan") -> int:
    detach, console = parsed.flag("detach"), parsed.text("console-socket")
    if plan["tty"] and detach and not console:
        raise UsageError("cannot allocate tty if it detaches without --console-socket")
    if console and not plan["tty"]:
        raise UsageError("--console-socket: there is no terminal to pass, as of --tty")
    stay = None if detach else _stay(console, plan)
    if plan["tty"] and console:
        plan["tty_socket"] = connect(os.path.abspath(console), "--console-socket")
    init = pidfd_open(container.pid)
    if not container.is_alive():
        raise WrongState("cannot exec in a stopped container")
    joining = Joining(plan, init, _cgroups(parsed, container))
    joining.agent = connect(plan["seccomp_load"]["listener"], AGENT)
    joining.state = container.state(container.status())
    pidfd_socket = connect(parsed.text("pidfd-socket"), "--pidfd-socket")
    try:
        joining.start(container.pid)
    except Failed as failure:
        raise raised(failure) from failure
    pass_pidfd(pidfd_socket, joining.pidfd, b"setns")
    if parsed.text("pid-file"):
        write_pid_file(os.path.abspath(parsed.text("pid-file")), joining.pid)
    if stay is None:
        return 0
    stay.attach(joining.pidfd, tty=plan["tty"])
    stay.to_the_end()
    code = os.waitstatus_to_exitcode(os.waitpid(joining.pid, 0)[1])
    return code if code >= 0 else 128 - code


def _stay(console: str, plan: "ProcessPlan") -> "Stay":
    from runtime.command.foreground import Stay

    stay = Stay(tty=plan["tty"] and not console)
    plan["tty_socket"] = stay.theirs
    return stay


def _cgroups(parsed: Parsed, container: Container) -> "dict[str, str]":
    """Return where the process goes: the container's cgroups, or those below that --cgroup says."""
    cgroups = container.cgroups
    there = {name for name, path in cgroups.items() if os.path.isdir(path)}
    for text in parsed.many("cgroup"):
        names, colon, path = text.rpartition(":")
        if ".." in path.split("/"):
            raise UsageError(f"--cgroup: {path} is not a sub cgroup path")
        for name in names.split(",") if colon else sorted(there):
            if name not in cgroups:
                raise UsageError(f"--cgroup {text}: unknown controller {name}")
            folder = os.path.join(cgroups[name], path.lstrip("/"))
            if not os.path.isdir(folder):
                where = os.path.join(folder, "cgroup.procs")
                raise RuntimeFailure(f"--cgroup: adding pid to {where}: no such file or directory")
            cgroups[name] = folder
    return {name: path for name, path in cgroups.items() if name in there}


def _process(parsed: Parsed, spec: "dict[str, Any]") -> "dict[str, Any]":
    """Return the process that the options describe. Raises InvalidSpec, UsageError."""
    path = parsed.text("process")
    if path:
        try:
            with open(path, "rb") as file:
                value = jsontext.loads(file.read())
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise InvalidSpec(f"--process {path}: {cause}") from error
    else:
        value = _from_options(parsed, spec["process"])
    process: dict[str, Any] = walk(value, schema.PROCESS, "process")
    check_process(process, "process")
    return process


def _gid(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--additional-gids: {text!r} is no number")
    return int(text)


def _has_name(parsed: Parsed) -> bool:
    """Tell whether --user has a name, which only the container's own files know."""
    uid, colon, gid = parsed.text("user").partition(":")
    return not uid.isdigit() or bool(colon and not gid.isdigit())


def _from_options(parsed: Parsed, process: "dict[str, Any]") -> "dict[str, Any]":
    """Return the container's own process with what the options change."""
    if len(parsed.words) < 2:
        raise UsageError("exec: a command is required")
    result = {**process, "args": parsed.words[1:], "terminal": parsed.flag("tty")}
    result["env"] = [*(process.get("env") or []), *parsed.many("env")]
    result["cwd"] = parsed.text("cwd") or process["cwd"]
    user = dict(process.get("user") or {})
    if parsed.text("user"):
        uid, colon, gid = parsed.text("user").partition(":")
        if _has_name(parsed):
            user["additionalGids"] = []  # those that the container's files give to the user
        else:
            user["uid"] = int(uid)
            user["gid"] = int(gid) if colon else user.get("gid", 0)
    if parsed.many("additional-gids"):
        user["additionalGids"] = [_gid(text) for text in parsed.many("additional-gids")]
    result["user"] = user
    if parsed.many("cap"):
        sets = {key: list(names) for key, names in (process.get("capabilities") or {}).items()}
        for key in ("bounding", "effective", "permitted"):
            sets[key] = [*sets.get(key, []), *parsed.many("cap")]
        result["capabilities"] = sets
    if parsed.flag("no-new-privs"):
        result["noNewPrivileges"] = True
    for option, field in (("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if parsed.text(option):
            result[field] = parsed.text(option)
    return result
