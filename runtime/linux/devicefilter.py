"""The device rules of a cgroup v2 leaf: a BPF program of type CGROUP_DEVICE.

cgroup v1 has files for this, v2 asks a program at each mknod and open of a device. `compile_rules`
is pure; `attach` loads its bytes and ties them to a cgroup for as long as that lives.
"""

import struct

from runtime.linux import constants as c
from runtime.linux.libc import syscall
from store import cdata

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2

# struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | type), major, minor
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

# type (a|b|c), major, minor (-1: any), access letters, allow
Rule = tuple[str, int, int, str, bool]


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, offset, value)


def _rule(rule: Rule) -> bytes:
    """Return the test of one rule; registers: 2 type, 3 access, 4 major, 5 minor."""
    kind, major, minor, access, allow = rule
    bits = sum(_ACCESS[letter] for letter in set(access))
    verdict = _insn(0xB7, 0, value=int(allow)) + _insn(0x95)  # r0 = verdict; exit
    tests: list[tuple[bytes, bytes]] = []  # (preparation, jump without its offset filled in)
    if kind != "a":
        tests.append((b"", struct.pack("<BB", 0x55, 2) + struct.pack("<i", _TYPES[kind])))
    if bits != 7:
        # Asked for more than the rule speaks of: r1 = r3 & ~bits; if r1 != 0 next rule. A deny
        # rule speaks as soon as one of its letters is asked for.
        mask, unless = (~bits & 7, 0x55) if allow else (bits, 0x15)
        masked = _insn(0xBC, 1, 3) + _insn(0x54, 1, value=mask)
        tests.append((masked, struct.pack("<BB", unless, 1) + struct.pack("<i", 0)))
    if major >= 0:
        tests.append((b"", struct.pack("<BB", 0x55, 4) + struct.pack("<i", major)))
    if minor >= 0:
        tests.append((b"", struct.pack("<BB", 0x55, 5) + struct.pack("<i", minor)))
    code = verdict
    for prepare, jump in reversed(tests):
        code = prepare + jump[:2] + struct.pack("<h", len(code) // 8) + jump[2:] + code
    return code


def compile_rules(rules: "list[Rule]") -> bytes:
    """Return the BPF program for `rules`, of which the last that matches decides; default deny."""
    load = (
        _insn(0x61, 2, 1, 0)  # r2 = access_type
        + _insn(0x54, 2, value=0xFFFF)  # r2 &= 0xffff: the device's type
        + _insn(0x61, 3, 1, 0)
        + _insn(0x74, 3, value=16)  # r3 >>= 16: the access asked for
        + _insn(0x61, 4, 1, 4)
        + _insn(0x61, 5, 1, 8)
    )
    code = load
    for rule in reversed(rules):
        code += _rule(rule)
        kind, major, minor, access, _ = rule
        if (kind, major, minor, len(set(access))) == ("a", -1, -1, 3):
            return code  # matches everything; the verifier refuses what can never be reached
    return code + _insn(0xB7, 0) + _insn(0x95)


def attach(cgroup_fd: int, program: bytes) -> None:
    """Load `program` and attach it to the cgroup; OSError where BPF is not to be had."""
    code = cdata.create_string_buffer(program, len(program))
    licence = cdata.create_string_buffer(b"GPL")
    load = struct.pack(
        "<IIQQ",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        cdata.addressof(code),
        cdata.addressof(licence),
    ).ljust(72, b"\0")
    attributes = cdata.create_string_buffer(load, len(load))
    fd = syscall("bpf", "load", c.SYS_bpf, _BPF_PROG_LOAD, attributes, len(load))
    tie = struct.pack("<IIII", cgroup_fd, fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
    attributes = cdata.create_string_buffer(tie, len(tie))
    syscall("bpf", "attach", c.SYS_bpf, _BPF_PROG_ATTACH, attributes, len(tie))
