"""Which servers are believed: certificates, and who may be spoken to without TLS.

Certificates come from the system (SSL_CERT_FILE, SSL_CERT_DIR hold), or from the one file that
REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names; with them count the files named by the caller and, for a
registry, those of the folders `certs.d/<host[:port]>` that docker and podman use.
"""

import contextlib
import glob
import ipaddress
import os
import ssl
import warnings
from collections.abc import Iterator

import requests.utils

from registry_client.errors import TrustError
from values.classes import dataclass

INSECURE_VARIABLE = "PYBUILD_INSECURE_REGISTRIES"
_SYSTEM_FOLDERS = ("/etc/docker/certs.d", "/etc/containers/certs.d")
_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Trust:
    """What the caller decides about certificates.

    verify: False takes any certificate and, where a server speaks no TLS, plain HTTP.
    ca_files: PEM files trusted besides the system's. insecure: hosts, host:port pairs or networks
    (10.0.0.0/8) for which `verify` is False. certificate_folders: parents of `<host[:port]>`
    folders.
    """

    verify: bool = True
    ca_files: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificate_folders: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, *, verify: bool = True, ca_files: tuple[str, ...] = ()) -> "Trust":
        """Return what the environment and the usual folders say, and the caller on top."""
        named = os.environ.get(INSECURE_VARIABLE, "").replace(",", " ").split()
        own = os.path.join(
            os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers"
        )
        folders = (*_SYSTEM_FOLDERS, os.path.join(own, "certs.d"))
        return cls(verify, ca_files, tuple(named), folders)

    def is_insecure(self, netloc: str) -> bool:
        """Tell whether the server at `netloc` (host[:port]) need not prove who it is."""
        host = host_of(netloc)
        return not self.verify or any(
            name in (netloc, host) or _is_in_network(host, name) for name in self.insecure
        )

    def context(self, netloc: str) -> ssl.SSLContext:
        """Return the TLS context for a server. Raises TrustError for files that cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.is_insecure(netloc):
            # urllib3 warns on stderr at each connection; whoever named the server knows.
            warnings.filterwarnings("ignore", message="Unverified HTTPS request")
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            _load_system(context)
        for path in (*self.ca_files, *self._files(netloc, ("*.crt",))):
            with _reading(path):
                context.load_verify_locations(path)
        for certificate in self._files(netloc, ("*.cert",)):
            with _reading(certificate):
                context.load_cert_chain(certificate, f"{certificate.removesuffix('.cert')}.key")
        return context

    def _files(self, netloc: str, patterns: tuple[str, ...]) -> Iterator[str]:
        for folder in self.certificate_folders:
            for pattern in patterns:
                yield from sorted(
                    glob.glob(os.path.join(glob.escape(f"{folder}/{netloc}"), pattern))
                )


def host_of(netloc: str) -> str:
    """Return the host of `host:port` or `[address]:port`, without brackets."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]


def is_local(netloc: str) -> bool:
    """Tell whether `netloc` is this machine: localhost, 127.0.0.0/8, ::1."""
    host = host_of(netloc)
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_link_local(netloc: str) -> bool:
    """Tell whether `netloc` is an address that clouds keep their machines' secrets at."""
    address = _address(host_of(netloc))
    return address is not None and address.is_link_local


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_in_network(host: str, network: str) -> bool:
    address = _address(host)
    if address is None or "/" not in network:
        return False
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _load_system(context: ssl.SSLContext) -> None:
    for name in _BUNDLE_VARIABLES:
        path = os.environ.get(name)
        if path:
            with _reading(path):
                is_folder = os.path.isdir(path)
                context.load_verify_locations(*((None, path) if is_folder else (path,)))
            return
    context.load_default_certs()
    if not _system_has_any(context):
        context.load_verify_locations(requests.utils.DEFAULT_CA_BUNDLE_PATH)


def _system_has_any(context: ssl.SSLContext) -> bool:
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return True
    if context.cert_store_stats()["x509_ca"]:
        return True
    # Those of a folder are read one by one when they are needed.
    folder: str | None = ssl.get_default_verify_paths().capath
    return bool(folder and os.listdir(folder))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise TrustError(f"read certificates {path}: {cause.lower()}") from error
