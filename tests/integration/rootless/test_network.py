"""Networks of their own for an ordinary user's containers, by pasta and slirp4netns.

The host is a network namespace with one cable to another, where somebody listens. In it the user
finds a /dev/net/tun as hosts have it, and a name server on the loopback.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

HELPERS = ("pasta", "slirp4netns")
ADDRESS, OUTSIDE = "192.0.2.10", "192.0.2.1"
NAMED = "192.0.2.77"
WAIT_S = 20.0
TUN = """
mount -t tmpfs tun "$house/tun"; mknod -m MODE "$house/tun/tun" c 10 200
mount --bind "$house/tun/tun" /dev/net/tun
echo nameserver 127.0.0.53 > "$house/tun/resolv.conf"
mount --bind "$house/tun/resolv.conf" /etc/resolv.conf
"""
CABLE = f"""
ip link set lo up; ip link add eth0 type veth peer name out0; ip link set out0 netns "$1"
ip link set eth0 up; ip addr add {ADDRESS}/24 dev eth0; ip route add default via {OUTSIDE}
nsenter "--net=/proc/$1/ns/net" sh -c \\
    'ip link set lo up; ip link set out0 up; ip addr add {OUTSIDE}/24 dev out0'
"""
# Arguments: addresses to listen and to answer for names at. Says what it hears, and who said it.
SERVER = f"""
import select, socket, sys
def bound(kind, address, port):
    sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock
tcp = bound(socket.SOCK_STREAM, sys.argv[1], 7000)
tcp.listen()
udp = bound(socket.SOCK_DGRAM, sys.argv[1], 7000)
dns = bound(socket.SOCK_DGRAM, sys.argv[2], 53)
print("listening", flush=True)
while True:
    for sock in select.select([tcp, udp, dns], [], [])[0]:
        if sock is tcp:
            client, (peer, _) = tcp.accept()
            client.sendall(b"tcp for " + peer.encode() + b"\\n")
            client.close()
            continue
        said, peer = sock.recvfrom(2000)
        if sock is udp:
            udp.sendto(b"udp for " + peer[0].encode() + b"\\n", peer)
        elif said[-4:] == b"\\0\\x01\\0\\x01":
            address = b"\\0\\0\\0\\x09\\0\\x04" + socket.inet_aton("{NAMED}")
            counts = said[4:6] + b"\\0\\x01" + b"\\0" * 4
            answer = said[12:] + b"\\xc0\\x0c" + said[-4:] + address
            dns.sendto(said[:2] + b"\\x81\\x80" + counts + answer, peer)
        else:
            dns.sendto(said[:2] + b"\\x81\\x80" + said[4:6] + b"\\0" * 6 + said[12:], peer)
"""


@dataclass(frozen=True)
class Host:
    """Two network namespaces: pids of processes in the host's and in the one outside."""

    inside: int
    outside: int

    def enter(self, pid: int) -> list[str]:
        """Return the words that run a command in the namespace of `pid`."""
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def talk(self, port: int, kind: int = socket.SOCK_STREAM) -> bytes:
        """Return what is answered from outside at a port of the host, b"" where nobody is."""
        program = (
            f"import socket; s = socket.socket(type={int(kind)}); s.settimeout(5);"
            f"s.connect(('{ADDRESS}', {port})); s.send(b'x\\n'); print(s.recv(100).decode())"
        )
        words = [*self.enter(self.outside), sys.executable, "-c", program]
        return subprocess.run(words, capture_output=True, check=False).stdout.strip()

    def helpers(self) -> list[int]:
        """Return the processes that carry a network of this host's, and those that keep one."""
        namespace = os.stat(f"/proc/{self.inside}/ns/net").st_ino
        found = []
        for entry in filter(str.isdecimal, os.listdir("/proc")):
            try:
                words = cmdline(int(entry)).split(b"\0")
                own = os.stat(f"/proc/{entry}/ns/net").st_ino
            except OSError:
                continue
            is_helper = os.path.basename(words[0]) in (b"pasta", b"slirp4netns")
            if is_helper and own == namespace:
                keeper = next(word for word in words if word.startswith(b"/proc/"))
                found += [int(entry), int(keeper.split(b"/")[2])]
        return found


@pytest.fixture(scope="module")
def host(tool) -> Iterator[Host]:
    tool("ip")
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return process

    try:
        idle = ("unshare", "--net", "sh", "-c", "echo listening; exec sleep 86400")
        inside, outside = start(*idle), start(*idle)
        host = Host(inside.pid, outside.pid)
        cable = [*host.enter(inside.pid), "sh", "-ec", CABLE, "sh", str(outside.pid)]
        subprocess.run(cable, check=True)
        start(*host.enter(inside.pid), sys.executable, "-c", SERVER, "127.0.0.1", "127.0.0.53")
        start(*host.enter(outside.pid), sys.executable, "-c", SERVER, OUTSIDE, OUTSIDE)
        yield host
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture(scope="module")
def user(make_lasting_user, host: Host, tool):
    for name in HELPERS:
        tool(name)
    user = make_lasting_user(before=TUN.replace("MODE", "666"), walls=host.enter(host.inside))
    (user.house / "tun").mkdir()
    user("import", "rootfs.tar", "busybox:test")
    return user


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {WAIT_S} s: {what}")
        time.sleep(0.01)


# What it sees from inside: its network, what answers where.
LOOK = f"""
import os, socket
def talk(address, kind):
    with socket.socket(type=kind) as sock:
        sock.settimeout(2)
        for _ in range(8):  # a datagram may get lost
            try:
                sock.connect((address, 7000))
                if kind == socket.SOCK_DGRAM:
                    sock.send(b"x")
                return sock.recv(100).decode().strip()
            except TimeoutError:
                continue
            except OSError as error:
                return os.strerror(error.errno)
with socket.socket(type=socket.SOCK_DGRAM) as sock:
    sock.connect(("{OUTSIDE}", 9))
    own = sock.getsockname()[0]
print(os.readlink("/proc/self/ns/net"), own, sep="\\n")
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    print(talk("{OUTSIDE}", kind))
print(socket.gethostbyname("any.test"), socket.gethostbyname("box") == own, sep="\\n")
for address in ("{ADDRESS}", "127.0.0.1"):
    print(talk(address, socket.SOCK_STREAM))
print(open("/etc/resolv.conf").read().split()[1])
"""
SERVE = """
import select, signal, socket
signal.signal(signal.SIGTERM, signal.default_int_handler)
tcp, udp = socket.create_server(("", 80)), socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("", 53))
while True:
    for sock in select.select([tcp, udp], [], [])[0]:
        if sock is tcp:
            client, _ = tcp.accept()
            client.recv(100)
            client.sendall(b"tcp")
            client.close()
        else:
            udp.sendto(b"udp", udp.recvfrom(100)[1])
"""
SEEN = {"pasta": (ADDRESS, "169.254.1.1"), "slirp4netns": ("10.0.2.100", "10.0.2.3")}


def python(user, program: str) -> tuple[list[str], list[str]]:
    """Return options and a command that run a program with this host's Python in a container."""
    libraries = [
        path for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64") if Path(path).exists()
    ]
    shown = [f"{user.house}/python:/python:ro", *(f"{path}:{path}:ro" for path in libraries)]
    options = [word for folder in shown for word in ("-v", folder)]
    return [*options, "-e", "LD_LIBRARY_PATH=/python/lib"], [
        *("busybox:test", f"/python/{user.interpreter}"),
        *("-c", program),
    ]


@pytest.mark.parametrize("helper", HELPERS)
def test_the_way_out(user, host: Host, helper: str) -> None:
    """TCP, UDP and names lead out; the host's loopback is not reached."""
    options, command = python(user, LOOK)
    seen = user("run", "--rm", "-h", "box", "--network", helper, *options, *command).stdout
    namespace, *rest = seen.splitlines()
    assert namespace != os.readlink(f"/proc/{host.inside}/ns/net")
    address, resolver = SEEN[helper]
    assert rest == [
        *(address, f"tcp for {ADDRESS}", f"udp for {ADDRESS}", NAMED, "True"),
        *("Connection refused", "Connection refused", resolver),
    ]
    assert host.helpers() == []


@pytest.mark.parametrize("helper", HELPERS)
def test_ports_of_the_host_lead_in(user, host: Host, helper: str) -> None:
    options, command = python(user, SERVE)
    ports = ("-p", "8080:80", "-p", f"{ADDRESS}:5300:53/udp", "-p", "80")
    words = ("run", "--rm", "--name", "web", "--network", helper, *ports, *options, *command)
    process = subprocess.Popen(
        user.command(user.python, "-m", "pybuild", *words), stdin=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: host.talk(8080) == b"tcp", "the published port answers")
        wait_until(lambda: host.talk(5300, socket.SOCK_DGRAM) == b"udp", "so does that of UDP")
        shown = user("ps", "--format", "{{.Ports}}").stdout
        assert shown.startswith(f"0.0.0.0:8080->80/tcp, {ADDRESS}:5300->53/udp, 0.0.0.0:")
        chosen = int(shown.strip().rpartition("->")[0].rpartition(":")[2])
        assert host.talk(chosen) == b"tcp"
        taken = user("run", "--rm", *words[4:-3], "busybox:test", "true", check=False)
        assert taken.returncode == 125
        assert "publish 0.0.0.0:8080/tcp: address already in use" in taken.stderr
    finally:
        user("rm", "-f", "web")
        process.wait()
    assert host.helpers() == []


def test_root_has_one_where_it_asks(pybuild, busybox_image: str, host: Host, tool) -> None:
    own = os.readlink(f"/proc/{host.inside}/ns/net")
    seen = []
    for words in ((), *(("--network", tool(name).rpartition("/")[2]) for name in HELPERS)):
        command = ("sh", "-c", "readlink /proc/self/ns/net; nslookup -type=a any.test 192.0.2.1")
        run = pybuild.command("run", "--rm", *words, busybox_image, *command)
        environment = pybuild.full_environment({})
        done = subprocess.run(
            [*host.enter(host.inside), *run], env=environment, capture_output=True, text=True
        )
        seen.append(done.stdout.splitlines()[0])
        assert NAMED in done.stdout
    assert seen[0] == own
    assert own not in seen[1:]
    assert host.helpers() == []


def test_ports_that_cannot_be_published(user) -> None:
    def said(*words: str) -> str:
        done = user("run", "--rm", *words, "busybox:test", "echo", "ran", check=False)
        assert (done.returncode, done.stdout) == (125, "")
        return done.stderr

    assert "publish 0.0.0.0:80/tcp: permission denied" in said("-p", "80:80")
    assert "--network none has nothing" in said("--network", "none", "-P")
    assert "IPv4 addresses only" in said("--network", "slirp4netns", "-p", "[::1]:8080:80")
    discarded = user("run", "--rm", "--network", "host", "-p", "80:80", "busybox:test", "true")
    assert discarded.stderr == (
        "WARNING: Published ports are discarded when using host network mode\n"
    )


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("pasta:-i,nowhere", "error: network pasta: Invalid interface name nowhere: "),
        (
            "slirp4netns:outbound_addr=nowhere",
            "error: network slirp4netns: outbound-addr has to be valid ipv4 address or interface",
        ),
    ],
)
def test_a_helper_that_does_not_start(user, host: Host, network: str, said: str) -> None:
    done = user("run", "--rm", "--network", network, "busybox:test", "true", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 2, "what it said, and a hint"
    assert user("ps", "-aq").stdout == ""
    assert host.helpers() == []


BUILD = """\
FROM busybox:test
RUN readlink /proc/self/ns/net; cp /etc/hosts /hosts
RUN readlink /proc/self/ns/net; mkfifo /f; exec 3<>/f; nc -w 5 host.test 7000 <&3
RUN --network=none readlink /proc/self/ns/net
RUN --network=host readlink /proc/self/ns/net
"""


def test_the_steps_of_a_build_share_one(user, host: Host) -> None:
    user.write("context/Dockerfile", BUILD)
    words = ("build", "--progress", "plain", "--allow", "network.host")
    words += ("--add-host", "host.test:host-gateway")
    built = user(*words, "context").stderr
    lines = [line.split()[-1] for line in built.splitlines() if " net:[" in line]
    own = os.readlink(f"/proc/{host.inside}/ns/net")
    assert lines[0] == lines[1] != own
    assert lines[2] not in (lines[0], own)
    assert lines[3] == own
    assert " tcp for 127.0.0.1" in built
    assert host.helpers() == []
    again = user(*words, "--network", "slirp4netns", "context").stderr
    assert again.count("CACHED") == 5, "the network is in no key"


def test_the_network_does_not_show_in_an_image(user) -> None:
    user.write("same/Dockerfile", "FROM busybox:test\nRUN cp /etc/hosts /hosts; hostname > /name\n")
    words = ("build", "--no-cache", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    words += ("-o", "type=oci,dest=x.tar,rewrite-timestamp=true", "--network")
    assert user(*words, "host", "same").stdout == user(*words, "slirp4netns", "same").stdout


def test_the_default_is_what_there_is(user) -> None:
    assert "pasta (/usr/bin/pasta)" in user("info").stdout
    poorer = replace(user, before=TUN.replace("MODE", "600"))
    words = ("run", "--rm", "busybox:test", "readlink", "/proc/self/ns/net")
    assert poorer(*words).stdout != user(*words).stdout
    said = poorer("info").stdout
    assert "host: /dev/net/tun: permission denied (as root: chmod 666 /dev/net/tun)" in said
    none = replace(user, before="mount -t tmpfs none /dev/net")("info").stdout
    assert "host: /dev/net/tun: no such file or directory (as root: modprobe tun" in none
    refused = poorer("run", "--rm", "--network", "pasta", "busybox:test", "true", check=False)
    assert "--network pasta: /dev/net/tun: permission denied" in refused.stderr


@pytest.mark.parametrize("killed", ["pybuild", "keeper", "helper", "container", "interrupt"])
def test_nothing_is_left(user, host: Host, killed: str) -> None:
    """Whoever is killed, the network's processes end, and files are not left."""
    before = sorted(os.listdir(user.house / "run"))
    words = ("run", "--name", f"x-{killed}", "--network", HELPERS[killed == "keeper"])
    process = subprocess.Popen(
        user.command(
            *(user.python, "-m", "pybuild", *words, "busybox:test"),
            *(
                "sh",
                "-c",
                "trap 'exit 3' INT TERM; readlink /proc/self; while :; do sleep 0.05; done",
            ),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    helper, keeper = host.helpers()
    if killed == "interrupt":
        # It waits in the small program by then, which takes the network along.
        wait_until(lambda: b"dormant" in cmdline(process.pid), "it is dormant")
        assert host.helpers() == [helper, keeper]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(WAIT_S) == 3
    elif killed == "pybuild":
        os.kill(process.pid, signal.SIGKILL)
    elif killed in ("keeper", "helper"):
        os.kill({"keeper": keeper, "helper": helper}[killed], signal.SIGKILL)
        wait_until(lambda: not host.helpers(), "the helper's end")
        user("rm", "-f", f"x-{killed}")
    else:
        (init,) = children_of(next(pid for pid in children_of(process.pid) if pid != keeper))
        os.kill(init, signal.SIGKILL)
        assert process.wait(WAIT_S) == 128 + signal.SIGKILL
    process.wait(WAIT_S)
    process.stdout.close()
    wait_until(lambda: not host.helpers() and not cmdline(keeper), "the end of both")
    assert sorted(os.listdir(user.house / "run")) == before


def cmdline(pid: int) -> bytes:
    """Return a process's words, b"" where there is none, or it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
