"""WWW-Authenticate headers as registries send them, and as nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_client.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/x:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/x:pull,push",
                    },
                )
            ],
        ),
        ("BEARER Realm=abc , service = x", [("bearer", {"realm": "abc", "service": "x"})]),
        (
            'Basic realm="a, b", Bearer realm="c"',
            [("basic", {"realm": "a, b"}), ("bearer", {"realm": "c"})],
        ),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        (r'Basic realm="say \"hi\""', [("basic", {"realm": 'say "hi"'})]),
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="never closed', [("basic", {})]),
    ],
)
def test_parse(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse(header) == tuple(Challenge(scheme, found) for scheme, found in expected)


def test_a_parameter_that_is_not_there_is_empty() -> None:
    assert parse("Basic")[0].get("realm") == ""


@given(st.text(alphabet='abB=",\\ \t/:é\0', max_size=40))
def test_anything_is_read(header: str) -> None:
    for challenge in parse(header):
        assert challenge.scheme == challenge.scheme.lower()
