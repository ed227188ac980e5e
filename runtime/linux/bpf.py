"""An assembler for the classic BPF programs that seccomp takes.

Owns instructions, labels and jump distances; knows nothing of system calls. A conditional jump
reaches 255 instructions only: where a label is farther, an unconditional jump is put between.
Source: linux/filter.h, linux/bpf_common.h; seccomp(2) takes a subset of the opcodes.
"""

import struct

LD_W_ABS = 0x20
ALU_AND_K = 0x54
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
RET_K = 0x06

MAX_INSTRUCTIONS = 4096
_REACH = 255
_sock_filter = struct.Struct("=HBBI")

# A place in the program that jumps go to.
Label = int


class _Instruction:
    __slots__ = ("code", "k", "otherwise", "otherwise_far", "then", "then_far")

    def __init__(self, code: int, k: int, then: Label | None, otherwise: Label | None) -> None:
        self.code = code
        self.k = k
        self.then = then
        self.otherwise = otherwise
        self.then_far = False
        self.otherwise_far = False

    @property
    def size(self) -> int:
        """Instructions this becomes, with the far jumps that follow it."""
        return 1 + self.then_far + self.otherwise_far


class Assembler:
    """A program being written from top to bottom; jumps go down only, as the kernel demands."""

    def __init__(self) -> None:
        self._program: list[_Instruction] = []
        self._places: list[int | None] = []  # by label: index into the program

    def label(self) -> Label:
        """Return a new label, to be placed later."""
        self._places.append(None)
        return len(self._places) - 1

    def place(self, label: Label) -> None:
        """Let `label` mean the instruction that comes next."""
        if self._places[label] is not None:
            raise ValueError(f"label {label} is placed twice")
        self._places[label] = len(self._program)

    def load(self, offset: int) -> None:
        """Load the 32-bit word at `offset` of the data into the accumulator."""
        self._program.append(_Instruction(LD_W_ABS, offset, None, None))

    def mask(self, bits: int) -> None:
        """Keep only `bits` of the accumulator."""
        self._program.append(_Instruction(ALU_AND_K, bits, None, None))

    def answer(self, value: int) -> None:
        """End the program with `value`."""
        self._program.append(_Instruction(RET_K, value, None, None))

    def goto(self, label: Label) -> None:
        """Go on at `label`."""
        self._program.append(_Instruction(JMP_JA, 0, label, None))

    def jump(
        self, code: int, k: int, then: Label | None = None, otherwise: Label | None = None
    ) -> None:
        """Compare the accumulator with `k` and go on at `then` or `otherwise`.

        code: JMP_JEQ_K, JMP_JGT_K or JMP_JGE_K (unsigned). None: the next instruction.
        """
        self._program.append(_Instruction(code, k, then, otherwise))

    def assemble(self) -> bytes:
        """Return the program as an array of struct sock_filter.

        Raises ValueError when it is empty, too long for the kernel, or jumps to a label that is
        not placed below the jump.
        """
        addresses = self._lay_out()
        if not 0 < addresses[-1] <= MAX_INSTRUCTIONS:
            raise ValueError(f"{addresses[-1]} instructions, the kernel takes {MAX_INSTRUCTIONS}")
        code = bytearray()
        for index, instruction in enumerate(self._program):
            self._encode(instruction, index, addresses, code)
        return bytes(code)

    def _lay_out(self) -> list[int]:
        """Return the address of every instruction and of the end, far jumps decided."""
        while True:
            addresses = [0]
            for instruction in self._program:
                addresses.append(addresses[-1] + instruction.size)
            grown = False
            for index, instruction in enumerate(self._program):
                if instruction.code in (JMP_JEQ_K, JMP_JGT_K, JMP_JGE_K):
                    grown |= self._stretch(instruction, index, addresses)
            if not grown:
                return addresses

    def _stretch(self, instruction: _Instruction, index: int, addresses: list[int]) -> bool:
        """Mark the jumps of `instruction` that became too far; tell whether there was one."""
        # Distances only grow from one round to the next, so that this ends.
        next_address = addresses[index] + 1
        then_far = self._target(instruction.then, index, addresses) - next_address > _REACH
        otherwise_far = (
            self._target(instruction.otherwise, index, addresses) - next_address > _REACH
        )
        grown = then_far > instruction.then_far or otherwise_far > instruction.otherwise_far
        instruction.then_far |= then_far
        instruction.otherwise_far |= otherwise_far
        return grown

    def _target(self, label: Label | None, index: int, addresses: list[int]) -> int:
        place = index + 1 if label is None else self._places[label]
        if place is None or not index < place < len(self._program):
            raise ValueError(f"jump at {index} to label {label}, which is not below it")
        return addresses[place]

    def _encode(
        self, instruction: _Instruction, index: int, addresses: list[int], code: bytearray
    ) -> None:
        address = addresses[index]
        if instruction.code == JMP_JA:
            distance = self._target(instruction.then, index, addresses) - address - 1
            code += _sock_filter.pack(JMP_JA, 0, 0, distance)
            return
        if instruction.code in (LD_W_ABS, ALU_AND_K, RET_K):
            code += _sock_filter.pack(instruction.code, 0, 0, instruction.k)
            return
        then = self._target(instruction.then, index, addresses)
        otherwise = self._target(instruction.otherwise, index, addresses)
        code += _sock_filter.pack(
            instruction.code,
            0 if instruction.then_far else then - address - 1,
            int(instruction.then_far) if instruction.otherwise_far else otherwise - address - 1,
            instruction.k,
        )
        if instruction.then_far:
            code += _sock_filter.pack(JMP_JA, 0, 0, then - address - 2)
        if instruction.otherwise_far:
            far = address + 1 + int(instruction.then_far)
            code += _sock_filter.pack(JMP_JA, 0, 0, otherwise - far - 1)
