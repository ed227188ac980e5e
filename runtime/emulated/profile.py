"""A seccomp profile changed so that calls about owners and identities wait for a supervisor.

Pure. What the profile refuses stays refused.
"""

from __future__ import annotations

import os
from typing import Any

from runtime.emulated.handlers import HANDLERS, HANDLERS_32
from runtime.emulated.newfiles import O_TMPFILE
from runtime.linux import constants as c

_NOTIFY, _ALLOW = "SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"
# Calls of which few matter: the argument with the flags, and any of which flags makes it one.
_BY_FLAGS = {
    "open": (1, (os.O_CREAT, O_TMPFILE)),
    "openat": (2, (os.O_CREAT, O_TMPFILE)),
    "utimensat": (3, (c.AT_SYMLINK_NOFOLLOW,)),
}
_PRCTL = (
    (_NOTIFY, "SCMP_CMP_EQ", c.PR_SET_KEEPCAPS),
    (_ALLOW, "SCMP_CMP_NE", c.PR_SET_KEEPCAPS),
)


def with_notifications(profile: dict[str, Any] | None) -> dict[str, Any]:
    """Return `profile` (None: one that allows everything) with what a supervisor answers."""
    if profile is None:
        profile = {"defaultAction": _ALLOW, "syscalls": []}
    entries = list(profile.get("syscalls") or ())
    ours = {*HANDLERS, *HANDLERS_32}
    ours -= {name for entry in entries if entry.get("action") != _ALLOW for name in _names(entry)}
    if profile["defaultAction"] != _ALLOW:
        allowed = {name for entry in entries if _allows(entry) for name in _names(entry)}
        ours &= allowed
    rules: list[dict[str, Any]] = [
        {"names": sorted(ours - _BY_FLAGS.keys() - {"prctl"}), "action": _NOTIFY},
        *(_rule("prctl", 0, *of_option) for of_option in _PRCTL if "prctl" in ours),
        *(rule for name in sorted(ours & _BY_FLAGS.keys()) for rule in _rules_by_flags(name)),
    ]
    others = [_without(entry, ours) if _allows(entry) else entry for entry in entries]
    return {**profile, "syscalls": [*rules, *others]}


def _allows(entry: dict[str, Any]) -> bool:
    """Tell whether an entry allows its calls whatever their arguments, here and everywhere."""
    return entry.get("action") == _ALLOW and not any(
        entry.get(key) for key in ("args", "includes", "excludes")
    )


def _names(entry: dict[str, Any]) -> list[str]:
    return [*([entry["name"]] if entry.get("name") else []), *(entry.get("names") or ())]


def _without(entry: dict[str, Any], names: set[str]) -> dict[str, Any]:
    rest = [name for name in _names(entry) if name not in names]
    return {**{key: value for key, value in entry.items() if key != "name"}, "names": rest}


def _rules_by_flags(name: str) -> list[dict[str, Any]]:
    """Return one rule a flag, and one that allows the calls with none of them."""
    argument, flags = _BY_FLAGS[name]
    wanted = [(_NOTIFY, flag, flag) for flag in flags] + [(_ALLOW, sum(flags), 0)]
    masked = "SCMP_CMP_MASKED_EQ"
    return [_rule(name, argument, action, masked, mask, value) for action, mask, value in wanted]


def _rule(
    name: str, argument: int, action: str, operator: str, value: int, second: int = 0
) -> dict[str, Any]:
    compared = {"index": argument, "op": operator, "value": value, "valueTwo": second}
    return {"names": [name], "action": action, "args": [compared]}
