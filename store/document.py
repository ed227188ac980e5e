"""JSON documents at the store's edge: read strictly, written as Go writes them.

Knows JSON, not what the documents mean. A reader takes the fields it knows, each with its type
checked, and keeps the others, so that a document can be written again without losing what a
newer spec put into it.
"""

import json
import re
from collections.abc import Mapping

from store.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# encoding/json escapes these so that JSON may stand inside HTML; image configs made by Go tools
# are full of \u003e, and the config's digest is the image ID.
_HTML = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(value: object) -> bytes:
    """Return `value` as Go's json.Marshal writes it: compact, HTML characters escaped.

    The order of dictionaries is kept. Lone surrogates (bytes that are no UTF-8) become U+FFFD, as
    in Go.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _SURROGATE.sub("\ufffd", text.translate(_HTML)).encode()


def encode_readable(value: object) -> bytes:
    """Return `value` as indented JSON with a final newline, for records that people `cat`."""
    text = json.dumps(value, ensure_ascii=True, indent=2, allow_nan=False)
    return text.encode() + b"\n"


def decode(data: bytes, what: str) -> "Fields":
    """Return the fields of the JSON object `data`.

    what: names the document in errors, for example "image config".
    Raises Corrupt when `data` is not one JSON object in UTF-8.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is not valid JSON: {error}") from error
    return Fields(value, what)


def _refuse_constant(name: str) -> "NoReturn":
    raise ValueError(f"{name} is no JSON value")


class Fields:
    """The fields of one JSON object, taken one by one; `rest` is what nobody took.

    Every accessor raises Corrupt when the value has another type; a missing field and null are
    the same, as for Go.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Corrupt(f"{what} is not a JSON object")
        self._fields: dict[str, object] = dict(value)
        self.what = what

    def fail(self, cause: str) -> "NoReturn":
        """Raise Corrupt, naming this document."""
        raise Corrupt(f"{self.what}: {cause}")

    def _take(self, name: str, wanted: type, default: object) -> object:
        value = self._fields.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            self.fail(f"field {name} is not {_KINDS[wanted]}")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where there is none."""
        value = self._take(name, str, None)
        return value if isinstance(value, str) else None

    def text(self, name: str) -> str:
        """Return a string, empty where there is none."""
        return self.optional_text(name) or ""

    def required_text(self, name: str) -> str:
        """Return a string that has to be there and not empty."""
        value = self.text(name)
        if not value:
            self.fail(f"field {name} is missing")
        return value

    def integer(self, name: str) -> int:
        """Return an integer, 0 where there is none."""
        value = self._take(name, int, 0)
        return value if isinstance(value, int) else 0

    def boolean(self, name: str) -> bool:
        """Return a truth value, False where there is none."""
        return self._take(name, bool, False) is True

    def optional_texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of strings, or None where there is none."""
        value = self._take(name, list, None)
        if not isinstance(value, list):
            return None
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) != len(value):
            self.fail(f"field {name} holds something that is not a string")
        return texts

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings, empty where there is none."""
        return self.optional_texts(name) or ()

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the sorted keys of a map used as a set: {"80/tcp": {}}."""
        value = self._take(name, dict, None)
        return tuple(sorted(value)) if isinstance(value, dict) else ()

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return a map of strings to strings as sorted pairs."""
        value = self._take(name, dict, None)
        if not isinstance(value, dict):
            return ()
        pairs = sorted((key, "" if text is None else text) for key, text in value.items())
        if not all(isinstance(text, str) for _, text in pairs):
            self.fail(f"field {name} holds something that is not a string")
        return tuple(pairs)

    def child(self, name: str) -> "Fields | None":
        """Return the fields of an object inside this one, or None where there is none."""
        value = self._take(name, dict, None)
        return None if value is None else Fields(value, f"{self.what}: {name}")

    def children(self, name: str) -> tuple["Fields", ...]:
        """Return the fields of every object of a list, empty where there is none."""
        value = self._take(name, list, None)
        if not isinstance(value, list):
            return ()
        return tuple(Fields(item, f"{self.what}: {name}") for item in value)

    def rest(self) -> Mapping[str, object]:
        """Return the fields that nobody took, in the order of the document."""
        return {name: value for name, value in self._fields.items() if value is not None}


_KINDS = {str: "a string", int: "an integer", bool: "true or false", list: "a list", dict: "a map"}


def drop_empty(fields: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, object]:
    """Return `fields` without what Go's omitempty leaves out, then `extra`.

    Empty is what Go calls empty: "", 0, false, nil, a list or map without elements.
    """
    kept = {
        name: value
        for name, value in fields.items()
        if not (value is None or value in ("", 0) or (isinstance(value, dict | list) and not value))
    }
    kept.update((name, value) for name, value in extra.items() if name not in fields)
    return kept
