import pytest

from builder.devices import Device, parse_device


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v.com/c", Device("v.com/c")),
        ("v.com/c=gpu", Device("v.com/c=gpu")),
        ("v.com/c=*,required", Device("v.com/c=*", True)),
        ("required,v.com/c", Device("v.com/c", True)),
        ("name=v.com/c=gpu,required=true", Device("v.com/c=gpu", True)),
        ("name=c,Required=0", Device("c")),
        ('"name=a,b"', Device("a,b")),
    ],
)
def test_devices(text: str, expected: Device) -> None:
    assert parse_device(text) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "names no device"),
        ("required", "names no device"),
        ("a,b", '"b" is no key=value'),
        ("a,name=b", "the name is a already"),
        ("a,require=1", r'unexpected key "require" \(did you mean required\?\)'),
        ("a,required=maybe", "invalid value for required: maybe"),
        ('a,"b', "no list of fields"),
    ],
)
def test_what_is_no_device(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        parse_device(text)
