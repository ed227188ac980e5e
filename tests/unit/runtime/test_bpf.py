"""The assembler: what is written in labels runs the same in distances, however far."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.linux import bpf


def run(program: bytes, word: int) -> int:
    """Return what `program` answers when every load gives `word`."""
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        opcode, then, otherwise, k = code[at]
        at += 1
        if opcode == bpf.LD_W_ABS:
            accumulator = word
        elif opcode == bpf.ALU_AND_K:
            accumulator &= k
        elif opcode == bpf.RET_K:
            return k
        elif opcode == bpf.JMP_JA:
            at += k
        else:
            holds = {
                bpf.JMP_JEQ_K: accumulator == k,
                bpf.JMP_JGT_K: accumulator > k,
                bpf.JMP_JGE_K: accumulator >= k,
            }[opcode]
            at += then if holds else otherwise


def test_bytes_are_struct_sock_filter() -> None:
    program = bpf.Assembler()
    program.load(4)
    program.mask(0xFF)
    no = program.label()
    program.jump(bpf.JMP_JEQ_K, 7, otherwise=no)
    program.answer(1)
    program.place(no)
    program.answer(0)
    wanted = [(0x20, 0, 0, 4), (0x54, 0, 0, 255), (0x15, 0, 1, 7), (6, 0, 0, 1), (6, 0, 0, 0)]
    assert program.assemble() == b"".join(struct.pack("=HBBI", *fields) for fields in wanted)


@pytest.mark.parametrize("code", [bpf.JMP_JEQ_K, bpf.JMP_JGT_K, bpf.JMP_JGE_K])
def test_comparisons(code: int) -> None:
    program = bpf.Assembler()
    program.load(0)
    yes = program.label()
    program.jump(code, 5, then=yes)
    program.answer(0)
    program.place(yes)
    program.answer(1)
    wanted = {bpf.JMP_JEQ_K: (0, 1, 0), bpf.JMP_JGT_K: (0, 0, 1), bpf.JMP_JGE_K: (0, 1, 1)}
    assert tuple(run(program.assemble(), word) for word in (4, 5, 6)) == wanted[code]


@pytest.mark.parametrize("distance", [0, 1, 253, 254, 255, 256, 257, 300, 3000])
def test_jumps_reach_any_distance(distance: int) -> None:
    program = bpf.Assembler()
    program.load(0)
    one, two = program.label(), program.label()
    program.jump(bpf.JMP_JEQ_K, 1, then=one, otherwise=two)
    for _ in range(distance):
        program.answer(99)
    program.place(one)
    program.answer(1)
    program.place(two)
    program.answer(2)
    code = program.assemble()
    assert run(code, 1) == 1
    assert run(code, 0) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 500), st.integers(0, 500), st.booleans()),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 300),
)
def test_far_jumps_change_nothing(jumps: list[tuple[int, int, int, bool]], padding: int) -> None:
    """A chain of jumps over padding behaves as the same jumps followed by name."""
    program = bpf.Assembler()
    blocks = [program.label() for _ in range(len(jumps) + 1)]
    program.load(0)
    for number, (k, then, otherwise, through) in enumerate(jumps):
        program.place(blocks[number])
        ahead = blocks[number + 1 :]
        program.jump(
            bpf.JMP_JGE_K,
            k,
            then=None if through else ahead[then % len(ahead)],
            otherwise=ahead[otherwise % len(ahead)],
        )
        program.goto(ahead[0])
        # Whatever is drawn, the program fits into the kernel's 4096 instructions.
        for _ in range(min(padding, 3600 // len(jumps) - 4)):
            program.answer(99)
    program.place(blocks[-1])
    program.answer(1)
    code = program.assemble()
    assert {run(code, word) for word in range(10)} == {1}


def test_backward_and_missing_labels_are_refused() -> None:
    program = bpf.Assembler()
    above = program.label()
    program.place(above)
    program.load(0)
    program.jump(bpf.JMP_JEQ_K, 0, then=above)
    program.answer(0)
    with pytest.raises(ValueError, match="not below"):
        program.assemble()
    program = bpf.Assembler()
    program.goto(program.label())
    with pytest.raises(ValueError, match="not below"):
        program.assemble()


def test_falling_off_the_end_is_refused() -> None:
    program = bpf.Assembler()
    program.jump(bpf.JMP_JEQ_K, 0)
    with pytest.raises(ValueError, match="not below"):
        program.assemble()


def test_a_label_is_placed_once() -> None:
    program = bpf.Assembler()
    label = program.label()
    program.place(label)
    with pytest.raises(ValueError, match="placed twice"):
        program.place(label)


@pytest.mark.parametrize("length", [0, bpf.MAX_INSTRUCTIONS + 1])
def test_lengths_the_kernel_refuses(length: int) -> None:
    program = bpf.Assembler()
    for _ in range(length):
        program.answer(0)
    with pytest.raises(ValueError, match="instructions"):
        program.assemble()
