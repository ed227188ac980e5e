"""Networks of their own: what is asked for, and the helpers' command lines."""

import pytest

from runtime.errors import InvalidNetwork
from runtime.network import pasta, slirp
from runtime.network.modes import NetworkMode, parse_mode
from runtime.network.ports import Published, parse_published


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (None, NetworkMode("default")),
        ("", NetworkMode("default")),
        ("default", NetworkMode("default")),
        ("host", NetworkMode("host")),
        ("none", NetworkMode("none")),
        ("pasta", NetworkMode("pasta")),
        ("pasta:", NetworkMode("pasta")),
        ("pasta:-T,5432,--map-gw", NetworkMode("pasta", ("-T", "5432", "--map-gw"))),
        (
            "slirp4netns:mtu=1500,enable_ipv6=false",
            NetworkMode("slirp4netns", ("mtu=1500", "enable_ipv6=false")),
        ),
    ],
)
def test_modes(text: str | None, mode: NetworkMode) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bridge", 'unknown mode "bridge"'),
        ("host:x", 'unknown mode "host:x"'),
        ("pasta:--netns,/x", "option '--netns': not supported"),
        ("pasta:--mtu", "option --mtu needs a value"),
        ("pasta:--mtu,--map-gw", "option --mtu needs a value"),
        ("pasta:--map-gw=x", "not supported"),
        ("pasta:sh", "option 'sh': not supported"),
        ("slirp4netns:mtu=67", "mtu=67 is a number from 68 to 65521"),
        ("slirp4netns:cidr=10.0.0.0/28", "room for address 100"),
        ("slirp4netns:cidr=fd00::/64", "room for address 100"),
        ("slirp4netns:allow_host_loopback=yes", "is true or false"),
        ("slirp4netns:port_handler=rootlesskit", "not supported; there is"),
        ("slirp4netns:outbound_addr6=::1,enable_ipv6=false", "needs enable_ipv6=true"),
        ("slirp4netns:x", "x is not supported"),
    ],
)
def test_modes_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidNetwork) as caught:
        parse_mode(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("word", "published"),
    [
        ("80", Published(0, 80)),
        ("8080:80", Published(8080, 80)),
        ("8080:80/UDP", Published(8080, 80, protocol="udp")),
        ("127.0.0.1:8080:80/tcp", Published(8080, 80, address="127.0.0.1")),
        ("127.0.0.1::80", Published(0, 80, address="127.0.0.1")),
        ("0.0.0.0:8080:80", Published(8080, 80)),
        ("[::1]:8080:80", Published(8080, 80, address="::1")),
        ("8000-8002:9000-9002", Published(8000, 9000, 3)),
        ("8000-8009:80", Published(8000, 80, host_last=8009)),
        ("9000-9001", Published(0, 9000, 2)),
    ],
)
def test_published_ports(word: str, published: Published) -> None:
    assert parse_published(word) == published


@pytest.mark.parametrize(
    "word",
    ["", "x", "0:80", "80:0", "80:65536", "8000-8002:80-81", "2-1:1-2", "a:80:80", "80:80/sctp"],
)
def test_ports_that_are_none(word: str) -> None:
    with pytest.raises(InvalidNetwork, match="no port mapping"):
        parse_published(word)


def test_pastas_words() -> None:
    (words,) = pasta.arguments((), (), host=False, privileged=False)
    assert " ".join(words) == (
        "--quiet --config-net -t none -u none -T none -U none --dns-forward 169.254.1.1 --no-map-gw"
    )
    ports = (Published(8000, 9000, 3), Published(53, 5353, protocol="udp", address="127.0.0.1"))
    (words,) = pasta.arguments(("--map-gw", "-T", "1"), ports, host=True, privileged=True)
    assert " ".join(words) == (
        "--quiet --config-net -T 1 -t 8000-8002:9000-9002 -u 127.0.0.1/53:5353 -U none "
        "--dns-forward 169.254.1.1 --runas 0"
    )


def test_an_older_pasta_gives_the_host_the_gateways_address() -> None:
    newer, older = pasta.arguments((), (), host=True, privileged=False)
    assert newer[-3:] == ["--no-map-gw", "--map-guest-addr", "169.254.1.2"]
    assert "--no-map-gw" not in older
    assert "--map-guest-addr" not in older


def test_slirps_words_and_addresses() -> None:
    options = slirp.parse_options(("cidr=10.9.0.0/16", "allow_host_loopback=true"))
    assert [options.address(number) for number in (slirp.HOST, slirp.RESOLVER)] == [
        "10.9.0.2",
        "10.9.0.3",
    ]
    words = slirp.arguments(options, 3, "/x/api")
    assert "--disable-host-loopback" not in words
    assert {"--cidr=10.9.0.0/16", "--mtu=65520", "--api-socket=/x/api"} <= set(words)
    assert "--disable-host-loopback" in slirp.arguments(slirp.SlirpOptions(), 3, "")


def test_slirp_publishes_each_port_by_itself_and_on_ipv4() -> None:
    asked = slirp.requests((Published(80, 90, 2, "udp"),))
    assert [port for _, port in asked] == ["0.0.0.0:80/udp", "0.0.0.0:81/udp"]
    assert '"host_port":81,"guest_port":91' in asked[1][0]
    with pytest.raises(InvalidNetwork, match="IPv4 addresses only"):
        slirp.requests((Published(80, 90, address="::1"),))
