"""Sockets that a caller names: systemd's for notifications, one that takes a pidfd."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

SERVICE = """
import os, socket, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, os.environ["NOTIFY_SOCKET"])
say(b"STATUS=beginning")
open("/tmp/begun", "w").close()
while not os.path.exists("/tmp/go"):
    time.sleep(0.01)
say(b"STATUS=ready\\nREADY=1")
time.sleep(1000)
"""


@pytest.fixture
def host(tmp_path: Path):
    """Return the socket of who waits for notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "host.sock"))
        sock.settimeout(30)
        yield sock


@pytest.fixture
def service(bundle, show_python) -> Path:
    folder = bundle("true")
    spec = json.loads((folder / "config.json").read_text())
    spec["process"]["args"] = [show_python(spec), "-I", "-S", "-c", SERVICE]
    (folder / "config.json").write_text(json.dumps(spec))
    return folder


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("words", [["start", "a"], ["run", "--detach"], ["run"]])
def test_readiness_is_passed_on(oci, service, rootfs, host, tmp_path, words):
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "host.sock")}
    more = [] if words[0] == "start" else ["-b", str(service), "a"]
    if words[0] == "start":
        oci("create", "-b", service, "a", env=environment)
    with subprocess.Popen(
        oci.command(*words, *more), env=environment, stdin=subprocess.DEVNULL
    ) as verb:
        wait_for(rootfs / "tmp/begun")
        # What it said until now concerns nobody, and who asked to be told is still waiting.
        assert verb.poll() is None
        (rootfs / "tmp/go").touch()
        said = host.recv(4096)
        assert said == b"READY=1\nMAINPID=%d\n" % oci.state("a")["pid"]
        oci("kill", "a", "KILL")
        assert verb.wait(30) == (137 if words == ["run"] else 0)
    if words != ["run"]:
        oci("delete", "--force", "a")


def test_a_service_that_ends_before_it_is_ready(oci, bundle, host, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "host.sock")}
    oci("create", "-b", bundle("test -S $NOTIFY_SOCKET"), "a", env=environment)
    oci("start", "a", env=environment)
    host.setblocking(False)
    with pytest.raises(BlockingIOError):
        host.recv(4096)
    oci("delete", "a")


def test_without_it_there_is_no_such_socket(oci, bundle):
    done = oci("run", "-b", bundle("echo ${NOTIFY_SOCKET-none}; ls /run"), "a", check=False)
    assert done.stdout == "none\n"


def test_a_pidfd_is_sent(oci, bundle, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "pidfd"))
        server.listen()
        for kind, words in (
            (b"standard", ["create", "-b", bundle("sleep 1000")]),
            (b"setns", ["exec", "--detach"]),
        ):
            command = ["sleep", "1000"] if words[0] == "exec" else []
            oci(*words, "--pidfd-socket", tmp_path / "pidfd", "a", *command)
            with server.accept()[0] as connection:
                said, fds, _, _ = socket.recv_fds(connection, 64, 4)
            assert said == kind
            (line,) = [
                text
                for text in Path(f"/proc/self/fdinfo/{fds[0]}").read_text().splitlines()
                if text.startswith("Pid:")
            ]
            names = Path(f"/proc/{int(line.split()[1])}/root/bin")
            assert (names / "busybox").exists()
            os.close(fds[0])
            if words[0] == "create":
                oci("start", "a")
    oci("delete", "--force", "a")
    done = oci("create", "-b", bundle("true"), "--pidfd-socket", "/nowhere", "b", check=False)
    assert "--pidfd-socket: connect /nowhere: " in done.stderr
