"""Which calls a supervisor answers, by name, and by what.

A handler returns what the call returns, raises OSError for what it fails with, Native where the
kernel's own answer is right, and returns None where it has answered.
"""

from runtime.emulated import idcalls, newfiles, owners, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.emulated.world import World
    from runtime.linux.seccomp_notify import Call

    Handler = Callable[[World, Call], int | None]

# Of 64-bit programs, by the call's name.
HANDLERS: "dict[str, Handler]" = {
    "chown": owners.do_chown,
    "lchown": owners.do_lchown,
    "fchown": owners.do_fchown,
    "fchownat": owners.do_fchownat,
    "utimensat": owners.do_utimensat,
    "stat": status.do_stat,
    "lstat": status.do_lstat,
    "fstat": status.do_fstat,
    "newfstatat": status.do_newfstatat,
    "statx": status.do_statx,
    "open": newfiles.do_open,
    "creat": newfiles.do_creat,
    "openat": newfiles.do_openat,
    "openat2": newfiles.do_openat2,
    "mkdir": newfiles.do_mkdir,
    "mkdirat": newfiles.do_mkdirat,
    "symlink": newfiles.do_symlink,
    "symlinkat": newfiles.do_symlinkat,
    "mknod": newfiles.do_mknod,
    "mknodat": newfiles.do_mknodat,
    "execve": idcalls.do_execve,
    "execveat": idcalls.do_execveat,
    "setuid": idcalls.setter(idcalls.set_one, True),
    "setgid": idcalls.setter(idcalls.set_one, False),
    "setreuid": idcalls.setter(idcalls.set_pair, True),
    "setregid": idcalls.setter(idcalls.set_pair, False),
    "setresuid": idcalls.setter(idcalls.set_three, True),
    "setresgid": idcalls.setter(idcalls.set_three, False),
    "setfsuid": idcalls.setter(idcalls.set_fs, True),
    "setfsgid": idcalls.setter(idcalls.set_fs, False),
    "prctl": idcalls.do_prctl,
    "setgroups": idcalls.do_setgroups,
    "getgroups": idcalls.do_getgroups,
    "getuid": idcalls.getter(True, 0),
    "geteuid": idcalls.getter(True, 1),
    "getgid": idcalls.getter(False, 0),
    "getegid": idcalls.getter(False, 1),
    "getresuid": idcalls.getter_of_three(True),
    "getresgid": idcalls.getter_of_three(False),
}
# Of 32-bit ones: those whose arguments are the same.
_SAME = ("fchownat", "statx", "mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat")
HANDLERS_32: "dict[str, Handler]" = {
    **{name: HANDLERS[name] for name in (*_SAME, "open", "creat", "openat", "openat2")},
    **{name: HANDLERS[name] for name in ("execve", "execveat")},
    **{
        f"{name}32": HANDLERS[name]
        for name in (
            *("chown", "lchown", "fchown", "setuid", "setgid", "setreuid", "setregid"),
            *("setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "getgroups"),
            *("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid"),
        )
    },
}
