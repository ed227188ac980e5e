"""Lint rules around real builds, and base images that a check asks a registry about."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry(ThreadingHTTPServer):
    """Serves one image, base:1, whose layer must never be asked for."""

    def __init__(self, architecture: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["JAVA_HOME=/java"], "Shell": ["/bin/bash", "-c"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(b"layer")]},
        }
        blob = json.dumps(config).encode()
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 5}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(blob),
                "size": len(blob),
            },
            "layers": [{**layer, "digest": digest(b"layer")}],
        }
        self.documents = {
            "/v2/": b"{}",
            f"/v2/base/blobs/{digest(blob)}": blob,
            "/v2/base/manifests/1": json.dumps(manifest).encode(),
        }
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data = self.server.documents.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        if "manifests" in self.path:
            self.send_header("Content-Type", MANIFEST)
        self.end_headers()
        self.wfile.write(data or b"")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["amd64"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    with Registry(request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check_on(pybuild, context: Path, registry: Registry, text: str):
    name = f"127.0.0.1:{registry.server_port}/base:1"
    (context / "Dockerfile").write_text(text.replace("BASE", name))
    return pybuild("build", "--check", context, check=False)


def test_a_base_image_is_known_by_its_config(pybuild, context: Path, registry: Registry) -> None:
    text = "FROM BASE\nENV PATH=$JAVA_HOME/bin:$PATH X=$ABSENT\nCMD run\n"
    done = check_on(pybuild, context, registry, text)
    assert "1 warning has been found" in done.stdout
    assert "undefined variable '$ABSENT'" in done.stdout
    assert (done.returncode, done.stderr) == (1, "")
    assert not [path for path in registry.asked if digest(b"layer") in path]


@pytest.mark.parametrize("registry", ["s390x"], indirect=True)
def test_a_base_image_of_another_platform(pybuild, context: Path, registry: Registry) -> None:
    done = check_on(pybuild, context, registry, "FROM BASE\n")
    assert 'was pulled with platform "linux/s390x", expected "linux/' in done.stdout


def test_a_base_image_that_is_not_there(pybuild, context: Path, registry: Registry) -> None:
    done = check_on(pybuild, context, registry, "FROM BASE0\nENV a b\n")
    assert done.returncode == 1
    assert f"error: Dockerfile:1: 127.0.0.1:{registry.server_port}/base:10" in done.stderr


@pytest.mark.parametrize("question", ["--check", "--call=outline", "--call=targets"])
def test_a_question_makes_no_store(pybuild, context: Path, store_root: Path, question: str) -> None:
    (context / "Dockerfile").write_text("FROM scratch AS one\nARG A=1\nCOPY Dockerfile /\n")
    assert pybuild("build", question, context).stdout
    assert not store_root.exists()


@pytest.mark.kernel
def test_a_build_warns_at_its_end(pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nENV A b\nCOPY $absent/Dockerfile /\n")
    for _ in range(2):  # the second one comes from the cache
        done = pybuild("build", context)
        assert done.stderr.endswith(
            "2 warnings found:\n"
            ' - LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key '
            'value" format (line 2)\n'
            " - UndefinedVar: Usage of undefined variable '$absent' (line 3)\n"
        )


@pytest.mark.kernel
def test_an_error_comes_before_anything_runs(pybuild, busybox_image: str, context: Path) -> None:
    text = f"# check=error=true\nFROM {busybox_image}\nRUN touch /ran\nCMD x\n"
    (context / "Dockerfile").write_text(text)
    done = pybuild("build", context, check=False)
    assert done.returncode == 1
    assert "RUN touch /ran" not in done.stderr
    assert "JSONArgsRecommended: JSON arguments recommended for CMD" in done.stderr
    assert "error: lint violation found for rules: JSONArgsRecommended\n" in done.stderr
    skipping = "BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended;error=true"
    assert "warning" not in pybuild("build", "--build-arg", skipping, context).stderr


@pytest.mark.kernel
def test_an_unknown_owner_is_found_while_building(
    pybuild, busybox_image: str, context: Path
) -> None:
    text = f"FROM {busybox_image}\nCOPY --chown=nobody-here Dockerfile /\n"
    (context / "Dockerfile").write_text(text)
    assert pybuild("build", "--check", context).stdout == "Check complete, no warnings found.\n"
    assert 'CopyUnknownOwner: Owner "nobody-here" of' in pybuild("build", context).stderr
    skipping = text.replace("COPY", "# check=skip=CopyUnknownOwner\nCOPY")
    (context / "Dockerfile").write_text(skipping)
    assert "warning" not in pybuild("build", "--no-cache", context).stderr
