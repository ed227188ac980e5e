"""A registry of our own that speaks the protocol, and breaks it where a real one might."""

import base64
import gzip
import hashlib
import io
import json
import re
import socket
import struct
import tarfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

_PLACE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs|manifests|tags)/(?P<rest>.*)\Z")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# --- images


def layer_tar(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a tar of files by name; a TarInfo stands for itself."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@dataclass
class FakeImage:
    """An image as it lies at a registry: its manifest's bytes and its blobs."""

    tars: list[bytes]
    compress: Callable[[bytes], bytes] = lambda data: gzip.compress(data, mtime=0)
    layer_type: str = OCI_LAYER_GZIP
    manifest_type: str = OCI_MANIFEST
    config_type: str = OCI_CONFIG
    architecture: str = "amd64"
    variant: str = ""
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = [self.compress(tar) for tar in self.tars]
        config = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in self.tars]},
        }
        if self.variant:
            config["variant"] = self.variant
        self.config = json.dumps(config).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": self.manifest_type,
            "config": self.descriptor(self.config, self.config_type),
            "layers": [self.descriptor(layer, self.layer_type) for layer in self.layers],
        }
        # Odd white space: who writes the document anew gives it another digest.
        self.manifest = json.dumps(document | self.changes, indent=3).encode()

    @staticmethod
    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    @property
    def platform(self) -> dict[str, str]:
        found = {"os": "linux", "architecture": self.architecture}
        return found | ({"variant": self.variant} if self.variant else {})


def index_of(*images: FakeImage, more: tuple[dict[str, Any], ...] = ()) -> bytes:
    """Return an index of images by their platforms."""
    entries = [
        FakeImage.descriptor(image.manifest, image.manifest_type) | {"platform": image.platform}
        for image in images
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*entries, *more]}
    return json.dumps(document, indent=2).encode()


# --- the registry

Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "FakeRegistry"

    def handle_any(self) -> None:
        registry = self.server
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        question = f"{path}?{query.partition('=')[0]}"
        length = int(self.headers.get("Content-Length") or 0)
        with registry.lock:
            registry.seen.append((self.command, self.path, dict(self.headers.items())))
            keys = (self.command, question), (self.command, path), path
            faults = next((found for key in keys if (found := registry.faults.get(key))), [])
            fault = faults.pop(0) if faults else None
            if registry.answers is not None:
                fault = fault if registry.answers > 0 else registry.afterwards
                registry.answers -= 1
        if fault is not None:
            fault(self)
            return
        body = self.rfile.read(length)
        if path == "/token":
            self.token(body)
        elif not self.is_allowed():
            self.challenge()
        elif path == "/v2/":
            self.answer(200, b"{}")
        elif (place := _PLACE.match(path)) is None:
            self.refuse(404, "UNSUPPORTED", "no such path")
        else:
            getattr(self, place["kind"])(place["name"], place["rest"], body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

    # -- answers

    def answer(self, status: int, body: bytes = b"", **headers: Any) -> None:
        """Send an answer; a header of None is left out, `_` in its name reads `-`."""
        given = {"Content_Length": len(body), **headers}
        if self.close_connection:
            given["Connection"] = "close"  # else the client may ask again on what is closed
        self.send_response(status)
        for name, value in given.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str, **headers: Any) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, body, Content_Type="application/json", **headers)

    def reset(self) -> None:
        """End the connection at once, as a machine that was switched off."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    # -- who may

    def is_allowed(self) -> bool:
        registry = self.server
        given = self.headers.get("Authorization", "")
        if registry.basic is not None:
            pair = base64.b64encode(":".join(registry.basic).encode()).decode()
            return given == f"Basic {pair}"
        if registry.realm is not None:
            return given.removeprefix("Bearer ") in registry.tokens
        return True

    def challenge(self) -> None:
        registry = self.server
        if registry.basic is not None:
            asked = 'Basic realm="fake"'
        else:
            place = _PLACE.match(self.path.partition("?")[0])
            asked = f'Bearer realm="{registry.realm}",service="fake"'
            if place is not None:
                actions = "pull" if self.command in ("GET", "HEAD") else "pull,push"
                asked += f',scope="repository:{place["name"]}:{actions}"'
        self.refuse(401, "UNAUTHORIZED", "Authentication required", WWW_Authenticate=asked)

    def token(self, body: bytes) -> None:
        registry = self.server
        query = urllib.parse.parse_qs(self.path.partition("?")[2] or body.decode())
        registry.token_queries.append(query)
        given = self.headers.get("Authorization")
        refresh = query.get("refresh_token", [None])[0]
        if registry.account is not None:
            pair = base64.b64encode(":".join(registry.account).encode()).decode()
            if given != f"Basic {pair}" and refresh != registry.identity_token:
                self.refuse(401, "UNAUTHORIZED", "no")
                return
        token = f"token-{len(registry.token_queries)}"
        registry.tokens.add(token)
        value = {"token": token, "expires_in": registry.token_life_s}
        if "offline_token" in query and registry.identity_token:
            value["refresh_token"] = registry.identity_token
        self.answer(200, json.dumps(value).encode())

    # -- the protocol

    def blobs(self, name: str, rest: str, body: bytes) -> None:
        if rest.startswith("uploads/"):
            self.uploads(name, rest.removeprefix("uploads/"), body)
            return
        data = self.server.blobs.get((name, rest))
        if data is None:
            self.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        span = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and int(span[1]) < len(data):
            start = int(span[1])
            range_ = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], Content_Range=range_)
        else:
            self.answer(200, data, Docker_Content_Digest=rest)

    def uploads(self, name: str, rest: str, body: bytes) -> None:
        registry = self.server
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        if self.command == "POST":
            source = (query.get("from", [""])[0], query.get("mount", [""])[0])
            if source in registry.blobs:
                registry.blobs[name, source[1]] = registry.blobs[source]
                self.answer(201, Location=f"/v2/{name}/blobs/{source[1]}")
                return
            number = str(len(registry.uploads))
            registry.uploads[number] = b""
            self.answer(202, Location=f"/v2/{name}/blobs/uploads/{number}?state=x")
        elif rest not in registry.uploads:
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        elif self.command == "GET":
            end = max(0, len(registry.uploads[rest]) - 1)
            self.answer(204, Location=self.path, Range=f"0-{end}", Content_Length=None)
        elif self.command == "PATCH":
            registry.uploads[rest] += body
            self.answer(202, Location=self.path)
        else:
            data, digest = registry.uploads.pop(rest) + body, query["digest"][0]
            if digest_of(data) != digest:
                self.refuse(400, "DIGEST_INVALID", "provided digest did not match")
                return
            registry.blobs[name, digest] = data
            self.answer(201, Location=f"/v2/{name}/blobs/{digest}")

    def manifests(self, name: str, rest: str, body: bytes) -> None:
        registry = self.server
        if self.command == "PUT":
            digest = digest_of(body)
            media_type = self.headers["Content-Type"]
            for blob in registry.blobs_named_by(body):
                if (name, blob) not in registry.blobs:
                    self.refuse(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown")
                    return
            registry.documents[name, digest] = (media_type, body)
            registry.tags[name, rest] = digest
            self.answer(201, Docker_Content_Digest=digest)
            return
        digest = registry.tags.get((name, rest), rest)
        if (name, digest) not in registry.documents:
            self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        media_type, data = registry.documents[name, digest]
        self.answer(200, data, Content_Type=media_type, Docker_Content_Digest=digest)

    def tags(self, name: str, rest: str, body: bytes) -> None:
        registry = self.server
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        names = sorted(tag for here, tag in registry.tags if here == name)
        after = query.get("last", [""])[0]
        page = [tag for tag in names if tag > after][: registry.page]
        more = bool(page) and page[-1] != names[-1]
        link = f'</v2/{name}/tags/list?n=1&last={page[-1]}>; rel="next"' if more else None
        self.answer(200, json.dumps({"name": name, "tags": page}).encode(), Link=link)


class FakeRegistry(ThreadingHTTPServer):
    """A registry in memory; it remembers what it was asked.

    faults: by path, or (method, path): what happens instead of an answer, in turn. answers: how
    many requests are answered yet, None for all; afterwards: what happens to the others.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.host = f"127.0.0.1:{self.server_port}"
        self.address = f"http://{self.host}"
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.documents: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: dict[Any, list[Fault | None]] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.basic: tuple[str, str] | None = None
        self.realm: str | None = None
        self.account: tuple[str, str] | None = None
        self.identity_token = ""
        self.tokens: set[str] = set()
        self.token_life_s = 300
        self.token_queries: list[dict[str, list[str]]] = []
        self.answers: int | None = None
        self.afterwards: Fault = status(403)
        self.page = 1000
        self.connections = 0

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_: Any) -> None:
        pass  # a client that goes away is part of the tests

    def add(self, name: str, tag: str, image: FakeImage) -> str:
        """Put an image there and return its manifest's digest."""
        for blob in (image.config, *image.layers):
            self.blobs[name, digest_of(blob)] = blob
        return self.add_document(name, tag, image.manifest, image.manifest_type)

    def add_document(self, name: str, tag: str, data: bytes, media_type: str) -> str:
        digest = digest_of(data)
        self.documents[name, digest] = (media_type, data)
        self.tags[name, tag] = digest
        return digest

    def break_(self, path: str, *faults: Fault | None, method: str | None = None) -> None:
        """With a method, `path?name` means the requests whose query begins with that name."""
        self.faults[(method, path) if method else path] = list(faults)

    def asked(self, method: str, part: str = "") -> list[str]:
        """Return the paths that were asked with `method` and hold `part`."""
        return [path for verb, path, _ in self.seen if verb == method and part in path]

    def blobs_named_by(self, manifest: bytes) -> Iterator[str]:
        value = json.loads(manifest)
        for entry in [value.get("config"), *value.get("layers", [])]:
            if entry:
                yield entry["digest"]


def serve() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        thread = threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield registry
        registry.shutdown()
        thread.join()


# --- faults


def status(code: int, **headers: Any) -> Fault:
    """Answer with an error."""

    def fault(page: Handler) -> None:
        page.rfile.read(int(page.headers.get("Content-Length") or 0))
        page.close_connection = True
        page.refuse(code, "", "", **headers)

    return fault


def resets(page: Handler) -> None:
    """End the connection without an answer."""
    page.reset()


def short(data: bytes, count: int) -> Fault:
    """Announce all of `data` and end the connection after `count` bytes."""

    def fault(page: Handler) -> None:
        page.answer(200, data[:count], Content_Length=len(data))
        page.close_connection = True

    return fault


def reset_after(data: bytes, count: int) -> Fault:
    """Announce all of `data` and reset the connection after `count` bytes."""

    def fault(page: Handler) -> None:
        page.answer(200, data[:count], Content_Length=len(data))
        page.reset()

    return fault


def sends(data: bytes, code: int = 200, **headers: Any) -> Fault:
    """Answer with `data` whatever was asked."""

    def fault(page: Handler) -> None:
        page.close_connection = True
        page.answer(code, data, **headers)

    return fault


def redirects(url: str) -> Fault:
    return sends(b"", 307, Location=url)
