"""JSON by the C core alone says what the package says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import jsontext

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_there_and_back(value):
    assert json.loads(jsontext.dumps(value)) == value
    assert jsontext.loads(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize("data", [b"", b"{", b"{} x", b'{"a":NaN}', b'{"a":1,}', b"\xff", b"[1 2]"])
def test_what_is_no_json(data):
    with pytest.raises(ValueError):
        jsontext.loads(data)


def test_what_json_cannot_say():
    with pytest.raises(TypeError):
        jsontext.dumps({"a": {1, 2}})
