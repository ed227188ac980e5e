"""systemd's names, properties and messages; and a bus that answers oddly."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtime.errors import InvalidSpec, RuntimeFailure
from runtime.systemd import manager, message, properties
from runtime.systemd.bus import Bus, NoSystemd, connect, paths_of
from runtime.systemd.units import folder_of, scope_of
from runtime.systemd.variants import annotated, parse

INFINITY = 2**64 - 1


@pytest.mark.parametrize(
    ("path", "user", "expected"),
    [
        ("machine.slice:libpod:12", False, ("machine.slice", "libpod-12.scope")),
        (":docker:12", False, ("system.slice", "docker-12.scope")),
        (":libpod:12", True, ("user.slice", "libpod-12.scope")),
        ("", False, ("system.slice", "pybuild-runtime-a\\x2bb.scope")),
        ("-.slice:x:y", False, ("-.slice", "x-y.scope")),
    ],
)
def test_scopes(path, user, expected):
    assert scope_of(path, "a+b", user=user) == expected


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a.slice", "/a.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("-.slice", ""),
    ],
)
def test_slices(name, folder):
    assert folder_of(name) == folder


@pytest.mark.parametrize(
    "path",
    [
        *("/a/b", "a.slice:b", "a:b:c", "a--b.slice:c:d", "-a.slice:b:c", "a-.slice:b:c", "-:b:c"),
        *("a.slice:b:", ".slice:b:c", "a.slice:b:c/d", "a.slice:b:ü", f"a.slice:b:{'x' * 250}"),
    ],
)
def test_no_scopes(path):
    with pytest.raises(InvalidSpec, match=r"linux\.cgroupsPath: "):
        scope_of(path, "a", user=False)


@pytest.mark.parametrize(
    ("resources", "v2", "v1"),
    [
        ({"memory": {"limit": 5}}, [("MemoryMax", "t", 5)], [("MemoryMax", "t", 5)]),
        ({"memory": {"limit": -1}}, [("MemoryMax", "t", INFINITY)], [("MemoryMax", "t", INFINITY)]),
        (
            {"memory": {"limit": 5, "swap": 8, "reservation": 3}},
            [("MemoryMax", "t", 5), ("MemorySwapMax", "t", 3), ("MemoryLow", "t", 3)],
            [("MemoryMax", "t", 5)],
        ),
        ({"memory": {"swap": -1}}, [("MemorySwapMax", "t", INFINITY)], []),
        ({"cpu": {"shares": 1024}}, [("CPUWeight", "t", 39)], [("CPUShares", "t", 1024)]),
        ({"cpu": {"shares": 1}}, [("CPUWeight", "t", 1)], [("CPUShares", "t", 2)]),
        ({"cpu": {"shares": 9, "idle": 1}}, [], []),
        ({"cpu": {"cpus": "0-2,9"}}, [("AllowedCPUs", "ay", b"\x07\x02")], []),
        ({"cpu": {"mems": "1"}}, [("AllowedMemoryNodes", "ay", b"\x02")], []),
        ({"pids": {"limit": 7}}, [("TasksMax", "t", 7)], [("TasksMax", "t", 7)]),
        ({"pids": {"limit": -1}}, [("TasksMax", "t", INFINITY)], [("TasksMax", "t", INFINITY)]),
        ({"blockIO": {"weight": 1000}}, [("IOWeight", "t", 10000)], [("BlockIOWeight", "t", 1000)]),
        (
            {"unified": {"memory.high": "max", "memory.min": "9", "pids.max": "3"}},
            [("MemoryHigh", "t", INFINITY), ("MemoryMin", "t", 9), ("TasksMax", "t", 3)],
            [],
        ),
        ({"unified": {"cpuset.cpus": "3", "misc.max": "x"}}, [("AllowedCPUs", "ay", b"\x08")], []),
    ],
)
def test_limits(resources, v2, v1):
    assert properties.limits(resources, v1=False) == v2
    assert properties.limits(resources, v1=True) == v1


@pytest.mark.parametrize(
    ("cpu", "period", "per_second"),
    [
        ({"quota": 50000, "period": 100000}, 100000, 500000),
        ({"quota": 12345}, None, 130000),  # 12.345 %, rounded up to whole ones
        ({"quota": -1}, None, INFINITY),
        ({"period": 1000}, 1000, INFINITY),
    ],
)
def test_quotas(cpu, period, per_second):
    expected = [("CPUQuotaPeriodUSec", "t", period)] if period else []
    expected.append(("CPUQuotaPerSecUSec", "t", per_second))
    assert properties.limits({"cpu": cpu}, v1=False) == expected
    quota = cpu["quota"] if cpu.get("quota", -1) > 0 else "max"
    unified = {"cpu.max": f"{quota} {cpu['period']}" if "period" in cpu else f"{quota}"}
    if unified != {"cpu.max": "max"}:  # without a period that says nothing
        assert properties.limits({"unified": unified}, v1=False) == expected


@pytest.mark.parametrize(
    "resources",
    [
        *({"cpu": {"cpus": text}} for text in ("x", "1-", "-1", "1-x", "99999999")),
        *({"unified": {"memory.max": text}} for text in ("-1", "1k", "")),
        {"unified": {"cpu.max": "5 x"}},
    ],
)
def test_no_limits(resources):
    with pytest.raises(InvalidSpec, match=r"linux\.resources\."):
        properties.limits(resources, v1=False)


DENY = {"allow": False, "access": "rwm"}


def rule(kind: str, major: int, minor: int, access: str = "rwm", *, allow: bool = True) -> dict:
    """A rule of config.json; -1 for any number."""
    numbers = {"major": major, "minor": minor}
    return {
        "allow": allow,
        "type": kind,
        "access": access,
        **{name: number for name, number in numbers.items() if number >= 0},
    }


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([DENY], []),
        ([DENY, rule("c", 1, 3)], [("/dev/char/1:3", "rwm")]),
        ([DENY, rule("c", -1, -1, "m")], [("char-*", "m")]),
        ([DENY, rule("b", 8, -1, "wr")], [("block-8", "rw")]),
        ([rule("c", 1, 3), DENY, rule("c", 1, 5, "r")], [("/dev/char/1:5", "r")]),
        ([DENY, rule("c", 1, 3), rule("c", 1, 3, "w", allow=False)], [("/dev/char/1:3", "rm")]),
        ([DENY, rule("c", 1, 3), rule("b", 1, 3, allow=False)], [("/dev/char/1:3", "rwm")]),
        ([DENY, rule("a", 4, 5)], [("/dev/block/4:5", "rwm"), ("/dev/char/4:5", "rwm")]),
    ],
)
def test_devices(rules, allowed):
    expected = [
        ("DevicePolicy", "s", "strict"),
        ("DeviceAllow", "a(ss)", []),
        ("DeviceAllow", "a(ss)", allowed),
    ]
    assert properties.devices({"devices": rules}, v1=True) == expected


def test_all_devices():
    expected = [("DevicePolicy", "s", "auto"), ("DeviceAllow", "a(ss)", [])]
    rules = [DENY, rule("c", 1, 3), {"allow": True, "access": "rwm"}]
    assert properties.devices({"devices": rules}, v1=True) == expected


def test_devices_that_systemd_cannot_say():
    exception = [DENY, rule("c", -1, -1, "rw"), rule("c", 1, 1, "r", allow=False)]
    with pytest.raises(InvalidSpec, match="cannot deny part of what it allows: c 1:1 r"):
        properties.devices({"devices": exception}, v1=True)
    # v2: more is allowed than what is, and the program of the cgroup keeps to the rules.
    assert properties.devices({"devices": exception}, v1=False)[-1][2] == [("char-*", "rw")]
    with pytest.raises(InvalidSpec, match=r"one number of all majors: c \*:3"):
        properties.devices({"devices": [DENY, rule("c", -1, 3)]}, v1=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", ("b", True)),
        (" 5 ", ("i", 5)),
        ("-0x10", ("i", -16)),
        ("uint64 18446744073709551615", ("t", INFINITY)),
        ("int64 -5", ("x", -5)),
        ("uint32 5", ("u", 5)),
        ("byte 0xff", ("y", 255)),
        ("1.5", ("d", 1.5)),
        ("'it''s'", None),
        ("'it\\'s\\n'", ("s", "it's\n")),
        ("\"a 'b'\"", ("s", "a 'b'")),
        ("['a', \"b\"]", ("as", ["a", "b"])),
        ("[ ]", ("as", [])),
        *((bad, None) for bad in ("", "x", "@as []", "[1]", "['a'", "['a' 'b']", "'a", "(1, 2)")),
        *((bad, None) for bad in ("uint32 -1", "byte 256", "3000000000", "nosuch 5", "[] x")),
    ],
)
def test_variants(text, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"\S"):
            parse(text)
    else:
        assert parse(text) == expected


def test_annotations():
    prefix = "org.systemd.property."
    annotations = {"other": "x", f"{prefix}TimeoutStopSec": "1.5", f"{prefix}CollectMode": "'a'"}
    annotations |= {f"{prefix}TimeoutStopUSec": "uint64 7"}
    assert annotated(annotations) == [
        ("TimeoutStopUSec", "t", 1500000),
        ("CollectMode", "s", "a"),
        ("TimeoutStopUSec", "t", 7),
    ]
    for name, text in (("X", "1"), ("A-B", "1"), ("RuntimeMaxSec", "'5'"), ("Nice", "(1,)")):
        with pytest.raises(InvalidSpec, match=f"annotations: org.systemd.property.{name}: "):
            annotated({f"{prefix}{name}": text})


@pytest.mark.parametrize(
    ("address", "paths"),
    [
        ("unix:path=/run/bus,guid=1", ["/run/bus"]),
        ("tcp:host=x;unix:abstract=/tmp/x;unix:path=/a%20b", ["@/tmp/x", "/a b"]),
        ("", []),
        ("unix:path=%zz", ["%zz"]),
    ],
)
def test_addresses(address, paths):
    assert paths_of(address) == paths


SIGNATURE = "ybnqiuxtdsogva(sv)as(y(t)ay)aax"
VALUES = (
    *(7, True, -2, 3, -4, 5, -6, 7, 1.5, "text", "/a/b", "as", ("u", 9)),
    *([("A", ("s", "b")), ("C", ("t", 1))], ["x", ""], (1, (2,), b"xyz"), [[1], [], [2, 3]]),
)


def test_messages_say_what_was_put_in():
    data = message.call(1, "a.b", "/c", "d.e.F", SIGNATURE, VALUES)
    assert message.length(data[:16]) == len(data)
    found = message.parse(data)
    assert (found.kind, found.name) == (message.CALL, "F")
    # A variant is its value alone, and an array a list.
    expected = list(VALUES)
    expected[12] = 9
    expected[13] = [("A", "b"), ("C", 1)]
    expected[15] = (1, (2,), list(b"xyz"))
    assert found.values() == expected


@given(some.data())
def test_broken_messages_are_called_so(data):
    whole = bytearray(message.call(1, "a.b", "/c", "d.e.F", SIGNATURE, VALUES))
    for _ in range(data.draw(some.integers(1, 4))):
        whole[data.draw(some.integers(0, len(whole) - 1))] = data.draw(some.integers(0, 255))
    broken = bytes(whole[: data.draw(some.integers(16, len(whole)))])
    try:
        message.length(broken[:16])
        message.parse(broken).values()
    except message.Malformed:
        pass


def reply(serial: int, body: bytes, signature: str, *, order: str = "<", error: str = "") -> bytes:
    """An answer to message `serial`, made without the code that reads it."""
    word = "I"
    fields = struct.pack(f"{order}B3sI", 5, b"\x01u\0", serial).ljust(8, b"\0")
    sign = signature.encode()
    fields += struct.pack(f"{order}B3sB", 8, b"\x01g\0", len(sign)) + sign + b"\0"
    if error:
        fields = fields.ljust(-(-len(fields) // 8) * 8, b"\0")
        fields += (
            struct.pack(f"{order}B3s{word}", 4, b"\x01s\0", len(error)) + error.encode() + b"\0"
        )
    letter = b"l" if order == "<" else b"B"
    kind = message.ERROR if error else message.REPLY
    head = struct.pack(f"{order}cBBBIII", letter, kind, 0, 1, len(body), 1, len(fields))
    return (head + fields).ljust(16 + -(-len(fields) // 8) * 8, b"\0") + body


def text(value: str, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", len(value)) + value.encode() + b"\0"


def removed(job: str, result: str) -> bytes:
    """The signal that a job has ended."""
    fields = struct.pack("<B3sI", 3, b"\x01s\0", 10) + b"JobRemoved\0"
    fields = fields.ljust(24, b"\0") + struct.pack("<B3sB", 8, b"\x01g\0", 4) + b"uoss\0"
    body = struct.pack("<I", 1) + text(job)
    for value in ("x.scope", result):
        body = body.ljust(-(-len(body) // 4) * 4, b"\0") + text(value)
    head = struct.pack("<cBBBIII", b"l", message.SIGNAL, 0, 1, len(body), 1, len(fields))
    return (head + fields).ljust(16 + -(-len(fields) // 8) * 8, b"\0") + body


JOB = "/org/freedesktop/systemd1/job/1"
GREETING = [
    reply(1, text(":1.1"), "s"),  # Hello
    reply(2, b"\x01s\0".ljust(4, b"\0") + text("/base"), "v"),  # ControlGroup
    reply(3, b"", ""),  # AddMatch
]
Serve = Callable[[Sequence[bytes], bytes], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function: a bus that gives these answers, one a message, and then hangs up."""
    path = tmp_path / "bus"
    threads = []

    def start(answers: Sequence[bytes], welcome: bytes = b"DATA\r\nOK 1234\r\n") -> str:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=speak, args=(listening, answers, welcome))
        thread.start()
        threads.append(thread)
        return str(path)

    yield start
    for thread in threads:
        thread.join()


def speak(listening: socket.socket, answers: Sequence[bytes], welcome: bytes) -> None:
    with listening, listening.accept()[0] as peer:
        assert peer.recv(64).startswith(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        peer.sendall(welcome)
        for answer in answers:
            if not peer.recv(65536):
                return
            peer.sendall(answer)


def started(bus: Bus) -> None:
    manager.start(bus, "x.scope", [("PIDs", "au", [1])])


def test_a_unit_is_started(serve):
    # The job has ended before the call is answered; another one's end says nothing.
    news = removed("/other", "failed") + removed(JOB, "done")
    bus = connect(serve([*GREETING, news + reply(4, text(JOB), "o")]))
    assert bus.control_group == "/base"
    started(bus)
    bus.close()


def test_a_peer_of_the_other_byte_order(serve):
    hello = reply(1, text(":1.1", ">"), "s", order=">")
    group = reply(2, b"\x01s\0".ljust(4, b"\0") + text("/base", ">"), "v", order=">")
    bus = connect(serve([hello, group]))
    assert bus.control_group == "/base"
    bus.close()


DENIED = "org.freedesktop.DBus.Error.AccessDenied"
EXISTS = "org.freedesktop.systemd1.UnitExists"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([reply(4, text("No."), "s", error=DENIED)], r"systemd: start x\.scope: No\."),
        ([reply(4, text(JOB), "o") + removed(JOB, "failed"), b""], "job failed"),
        ([reply(4, text(JOB), "o")], "closed the connection"),
        ([b""], "closed the connection"),
        (
            [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
            "cannot be understood: no message begins with b'H'",
        ),
        ([reply(4, text(JOB)[:-4], "o")], "cannot be understood: body of type 'o'"),
        ([reply(4, b"", "(")], "cannot be understood"),
        ([reply(4, struct.pack("<IxxxxQ", 8, 1), "a()")], "cannot be understood"),
        (
            [
                reply(4, text("."), "s", error=EXISTS),
                reply(5, text("."), "s", error="x.NoSuchUnit"),
            ],
            r"systemd has a unit x\.scope already",
        ),
    ],
)
def test_odd_answers(serve, answers, message):
    bus = connect(serve([*GREETING, *answers]))
    with pytest.raises(RuntimeFailure, match=message):
        started(bus)
    bus.close()


def test_a_unit_that_failed_before_is_reset(serve):
    again = [reply(4, text("."), "s", error=EXISTS), reply(5, b"", "")]
    bus = connect(serve([*GREETING, *again, reply(6, text(JOB), "o") + removed(JOB, "done")]))
    started(bus)
    bus.close()


def test_a_unit_that_is_gone_is_stopped(serve):
    gone = reply(4, text("."), "s", error="org.freedesktop.systemd1.NoSuchUnit")
    bus = connect(serve([*GREETING, gone]))
    manager.stop(bus, "x.scope")
    bus.close()


@pytest.mark.parametrize(
    ("answers", "welcome", "message"),
    [
        ([], b"REJECTED EXTERNAL\r\n", "does not let us in: REJECTED EXTERNAL"),
        ([], b"DATA\r\nDATA\r\nDATA\r\n", "does not let us in: DATA"),
        ([], b"", "closed the connection"),
        ([GREETING[0], reply(2, text("no owner"), "s", error=DENIED)], b"OK 1\r\n", "no owner"),
    ],
)
def test_no_systemd(serve, answers, welcome, message):
    path = serve(answers, welcome)
    with pytest.raises(NoSystemd, match=f"no systemd to ask for a cgroup: {path}: .*{message}"):
        connect(path)


def test_a_bus_that_says_nothing(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "bus"))
        listening.listen()
        with pytest.raises(NoSystemd, match=r"has not answered for 0\.01 s"):
            Bus(str(tmp_path / "bus"), 0.01)


def test_nobody_listens(tmp_path):
    with pytest.raises(NoSystemd, match="no such file or directory") as caught:
        connect(str(tmp_path / "bus"))
    assert "cgroupfs" in (caught.value.hint or "")
