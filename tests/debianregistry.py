"""Debian's docker-registry as a process of a test: with or without TLS and a password."""

import json
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "tester", "s3cr3t-p4ss"
HTPASSWD = "tester:$2b$04$dinq3L3ZnnFhxXZpakwDaOROShkzQY9RB4/nBQpe6ZirKsaAk95ma\n"
START_S = 30
OPENSSL = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = pybuild test
[ca]
basicConstraints = critical,CA:TRUE
[server]
subjectAltName = IP:127.0.0.1,DNS:localhost
"""


@dataclass(frozen=True)
class Running:
    """A registry that runs. ca: the certificate that vouches for it, None without TLS."""

    host: str
    ca: Path | None = None

    @property
    def address(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.host}"

    def blobs(self, folder: Path) -> int:
        return sum(1 for _ in folder.rglob("data"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def make_certificates(folder: Path, openssl: str) -> None:
    """Make ca.crt, and server.crt with server.key that it vouches for."""

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    (folder / "openssl.cnf").write_text(OPENSSL)
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-config", "openssl.cnf")
    run(*new, "-x509", "-extensions", "ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
    run(*new, "-keyout", "server.key", "-out", "server.csr")
    sign = ("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key")
    extensions = ("-extfile", "openssl.cnf", "-extensions", "server")
    run(*sign, "-CAcreateserial", "-days", "2", *extensions, "-out", "server.crt")


class Registries:
    """Starts registries below a folder, and ends them all with `stop`."""

    def __init__(self, folder: Path, program: str, openssl: str) -> None:
        self.folder = folder
        self.program = program
        self.openssl = openssl
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, tls: bool = False, password: bool = False) -> Running:
        """Run one and say where; tls: it has a certificate; password: it asks for one."""
        folder = self.folder / f"registry{len(self._processes)}"
        folder.mkdir()
        host = f"127.0.0.1:{free_port()}"
        http: dict[str, object] = {"addr": host, "secret": "x"}
        if tls:
            make_certificates(folder, self.openssl)
            http["tls"] = {
                "certificate": str(folder / "server.crt"),
                "key": str(folder / "server.key"),
            }
        storage = {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        }
        config = {"version": 0.1, "storage": storage, "http": http, "log": {"level": "error"}}
        if password:
            (folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        with open(folder / "log", "wb") as log:
            command = [self.program, "serve", str(folder / "config.yml")]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        wait_until_listening(host, self._processes[-1], folder / "log")
        return Running(host, folder / "ca.crt" if tls else None)

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
            process.wait()


def wait_until_listening(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    name, _, port = host.partition(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((name, int(port)), 1):
            return
        time.sleep(0.02)
    pytest.fail(f"docker-registry does not start: {log.read_text()}")
