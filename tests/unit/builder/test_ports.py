import pytest

from builder.ports import exposed_ports


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("80-82/sctp", ["80/sctp", "81/sctp", "82/sctp"]),
        ("0", ["0/tcp"]),
        ("8080:80", ["80/tcp"]),
        (":80", ["80/tcp"]),
        ("8000-8010:80", ["80/tcp"]),
        ("1-3:11-13", ["11/tcp", "12/tcp", "13/tcp"]),
        ("127.0.0.1:8080:80/udp", ["80/udp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("[::1]:8080:80", ["80/tcp"]),
        ("::1:8080:80", ["80/tcp"]),
    ],
)
def test_ports(word: str, expected: list[str]) -> None:
    assert exposed_ports(word) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "no port specified"),
        ("80:", "no port specified"),
        ("x", "invalid containerPort: x"),
        ("80-", "invalid containerPort"),
        ("9-7", "invalid containerPort: 9-7"),
        ("65536", "not in 0-65535"),
        ("٣", "invalid containerPort"),
        ("80/icmp", "invalid proto: icmp"),
        ("x:80", "invalid hostPort"),
        ("1-2:11-13", "invalid ranges"),
        ("localhost:1:80", "invalid IP address: localhost"),
        ("[::x]:1:80", "invalid IP address"),
    ],
)
def test_no_ports(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exposed_ports(word)
