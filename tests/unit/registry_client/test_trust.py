"""Certificates: the system's, those named, those in certs.d; and who needs none."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry_client.client import Access, Call, Client
from registry_client.errors import TrustError, Untrusted
from registry_client.transport import Patience
from registry_client.trust import Trust, host_of, is_link_local, is_local

CONFIG = """\
[req]
distinguished_name = name
x509_extensions = ext
prompt = no
[name]
CN = localhost
[ext]
subjectAltName = DNS:localhost,IP:127.0.0.1
basicConstraints = critical,CA:TRUE
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, tool) -> Path:
    """Return a PEM file with a key and a certificate that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "openssl.cnf").write_text(CONFIG)
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-config", "openssl.cnf", "-keyout", "key.pem", "-out", "ca.crt"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    pem = (folder / "key.pem").read_text() + (folder / "ca.crt").read_text()
    (folder / "both.pem").write_text(pem)
    return folder / "both.pem"


@pytest.fixture
def tls_host(certificate: Path) -> Iterator[str]:
    """Serve a registry that only knows its ping, as Go's TLS servers do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    answer(connection)

        def answer(connection: socket.socket) -> None:
            if connection.recv(1, socket.MSG_PEEK) != b"\x16":
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nsent an HTTP request\n")
                return
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def ask(host: str, trust: Trust) -> str:
    """Ask the registry and return where it was reached."""
    access = Access(trust, Patience(5.0, 1, 0.001), lambda *_: None)
    with Client(host, access) as client:
        client.ask(Call("GET", "/v2/", "ask", ())).close()
        return client.base("ask")


def test_a_certificate_that_nobody_vouches_for(tls_host: str) -> None:
    with pytest.raises(Untrusted, match=r"certificate not trusted: self.signed") as caught:
        ask(tls_host, Trust())
    assert "--ca" in str(caught.value.hint)
    assert f"certs.d/{tls_host}" in str(caught.value.hint)


def test_a_named_file(tls_host: str, certificate: Path) -> None:
    ca = str(certificate.with_name("ca.crt"))
    assert ask(tls_host, Trust(ca_files=(ca,))) == f"https://{tls_host}"


def test_a_folder_for_the_host(tls_host: str, certificate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "certs.d" / tls_host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(certificate.with_name("ca.crt").read_bytes())
    trust = Trust(certificate_folders=(str(tmp_path / "certs.d"),))
    assert ask(tls_host, trust) == f"https://{tls_host}"
    folder.rename(folder.with_name("other.org"))
    with pytest.raises(Untrusted):
        ask(tls_host, trust)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment(
    name: str, tls_host: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificate.with_name("ca.crt")))
    assert ask(tls_host, Trust()) == f"https://{tls_host}"


def test_nothing_is_verified(tls_host: str) -> None:
    assert ask(tls_host, Trust(verify=False)) == f"https://{tls_host}"
    assert ask(tls_host, Trust(insecure=(tls_host,))) == f"https://{tls_host}"


def test_files_that_cannot_be_read(tls_host: str, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"nowhere\.pem: no such file"):
        ask(tls_host, Trust(ca_files=(str(tmp_path / "nowhere.pem"),)))
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(TrustError, match=r"broken\.pem"):
        ask(tls_host, Trust(ca_files=(str(broken),)))


def test_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBUILD_INSECURE_REGISTRIES", "one.org, two.org:5000 10.0.0.0/8")
    trust = Trust.from_environment(ca_files=("x",))
    assert trust.insecure == ("one.org", "two.org:5000", "10.0.0.0/8")
    assert "/etc/docker/certs.d" in trust.certificate_folders
    assert trust.is_insecure("one.org:443")
    assert trust.is_insecure("two.org:5000")
    assert not trust.is_insecure("two.org")
    assert trust.is_insecure("10.9.9.9:5000")
    assert not trust.is_insecure("11.9.9.9:5000")


def test_hosts() -> None:
    assert host_of("a.org:1") == host_of("a.org") == "a.org"
    assert host_of("[::1]:5000") == "::1"
    assert is_local("localhost:1")
    assert is_local("127.8.8.8")
    assert is_local("[::1]")
    assert not is_local("localhost.org")
    assert is_link_local("169.254.169.254:80")
    assert not is_link_local("169.253.1.1")
