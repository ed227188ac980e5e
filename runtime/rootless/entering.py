"""Making this very process root of a user namespace, before it opens a store or starts a thread.

Nothing is executed again and nothing imported twice: the process stays, what it may do changes. A
child that stays outside writes the id maps, by newuidmap where other ids than our own are in them.
"""

import errno
import os

from runtime.errors import NotPrivileged
from runtime.rootless.mode import NEEDED, Mode, Reason, effective_capabilities, missing_capabilities
from store.usernamespace import in_first_user_namespace

_FAILED, _READY = b"f", b"r"
_FILES = ("/etc/subuid", "/etc/subgid")
_mode: Mode | None = None


def mode() -> Mode:
    """Return what `enter` found; before it, what the process is."""
    if _mode is not None:
        return _mode
    return Mode("root") if not missing_capabilities() else _outside(())


def has_entered() -> bool:
    """Tell whether `enter` was called."""
    return _mode is not None


def enter() -> Mode:
    """Become root of a user namespace where that is needed and possible; return what became of it.

    For the whole process, for good, and once: again returns the same. Only in a process of a
    single thread. Raises NotPrivileged when maps were begun and could not be finished.
    """
    global _mode
    if _mode is None:
        _mode = Mode("root") if not missing_capabilities() else _entered()
        profile = apparmor_profile()
        if _mode.may_mount and profile:
            from runtime.rootless.confinement import under_profile

            _mode = under_profile(_mode, profile)
        if _mode.may_mount and not in_first_user_namespace():
            from runtime.rootless.procfs import with_proc

            _mode = with_proc(_mode)
    return _mode


def apparmor_profile() -> str:
    """Return the name of the AppArmor profile that we are confined by, "" for none."""
    try:
        with open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
            name, bracket, _ = file.read().rpartition(" (")
    except OSError:
        return ""  # no security module says anything
    return name if bracket else ""  # SELinux's labels have none


def _outside(reasons: "tuple[Reason, ...]") -> Mode:
    """Return the mode of a process that has no namespace of its own."""
    effective = effective_capabilities()
    chroot = 18
    is_root = os.geteuid() == 0 and all(
        effective >> NEEDED.get(name, chroot) & 1
        for name in ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SYS_CHROOT")
    )
    return Mode("chroot" if is_root else "none", reasons, os.geteuid())


def _entered() -> Mode:
    from runtime.linux import constants as c
    from runtime.linux.namespaces import unshare

    uid, gid = os.geteuid(), os.getegid()
    commands, reasons = _plan(uid, gid)
    us_read, us_write = os.pipe()
    done_read, done_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(us_write)
        _map_from_outside(us_read, done_write, commands)
    os.close(us_read)
    os.close(done_write)
    try:
        try:
            unshare(c.CLONE_NEWUSER | c.CLONE_NEWNS)
        except OSError as error:
            from runtime.rootless.obstacles import why_no_namespace

            return _outside((why_no_namespace(error),))
        os.write(us_write, _READY)
        answer = os.read(done_read, 4096)
    finally:
        os.close(us_write)
        os.close(done_read)
        os.waitpid(helper, 0)
    if answer != _READY:
        reasons = (*reasons, Reason(answer[1:].decode(errors="replace")))
    full = bool(commands) and answer == _READY
    if not full:
        _map_single(uid, gid)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return Mode("subordinate" if full else "single", reasons, uid)


def _plan(uid: int, gid: int) -> "tuple[list[list[str]], tuple[Reason, ...]]":
    """Return the commands that map more than one id, each without the process; none: reasons."""
    if uid == 0:
        return _identity()
    from runtime.rootless.obstacles import no_program, no_ranges
    from runtime.rootless.subordinate import map_arguments, program, ranges

    names = (_name(uid), str(uid))
    found = [ranges(path, names) for path in _FILES]
    tools = [program(name) for name in ("newuidmap", "newgidmap")]
    missing = [path for path, lines in zip(_FILES, found, strict=True) if not lines]
    reasons = [no_ranges(missing, names[0])] if missing else []
    if not all(tools):
        reasons.append(no_program())
    if reasons:
        return [], tuple(reasons)
    own = (uid, gid)
    return [[tools[i], *map_arguments(own[i], found[i])] for i in (0, 1)], ()


def _identity() -> "tuple[list[list[str]], tuple[Reason, ...]]":
    """Return the maps of a root that lacks capabilities: all ids that it has, as they are."""
    commands = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            lines = [line.split() for line in file]
        commands.append([name, *(f"{inside} {inside} {count}\n" for inside, _, count in lines)])
    return commands, ()


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _map_from_outside(us: int, done: int, commands: "list[list[str]]") -> None:
    """Give our parent's new namespace its maps, in the child that stayed outside; never returns."""
    answer = _FAILED
    try:
        if os.read(us, 1) != _READY:
            os._exit(1)
        # Both at once: to start a program takes longer than what it does.
        for started in [_start(command, os.getppid()) for command in commands]:
            _finish(*started)
        answer = _READY
    except BaseException as error:
        answer = _FAILED + str(error).encode(errors="replace")
    os.write(done, answer)
    os._exit(0)


def _start(command: "list[str]", pid: int) -> "tuple[str, int, int]":
    """Write a map, or start the program that does; return its name, its pid and its stderr."""
    program, *words = command
    if not program.startswith("/"):
        fd = os.open(f"/proc/{pid}/{program}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, "".join(words).encode())
        return program, -1, fd
    read, write = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, write, 2)]
    child = os.posix_spawn(program, [program, str(pid), *words], {}, file_actions=actions)
    os.close(write)
    return program, child, read


def _finish(program: str, child: int, stderr: int) -> None:
    """Wait for what `_start` began. Raises OSError with what it said."""
    if child < 0:
        return
    said = os.read(stderr, 1024).decode(errors="replace").strip()
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(errno.EPERM, said or f"{program}: exit {os.waitstatus_to_exitcode(status)}")


def _map_single(uid: int, gid: int) -> None:
    """Map our own ids alone, which needs nobody's help."""
    name = ""
    try:
        for name, text in (
            ("uid_map", f"0 {uid} 1\n"),
            ("setgroups", "deny"),
            ("gid_map", f"0 {gid} 1\n"),
        ):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
    except OSError as error:
        raise NotPrivileged(
            f"user namespace: {name}: {error.strerror}",
            hint="the lines of this user in /etc/subuid and /etc/subgid may be wrong",
        ) from error
