"""The socket that a step gets: what it passes on to the agent behind it, and what not."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.request import SshSource
from builder.sshagent import AgentSocket, SshAgents


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Return the path of an agent that answers `re:` and the request; and what it was asked."""
    path = str(tmp_path / "agent")
    asked: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve(connection: socket.socket) -> None:
        with connection:
            while head := connection.recv(4, socket.MSG_WAITALL):
                request = connection.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
                asked.append(request)
                connection.sendall(frame(b"re:" + request))

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            if asked == [b"stop"]:
                connection.close()
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield path, asked
    asked[:] = [b"stop"]
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(path)
    thread.join()
    server.close()


def ask(path: str, *messages: bytes) -> list[bytes]:
    answers = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        for message in messages:
            client.sendall(message)
            head = client.recv(4, socket.MSG_WAITALL)
            if not head:
                break
            answers.append(client.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))
    return answers


def test_listing_and_signing_are_passed_on_and_nothing_else(
    agent: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    upstream, asked = agent
    path = str(tmp_path / "ours")
    owner = (0o640, os.getuid(), os.getgid())
    with AgentSocket(path, upstream, owner):
        assert os.stat(path).st_mode & 0o777 == 0o640
        kinds = range(256)
        answers = ask(path, *(frame(bytes([kind]) + b"x") for kind in kinds))
        allowed = {kind for kind, answer in zip(kinds, answers, strict=True) if answer != b"\x05"}
        assert allowed == {11, 13}
        assert asked == [b"\x0bx", b"\x0dx"]
    assert not os.path.exists(path)


def test_nonsense_ends_the_connection_only(agent: tuple[str, list[bytes]], tmp_path: Path) -> None:
    upstream, _ = agent
    path = str(tmp_path / "ours")
    with AgentSocket(path, upstream, (0o600, os.getuid(), os.getgid())):
        assert ask(path, b"\xff\xff\xff\xff") == []
        assert ask(path, b"\0\0\0\0") == []
        assert ask(path, frame(b"\x0b")) == [b"re:\x0b"]


def test_a_client_that_stays_does_not_hold_the_end_up(
    agent: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    path = str(tmp_path / "ours")
    with socket.socket(socket.AF_UNIX) as client:
        with AgentSocket(path, agent[0], (0o600, os.getuid(), os.getgid())):
            client.connect(path)
            client.sendall(b"\0\0")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_long_folder_name_is_no_matter(agent: tuple[str, list[bytes]], tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    with AgentSocket(f"{folder}/s", agent[0], (0o600, os.getuid(), os.getgid())):
        assert (folder / "s").is_socket()


def test_sources(agent: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = agent
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(BuildError, match="ssh agent default: no socket and no key"):
        SshAgents((SshSource("default"),)).check()
    with pytest.raises(BuildError, match="ssh agent a: /none: no such file"):
        SshAgents((SshSource("a", ("/none",)),)).check()
    with pytest.raises(BuildError, match="a socket stands alone"):
        SshAgents((SshSource("a", (path, "/etc/passwd")),)).check()
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    agents = SshAgents((SshSource("default"), SshSource("other", (path,))))
    agents.check()
    assert agents.socket_path("default") == agents.socket_path("other") == path
    assert agents.socket_path("none") is None


def test_a_key_that_is_none_says_so(tool, tmp_path: Path) -> None:
    tool("ssh-agent")
    key = tmp_path / "key"
    key.write_text("no key\n")
    key.chmod(0o600)
    agents = SshAgents((SshSource("a", (str(key),)),))
    with pytest.raises(BuildError, match=f"ssh agent a: {key}: "):
        agents.socket_path("a")
    agents.close()
