"""resolv.conf and hosts of a container."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.hostfiles import hosts, resolv_conf

STUB = "# systemd\nnameserver 127.0.0.53\noptions edns0\nsearch example.org\n"
UPSTREAM = "nameserver 192.0.2.1\nnameserver 2001:db8::1\n"


def test_on_the_hosts_network_the_hosts_file_is_kept():
    assert resolv_conf(STUB, UPSTREAM, own_network=False) == STUB


def test_loopback_resolvers_are_replaced_by_what_stands_behind_them():
    text = resolv_conf(STUB, UPSTREAM, own_network=True)
    assert text == (
        "options edns0\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n"
    )


def test_only_the_loopback_ones_are_replaced():
    host = "nameserver 127.0.0.1\nnameserver 192.0.2.9\nnameserver ::1\n"
    assert resolv_conf(host, UPSTREAM, own_network=True) == "nameserver 192.0.2.9\n"


def test_without_any_resolver():
    assert resolv_conf("", UPSTREAM, own_network=False) == UPSTREAM
    assert resolv_conf("", "", own_network=True) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert resolv_conf("", "", own_network=False) == ""


def test_given_servers_replace_all():
    text = resolv_conf(STUB, UPSTREAM, own_network=True, servers=("127.0.0.1", "9.9.9.9"))
    assert text.splitlines()[-2:] == ["nameserver 127.0.0.1", "nameserver 9.9.9.9"]
    assert "127.0.0.53" not in text


def test_a_forwarder_is_first_where_it_has_somebody_to_ask():
    def servers(host: str) -> list[str]:
        text = resolv_conf(host, UPSTREAM, own_network=True, forwarder="169.254.1.1")
        return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]

    assert servers(STUB) == ["169.254.1.1"]
    assert servers("nameserver 127.0.0.1\nnameserver 192.0.2.9\n") == ["169.254.1.1", "192.0.2.9"]
    assert servers("nameserver 2001:db8::1\n") == ["2001:db8::1"]
    assert servers("") == ["192.0.2.1", "2001:db8::1"]


@given(st.text(max_size=200), st.text(max_size=200), st.booleans())
def test_any_host_file_is_survived(host, upstream, own):
    text = resolv_conf(host, upstream, own_network=own)
    if own:
        assert "nameserver" in text


def test_hosts():
    text = hosts("box", "10.0.0.2", [("db", "10.0.0.3"), ("db6", "::2")])
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["127.0.0.1", "localhost"]
    assert lines[-3:] == [["10.0.0.2", "box"], ["10.0.0.3", "db"], ["::2", "db6"]]
    assert ["127.0.0.1", "box"] in [line.split() for line in hosts("box", "", ()).splitlines()]
