"""Lowering: a stage's instructions, one after the other, become vertices and an image config.

`lower` is open: each instruction registers its meaning in `builder/instructions/`. Nothing here
touches the disk or runs anything.
"""

from functools import singledispatch

from builder.stage import Stage
from grammar import ast


@singledispatch
def lower(node: ast.Instruction, stage: Stage) -> Stage:
    """Return the stage after `node`. Raises InstructionError where the instruction is wrong."""
    raise TypeError(f"no meaning is registered for {type(node).__name__}")
