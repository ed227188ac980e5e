"""Landlock: walls that a process without rights puts around itself and its children."""

import os

from runtime.linux import constants as c
from runtime.linux.libc import syscall
from store import cdata

_SCOPES_SINCE = 6  # the ABI, of Linux 6.12
_CREATE_RULESET_VERSION = 1
_SCOPE_SIGNAL = 2


class _RulesetAttr(cdata.Structure):
    _fields_ = (
        ("handled_access_fs", cdata.c_uint64),
        ("handled_access_net", cdata.c_uint64),
        ("scoped", cdata.c_uint64),
    )


def can_scope_signals() -> bool:
    """Tell whether this kernel can keep signals inside: from Linux 6.12 on, if it has Landlock."""
    try:
        abi = syscall(
            *("landlock_create_ruleset", "version", c.SYS_landlock_create_ruleset),
            *(None, 0, _CREATE_RULESET_VERSION),
        )
    except OSError:
        return False
    return abi >= _SCOPES_SINCE


def scope_signals() -> None:
    """Let neither us nor our children ever signal or trace a process that is none of them.

    Takes CAP_SYS_ADMIN or no_new_privs. Raises OSError. Source: the kernel's
    userspace-api/landlock.rst, "IPC scoping" and "Ptrace restrictions".
    """
    attr = _RulesetAttr(0, 0, _SCOPE_SIGNAL)
    number = c.SYS_landlock_create_ruleset
    ruleset = syscall(
        *("landlock_create_ruleset", "signals", number),
        *(cdata.byref(attr), cdata.sizeof(_RulesetAttr), 0),
    )
    try:
        syscall("landlock_restrict_self", "signals", c.SYS_landlock_restrict_self, ruleset, 0)
    finally:
        os.close(ruleset)
