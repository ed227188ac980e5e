"""Lark, without `regex`: where that is installed Lark imports it, for 20 ms and nothing of ours."""

import sys

_hidden = "regex" not in sys.modules
if _hidden:
    sys.modules["regex"] = None  # type: ignore[assignment]  # as if it were not installed
try:
    from lark import Lark, UnexpectedInput, UnexpectedToken
    from lark.lexer import PatternRE, TerminalDef
finally:
    if _hidden:
        del sys.modules["regex"]

__all__ = ["Lark", "PatternRE", "TerminalDef", "UnexpectedInput", "UnexpectedToken"]
