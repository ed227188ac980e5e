"""JSON without the json package, which takes longer to import than a container to start.

Its C core does the work; where there is none, the package does.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_core: "Any"
try:
    import _json

    _core = _json
except ImportError:  # another Python than CPython
    _core = None

_BLANKS = " \t\n\r"


class _Context:
    """What the scanner asks its decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: "dict[str, str]"

    def __init__(self) -> None:
        self.memo = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is no JSON")


def loads(data: bytes) -> object:
    """Return the value that `data`, UTF-8, says. Raises ValueError."""
    text = data.decode()
    if _core is not None:
        start = len(text) - len(text.lstrip(_BLANKS))
        try:
            context: Any = _Context()
            value, end = _core.make_scanner(context)(text, start)
            if not text[end:].strip(_BLANKS):
                return value
        except (StopIteration, SystemError):
            pass  # it looks for the package's exception, which is not there
    import json  # says what is wrong, and where

    result: object = json.loads(text, parse_constant=_Context.parse_constant)
    return result


def dumps(value: object) -> bytes:
    """Return `value` (dicts, lists, strings, numbers, None) as one line of JSON."""
    if _core is None:
        import json

        return json.dumps(value, separators=(",", ":")).encode()
    encoder = _core.make_encoder(
        {}, _refuse, _core.encode_basestring_ascii, None, ":", ",", False, False, False
    )
    return "".join(encoder(value, 0)).encode()


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no JSON")
