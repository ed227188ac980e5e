"""The device program, run by an interpreter of the few instructions that it uses."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from runtime.cgroups import _rule
from runtime.execution import Execution, spec_of
from runtime.linux.devicefilter import compile_rules
from store.mount import OverlayMount

LETTERS = {"m": 1, "r": 2, "w": 4}
TYPES = {"b": 1, "c": 2}


def interpret(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    asked = sum(LETTERS[letter] for letter in access)
    context = struct.pack("<III", asked << 16 | TYPES[kind], major, minor)
    registers: dict[int, int] = {}
    at = 0
    while True:
        code, both, offset, value = struct.unpack_from("<BBhi", program, at * 8)
        source, to = both >> 4, both & 15
        at += 1
        if code == 0x61:
            assert source == 1 and 1 not in registers, "the context was overwritten"
            registers[to] = struct.unpack_from("<I", context, offset)[0]
        elif code == 0x54:
            registers[to] &= value & 0xFFFFFFFF
        elif code == 0x74:
            registers[to] >>= value
        elif code == 0xB7:
            registers[to] = value
        elif code == 0xBC:
            registers[to] = registers[source]
        elif code == 0x55:
            at += offset if registers[to] != value else 0
        elif code == 0x15:
            at += offset if registers[to] == value else 0
        else:
            assert code == 0x95, hex(code)
            return registers[0]


def allowed(rules, kind, major, minor, access) -> bool:
    """Say what the rules mean, in the simplest way: the last that matches decides."""
    for rule_kind, rule_major, rule_minor, letters, allow in reversed(rules):
        if rule_kind not in ("a", kind):
            continue
        if rule_major not in (-1, major) or rule_minor not in (-1, minor):
            continue
        asked, spoken = set(access), set(letters)
        if asked <= spoken if allow else asked & spoken:
            return allow
    return False


RULE = st.tuples(
    st.sampled_from("abc"),
    st.integers(-1, 3),
    st.integers(-1, 3),
    st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
    st.booleans(),
)
ACCESS = st.sets(st.sampled_from("rwm"), min_size=1).map("".join)


@given(
    st.lists(RULE, max_size=6),
    st.sampled_from("bc"),
    st.integers(0, 4),
    st.integers(0, 4),
    ACCESS,
)
def test_program_means_the_rules(rules, kind, major, minor, access):
    program = compile_rules(rules)
    expected = allowed(rules, kind, major, minor, access)
    assert interpret(program, kind, major, minor, access) == expected


def test_dockers_rules():
    spec = spec_of(Execution(OverlayMount("/", ("x",)), ("true",)))
    program = compile_rules([_rule(rule) for rule in spec["linux"]["resources"]["devices"]])
    assert interpret(program, "c", 1, 3, "rw")
    assert interpret(program, "c", 136, 7, "rw")
    assert interpret(program, "b", 8, 0, "m")
    assert not interpret(program, "b", 8, 0, "r")
    assert not interpret(program, "c", 1, 1, "r")
    assert not interpret(program, "c", 1, 11, "rm")
