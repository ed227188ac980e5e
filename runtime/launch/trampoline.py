"""The program that becomes the command instead of our interpreter.

While the kernel looks for the file of a command, /proc/self/exe is what the process runs from so
far: a command that leads there would be given the host's Python (CVE-2019-5736's class). So a
launcher whose interpreter is the host's own file first becomes this: 137 bytes of code (of aarch64
168) in sealed memory, which nothing can change. It tries the candidates, and reports what kept it
from them.

arguments: the candidates' paths, an empty one, the command's arguments. The environment is passed
on. Its descriptor of the report pipe is closed by the execve that succeeds.
"""

import fcntl
import os
import struct
import sys

from runtime.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import LaunchPlan

# What it calls itself, which a filter that is loaded by then has to let through.
CALLS = ("execve", "execveat", "fcntl", "write", "exit_group")
_LETS_THROUGH = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")

_MFD_EXEC = 0x10
_RLIMIT_NOFILE = 7
_SHARED_WITH_TRACERS = c.CLONE_NEWPID | c.CLONE_NEWUSER | c.CLONE_NEWNS
_BASE = 0x400000
_HEADERS = 64 + 2 * 56
# Assembled from this (Intel syntax); REPORT is the number of the descriptor:
#           lea  r12, [rsp+8]                # the candidate at hand
#           mov  r13, r12
#   find:   mov  rax, [r13]                  # r13: behind the empty argument
#           test rax, rax
#           jz   end                         # the container executed /proc/self/exe
#           add  r13, 8
#           cmp  byte ptr [rax], 0
#           jne  find
#           mov  rax, [rsp]
#           lea  r14, [rsp+rax*8+16]         # the environment
#           fcntl(REPORT, F_SETFD, FD_CLOEXEC)
#   try:    ebp = -execve([r12], r13, r14)
#           add  r12, 8
#           cmp  ebp, EACCES
#           jne  report
#           mov  rax, [r12]
#           cmp  byte ptr [rax], 0
#           jne  try
#   report: write(REPORT, (7, marshal of the tuple (ebp,)), 11)
#   end:    exit_group(125)
_CODE_X86_64 = (
    "4c8d6424084d89e5498b45004885c0746e4983c50880380075ee488b04244c8d74c410"
    "bf{report}6a025e6a015a6a48580f05"
    "498b3c244c89ee4c89f26a3b580f0589c5f7dd4983c40883fd0d7509498b042480380075db"
    "4883ec10c7042407000000c744240429016900896c2407bf{report}4889e66a0b5a6a01580f05"
    "6a7d5fb8e70000000f05"
)
# The same; `number` is REPORT:
#           add  x19, sp, #8
#           mov  x20, x19
#   find:   ldr  x0, [x20], #8
#           cbz  x0, end
#           ldrb w1, [x0]
#           cbnz w1, find
#           ldr  x1, [sp]
#           add  x21, sp, x1, lsl #3
#           add  x21, x21, #16
#           ldr  w22, number
#           fcntl(w22, F_SETFD, FD_CLOEXEC)
#   try:    ldr  x0, [x19], #8
#           execve(x0, x20, x21)
#           neg  w23, w0
#           cmp  w23, EACCES
#           b.ne report
#           ldr  x0, [x19]
#           ldrb w1, [x0]
#           cbnz w1, try
#   report: write(w22, (7, marshal of the tuple (w23,)), 11)
#   end:    exit_group(125)
_CODE_AARCH64 = (
    "f3230091f40313aa808640f8600400b401004039a1ffff35e10340f9f56f218bb542009116040018"
    "e003162a410080d2220080d2280380d2010000d4"
    "608640f8e10314aae20315aaa81b80d2010000d4f703004bff36007181000054600240f901004039c1feff35"
    "ff4300d1e1008052e10300b921258052210da072e10700b9f77300b8"
    "e003162ae1030091620180d2080880d2010000d4a00f80d2c80b80d2010000d4{report}"
)
# What uname(2) calls the machine → what ELF does, the code.
_MACHINES = {"x86_64": (62, _CODE_X86_64), "aarch64": (183, _CODE_AARCH64)}


def program(report: int, machine: str) -> bytes:
    """Return the ELF file of a trampoline that reports through descriptor `report`."""
    kind, text = _MACHINES[machine]
    code = bytes.fromhex(text.format(report=struct.pack("<i", report).hex()))
    size = _HEADERS + len(code)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(identity, 2, kind, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code


def make(report: int, machine: str = "") -> int:
    """Return a descriptor of a trampoline in sealed memory. Raises OSError where there is none.

    machine: this one's name where it is empty.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        image = os.memfd_create("trampoline", flags | _MFD_EXEC)
    except OSError:  # before Linux 6.3
        image = os.memfd_create("trampoline", flags)
    os.write(image, program(report, machine or os.uname().machine))
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(image, fcntl.F_ADD_SEALS, seals)
    return image


def suffices(plan: "LaunchPlan", profile: "dict[str, Any] | None") -> bool:
    """Tell whether no process of a container can reach our interpreter before the command runs.

    profile: the seccomp profile of config.json.
    """
    return (
        os.uname().machine in _MACHINES
        and sys.getfilesystemencoding() == "utf-8"
        # Nobody else may be where the init is: who may trace it could open what it runs from.
        and bool(plan["namespaces"] & c.CLONE_NEWPID)
        and not any(kind & _SHARED_WITH_TRACERS for _, kind in plan["join"])
        and not plan["hooks"].get("startContainer")
        # A label is for the command's execve, and would be taken by the trampoline's.
        and not any(plan["security_label"])
        and all(
            soft > 3 + plan["keep_fds"]
            for resource, soft, _ in plan["limits"]
            if resource == _RLIMIT_NOFILE
        )
        and (profile is None or all(_lets_through(profile, call) for call in CALLS))
    )


def _lets_through(profile: "dict[str, Any]", call: str) -> bool:
    """Tell whether a filter allows `call` whatever its arguments; False where it is not plain."""
    rules = [rule for rule in profile.get("syscalls") or [] if call in rule["names"]]
    if not rules:
        return profile["defaultAction"] in _LETS_THROUGH
    return all(rule["action"] in _LETS_THROUGH and not rule.get("args") for rule in rules)
