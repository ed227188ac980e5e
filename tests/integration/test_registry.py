"""Debian's docker-registry between us and other tools: what we push they run, and back."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from debianregistry import PASSWORD, USER, Running, free_port

pytestmark = pytest.mark.kernel

PEAK_OF_CHILD = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture
def registry(start_registry) -> Running:
    return start_registry()


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the user's credentials and proxies out; return docker's folder."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path / "home/.docker"


@pytest.fixture
def skopeo(peers) -> Callable[..., str]:
    return peers("skopeo")


def built(pybuild, context: Path, base: str, name: str, text: str = "hello") -> None:
    """Build an image of two layers on `base`, with a deletion in the upper one."""
    (context / "Dockerfile").write_text(
        f"FROM {base}\nRUN echo {text} > /greeting && mkdir /d && touch /d/gone\n"
        'RUN rm /d/gone && echo second > /d/there\nCMD ["cat", "/greeting"]\n'
    )
    pybuild("-t", name, context)


def check_clean(pybuild) -> None:
    found = pybuild("system", "check", "--deep", check=False)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout


def raw(skopeo, reference: str) -> bytes:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}").encode()


# --- what we push, they take


def test_others_take_and_run_what_we_push(
    pybuild, busybox_image, context, registry, skopeo, peers
) -> None:
    name = f"{registry.host}/team/app:1"
    built(pybuild, context, busybox_image, name)
    pushed = pybuild("push", name).stdout
    digest = f"sha256:{hashlib.sha256(raw(skopeo, name)).hexdigest()}"
    assert f"1: digest: {digest} size: " in pushed
    assert f"The push refers to repository [{registry.host}/team/app]" in pushed
    config = json.loads(skopeo("inspect", "--config", "--tls-verify=false", f"docker://{name}"))
    assert config["config"]["Cmd"] == ["cat", "/greeting"]
    podman = peers("podman")
    podman("pull", "--tls-verify=false", name)
    assert podman("run", "--rm", "--network", "none", name) == "hello\n"
    assert podman("run", "--rm", "--network", "none", name, "ls", "/d") == "there\n"


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_others_take_other_compressions(
    compression, pybuild, busybox_image, context, registry, peers
) -> None:
    name = f"{registry.host}/app:{compression}"
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo {compression} > /x\n")
    output = f"type=registry,name={name},compression={compression}"
    pybuild("build", "--output", output, context)
    podman = peers("podman")
    podman("pull", "--tls-verify=false", name)
    shown = podman("run", "--rm", "--network", "none", name, "cat", "/x")
    assert shown == f"{compression}\n"


def test_unpacked_by_umoci(
    pybuild, busybox_image, context, registry, skopeo, peers, tmp_path
) -> None:
    name = f"{registry.host}/app:1"
    built(pybuild, context, busybox_image, name)
    pybuild("push", "-q", name)
    layout = tmp_path / "layout"
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}:app")
    peers("umoci")("unpack", "--image", f"{layout}:app", tmp_path / "bundle")
    rootfs = tmp_path / "bundle/rootfs"
    assert (rootfs / "greeting").read_text() == "hello\n"
    assert [path.name for path in (rootfs / "d").iterdir()] == ["there"]


# --- what they push, we take


# Docker's manifests have no zstd.
@pytest.mark.parametrize(
    ("form", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")]
)
def test_we_run_what_skopeo_pushes(
    form, compression, pybuild, busybox_image, context, registry, skopeo, tmp_path
) -> None:
    local = "localhost/made:1"
    built(pybuild, context, busybox_image, local)
    archive = tmp_path / "archive.tar"
    pybuild("save", "-o", archive, local)
    name = f"{registry.host}/theirs:1"
    flags = ["--dest-tls-verify=false", "--format", form, "--dest-compress-format", compression]
    skopeo("copy", *flags, f"docker-archive:{archive}", f"docker://{name}")
    pybuild("rmi", "-f", local)
    before = raw(skopeo, name)
    out = pybuild("pull", name).stdout
    assert f"Status: Downloaded newer image for {name}\n{name}\n" in out
    assert pybuild("run", "--rm", name).stdout == "hello\n"
    assert pybuild("run", "--rm", name, "ls", "/d").stdout == "there\n"
    again = f"{registry.host}/ours:2"
    pybuild("tag", name, again)
    pybuild("push", again)
    assert raw(skopeo, again) == before
    check_clean(pybuild)


def test_we_run_what_podman_builds_and_pushes(
    pybuild, busybox_rootfs, context, registry, skopeo, peers
) -> None:
    podman = peers("podman")
    podman("import", "--quiet", str(busybox_rootfs), "localhost/base:1")
    (context / "Dockerfile").write_text(
        "FROM localhost/base:1\nCOPY file /dir/\nUSER app\nWORKDIR /home/app\nCMD id -un; pwd\n"
    )
    (context / "file").write_text("from podman\n")
    name = f"{registry.host}/theirs:1"
    podman("build", "--quiet", "--network", "host", "--tag", name, str(context))
    podman("push", "--quiet", "--tls-verify=false", name)
    assert pybuild("run", "--rm", name).stdout == "app\n/home/app\n"
    assert pybuild("run", "--rm", name, "cat", "/dir/file").stdout == "from podman\n"
    pybuild("tag", name, f"{registry.host}/ours:1")
    pybuild("push", f"{registry.host}/ours:1")
    assert raw(skopeo, f"{registry.host}/ours:1") == raw(skopeo, name)
    check_clean(pybuild)


def test_another_registry_gets_the_same_bytes(
    pybuild, busybox_image, context, registry, start_registry, skopeo
) -> None:
    one, other = f"{registry.host}/app:1", f"{start_registry().host}/app:1"
    built(pybuild, context, busybox_image, one)
    pybuild("push", one)
    pybuild("tag", one, other)
    pybuild("push", other)
    assert raw(skopeo, one) == raw(skopeo, other)


def put(registry: Running, path: str, data: bytes, media_type: str) -> None:
    request = urllib.request.Request(
        f"{registry.address}{path}", data, {"Content-Type": media_type}, method="PUT"
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def test_an_index_of_platforms(
    pybuild, busybox_image, busybox_rootfs, context, registry, skopeo
) -> None:
    repository = f"{registry.host}/multi"
    built(pybuild, context, busybox_image, f"{repository}:amd64")
    pybuild("push", f"{repository}:amd64")
    pybuild("import", "--platform", "linux/arm64", busybox_rootfs, f"{repository}:arm64")
    pybuild("push", f"{repository}:arm64")
    entries = []
    for architecture in ("arm64", "amd64"):
        data = raw(skopeo, f"{repository}:{architecture}")
        entry = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "size": len(data),
            "platform": {"os": "linux", "architecture": architecture},
        }
        entries.append(entry)
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}, indent=1)
    put(registry, "/v2/multi/manifests/1", index.encode(), kind)
    pybuild("rmi", "-f", *(f"{repository}:{a}" for a in ("amd64", "arm64")))

    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    other = {"amd64": "arm64", "arm64": "amd64"}[machine]
    name = f"{repository}:1"
    pybuild("pull", "--platform", f"linux/{other}", name)
    assert f'"Architecture": "{other}"' in pybuild("inspect", name).stdout
    pybuild("pull", name)
    assert f'"Architecture": "{machine}"' in pybuild("inspect", name).stdout
    missing = pybuild("pull", "--platform", "linux/s390x", name, check=False)
    assert missing.returncode == 1
    assert f"error: pull {name}: no image for platform linux/s390x\n" in missing.stderr
    # Both parts are at the registry: the index goes again as it is.
    pybuild("push", name)
    assert raw(skopeo, name) == index.encode()
    check_clean(pybuild)


# --- what is there is not moved again


def test_blobs_that_are_there(pybuild, busybox_image, context, registry) -> None:
    name, neighbour = f"{registry.host}/app:1", f"{registry.host}/neighbour:1"
    built(pybuild, context, busybox_image, name)
    assert pybuild("push", name).stdout.count(": Pushed\n") == 3
    assert pybuild("push", name).stdout.count(": Layer already exists\n") == 3
    pybuild("tag", name, neighbour)
    assert pybuild("push", neighbour).stdout.count(": Mounted from app\n") == 3
    assert "Status: Image is up to date for" in pybuild("pull", name).stdout
    assert pybuild("pull", "-q", name).stdout == f"{name}\n"
    assert pybuild("push", "-q", name).stdout == f"{name}\n"


def test_all_tags(pybuild, busybox_image, registry) -> None:
    repository = f"{registry.host}/app"
    for tag in ("1", "2", "latest"):
        pybuild("tag", busybox_image, f"{repository}:{tag}")
    pybuild("push", "--all-tags", repository)
    pybuild("rmi", *(f"{repository}:{tag}" for tag in ("1", "2", "latest")))
    pybuild("pull", "-a", repository)
    assert {f"{repository}:{tag}" for tag in ("1", "2", "latest")} <= pybuild.image_names()
    refused = pybuild("pull", "-a", f"{repository}:1", check=False)
    assert "tag can't be used with --all-tags" in refused.stderr


def test_digests(pybuild, busybox_image, registry) -> None:
    name = f"{registry.host}/app:1"
    pybuild("tag", busybox_image, name)
    digest = pybuild("push", name).stdout.partition("digest: ")[2].split()[0]
    pybuild("rmi", name)
    pinned = f"{registry.host}/app@{digest}"
    pybuild("pull", pinned)
    assert pybuild("run", "--rm", pinned, "echo", "ok").stdout == "ok\n"
    assert json.loads(pybuild("inspect", pinned).stdout)[0]["RepoDigests"] == [pinned]


# --- build and run


def test_builds_pull_and_push(pybuild, busybox_image, context, registry, store_root) -> None:
    base = f"{registry.host}/base:1"
    pybuild("tag", busybox_image, base)
    pybuild("push", base)
    pybuild("rmi", "-f", base, busybox_image)
    (context / "Dockerfile").write_text(
        f"FROM {base}\nCOPY --from={base} /etc/passwd /copied\nRUN cat /copied > /made\n"
    )
    name = f"{registry.host}/made:1"
    progress = pybuild("build", "--push", "-t", name, context).stderr
    assert f"[internal] pull {base}\n" in progress
    assert progress.count("[internal] pull") == 1
    assert f"pushing manifest for {name}@sha256:" in progress
    assert "[internal] pull" not in pybuild("-t", name, context).stderr
    pybuild("rmi", "-f", name)
    assert "app:x:1000" in pybuild("run", "--rm", name, "cat", "/made").stdout
    check_clean(pybuild)


def test_build_pull_asks_again(pybuild, busybox_image, context, registry) -> None:
    base = f"{registry.host}/base:1"
    for text in ("old", "new"):
        (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo {text} > /base\n")
        pybuild("build", "--push", "-t", base, context)
        if text == "old":
            old = pybuild("images", "-q", "--no-trunc", base).stdout.strip()
    pybuild("tag", old, base)
    (context / "Dockerfile").write_text(f"FROM {base}\nRUN cp /base /copy\n")
    for flags, expected in (((), "old\n"), (("--pull",), "new\n")):
        pybuild("build", *flags, "-t", "result", context)
        assert pybuild("run", "--rm", "result", "cat", "/copy").stdout == expected


def test_a_push_needs_a_name(pybuild, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\n")
    refused = pybuild("build", "--push", context, check=False)
    assert refused.returncode == 1
    assert "a tag is needed to push" in refused.stderr


def test_run_pulls_what_is_missing(pybuild, busybox_image, registry) -> None:
    name = f"{registry.host}/app:1"
    pybuild("tag", busybox_image, name)
    pybuild("push", name)
    pybuild("rmi", "-f", name, busybox_image)
    never = pybuild("run", "--rm", "--pull", "never", name, "true", check=False)
    assert never.returncode == 125
    assert f"unable to find image '{name}' locally" in never.stderr
    done = pybuild("run", "--rm", name, "echo", "ran")
    assert done.stdout == "ran\n"
    assert f"Unable to find image '{name}' locally\n" in done.stderr
    assert pybuild("run", "--rm", name, "true").stderr == ""
    assert pybuild("run", "--rm", "--pull", "always", "-q", name, "echo", "x").stdout == "x\n"
    nowhere = pybuild("run", "--rm", f"{registry.host}/nowhere:1", "true", check=False)
    assert nowhere.returncode == 125
    assert f"error: pull {registry.host}/nowhere:1: manifest unknown\n" in nowhere.stderr


# --- TLS


def test_tls(pybuild, busybox_image, start_registry, tmp_path) -> None:
    registry = start_registry(tls=True)
    name = f"{registry.host}/app:1"
    pybuild("tag", busybox_image, name)
    refused = pybuild("push", name, check=False)
    assert refused.returncode == 1
    assert "certificate not trusted" in refused.stderr
    assert "--ca" in refused.stderr
    pybuild("push", "--ca", registry.ca, name)
    pybuild("pull", "--tls-verify=false", name)
    pybuild("pull", name, env={"SSL_CERT_FILE": str(registry.ca)})
    pybuild("pull", name, env={"REQUESTS_CA_BUNDLE": str(registry.ca)})
    pybuild("pull", name, env={"PYBUILD_INSECURE_REGISTRIES": registry.host})
    folder = tmp_path / "xdg/containers/certs.d" / registry.host
    folder.mkdir(parents=True)
    shutil.copy(registry.ca, folder)
    pybuild("pull", name)


def test_tls_in_builds(pybuild, busybox_image, context, start_registry) -> None:
    registry = start_registry(tls=True)
    base, name = f"{registry.host}/base:1", f"{registry.host}/made:1"
    pybuild("tag", busybox_image, base)
    pybuild("push", "--ca", registry.ca, base)
    pybuild("rmi", base)
    (context / "Dockerfile").write_text(f"FROM {base}\n")
    refused = pybuild("build", "-t", name, context, check=False)
    assert "certificate not trusted" in refused.stderr
    pybuild("build", "--ca", registry.ca, "--push", "-t", name, context)
    pybuild("pull", "--ca", registry.ca, name)


# --- passwords


def assert_silent(*outputs: subprocess.CompletedProcess[str]) -> None:
    import base64

    secrets = [PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()]
    for output in outputs:
        assert not any(secret in output.stdout + output.stderr for secret in secrets)


@pytest.mark.parametrize("tls", [False, True])
def test_login(tls, pybuild, busybox_image, start_registry, own_credentials, skopeo) -> None:
    registry = start_registry(password=True, tls=tls)
    terms = ("--ca", registry.ca) if tls else ()
    name = f"{registry.host}/app:1"
    pybuild("tag", busybox_image, name)
    refused = pybuild("push", *terms, name, check=False)
    assert refused.returncode == 1
    assert "authentication required" in refused.stderr
    assert f"pybuild login {registry.host}" in refused.stderr

    login = ("login", *terms, "-u", USER, "--password-stdin", registry.host)
    wrong = pybuild(*login, input="wrong", check=False)
    assert wrong.returncode == 1
    assert "unauthorized: incorrect username or password" in wrong.stderr
    assert not own_credentials.exists()
    done = pybuild("--debug", *login, input=f"{PASSWORD}\n")
    assert done.stdout == "Login Succeeded\n"
    pushed = pybuild("--debug", "push", *terms, name)
    pulled = pybuild("--debug", "pull", *terms, name)
    missing = pybuild("--debug", "pull", *terms, f"{registry.host}/other:1", check=False)
    assert missing.returncode == 1
    assert_silent(refused, wrong, done, pushed, pulled, missing)
    # Others read the same file.
    config = own_credentials / "config.json"
    flags = ("--authfile", config, "--tls-verify=false")
    assert "sha256:" in skopeo("inspect", *flags, f"docker://{name}")
    assert pybuild("logout", registry.host).stdout == (
        f"Removing login credentials for {registry.host}\n"
    )
    assert pybuild("logout", registry.host).stdout == f"Not logged in to {registry.host}\n"
    assert pybuild("pull", *terms, name, check=False).returncode == 1


def test_credentials_of_others(pybuild, busybox_image, start_registry, skopeo, tmp_path) -> None:
    registry = start_registry(password=True)
    path = tmp_path / "auth.json"
    account = ("--username", USER, "--password", PASSWORD)
    skopeo("login", "--authfile", path, "--tls-verify=false", *account, registry.host)
    name = f"{registry.host}/app:1"
    pybuild("tag", busybox_image, name)
    pybuild("push", name, env={"REGISTRY_AUTH_FILE": str(path)})
    assert pybuild("pull", name, check=False).returncode == 1


# --- bad names, absent servers


def test_errors(pybuild, busybox_image, registry) -> None:
    def refused(*words: str) -> str:
        done = pybuild(*words, check=False)
        assert done.returncode == 1
        error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(error) == 1, done.stderr
        return error[0]

    unknown = f"{registry.host}/nosuch:1"
    assert refused("pull", unknown) == f"error: pull {unknown}: manifest unknown"
    assert "invalid reference" in refused("pull", "x/UPPERcase")
    assert "no such image here" in refused("push", unknown)
    absent = f"127.0.0.1:{free_port()}/x:1"
    assert refused("pull", absent).endswith(": connection refused")
    pybuild("tag", busybox_image, absent)
    assert refused("push", absent).endswith(": connection refused")
    assert "is an invalid platform" in refused("pull", "--platform", "linux/", unknown)
    check_clean(pybuild)


# --- killed in the middle


class Valve:
    """A way to a registry that lets so many bytes through and then holds the rest back."""

    def __init__(self, target: str, limit_bytes: int) -> None:
        self._target = target
        self._left = limit_bytes
        self._lock = threading.Lock()
        self.full = threading.Event()
        self._open = threading.Event()
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets = [listening]
        self._threads: list[threading.Thread] = []
        self.host = f"127.0.0.1:{listening.getsockname()[1]}"
        self._start(self._accept, listening)

    def __enter__(self) -> "Valve":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def open(self) -> None:
        """Let everything through from now on."""
        self._open.set()

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listening: socket.socket) -> None:
        name, _, port = self._target.partition(":")
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection((name, int(port)))
                self._sockets += [near, far]
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    self._left -= len(data)
                    if self._left < 0:
                        self.full.set()
                if self.full.is_set():
                    self._open.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def random_image(pybuild, name: str, layers: int = 4, megabytes: int = 4) -> None:
    """Import an image of one layer and build `layers` random ones on it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(layers):
            member = tarfile.TarInfo(f"file{number}")
            member.size = megabytes << 20
            archive.addfile(member, io.BytesIO(os.urandom(member.size)))
    pybuild("import", "-", f"{name}-source", input=buffer.getvalue())
    copies = "".join(f"COPY --from=source /file{n} /file{n}\n" for n in range(layers))
    dockerfile = f"FROM {name}-source AS source\nFROM scratch\n{copies}"
    folder = Path(pybuild.root).parent / "random"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    pybuild("-t", name, folder)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pull", "push"])
def test_kill(verb, pybuild, registry, rounds, store_root, skopeo) -> None:
    """`kill -9` at any place: nothing is broken, and the next try uses what is whole."""
    made = f"{registry.host}/made:1"
    random_image(pybuild, made)
    if verb == "pull":
        pybuild("push", made)
        before = raw(skopeo, made)
    count = rounds(20, 4)
    total = 16 << 20
    for number in range(count):
        with Valve(registry.host, 20_000 + total * number // count) as valve:
            repository = "made" if verb == "pull" else f"made{number}"
            name = f"{valve.host}/{repository}:1"
            if verb == "pull":
                shutil.rmtree(store_root)
            else:
                pybuild("tag", made, name)
            kill_when(valve, pybuild.start(verb, name))
            check_clean(pybuild)
            if verb == "pull":
                assert name not in pybuild.image_names()
            else:
                with pytest.raises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(f"{registry.address}/v2/{repository}/manifests/1")
                caught.value.close()
            valve.open()
            pybuild(verb, name)
        check_clean(pybuild)
        if verb == "pull":
            pybuild("tag", name, f"{registry.host}/again:{number}")
            pybuild("push", f"{registry.host}/again:{number}")
            assert raw(skopeo, f"{registry.host}/again:{number}") == before
        else:
            assert raw(skopeo, f"{registry.host}/{repository}:1")


def kill_when(valve: Valve, process: subprocess.Popen[bytes]) -> None:
    try:
        assert valve.full.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_whole_layers_are_used_after_a_kill(pybuild, registry, store_root) -> None:
    made = f"{registry.host}/made:1"
    random_image(pybuild, made)
    pybuild("push", made)
    shutil.rmtree(store_root)
    with Valve(registry.host, 14 << 20) as valve:
        process = pybuild.start("pull", f"{valve.host}/made:1")
        wait_for_layers(store_root, 1)
        kill_when(valve, process)
        valve.open()
        out = pybuild("pull", f"{valve.host}/made:1").stdout
    assert ": Already exists\n" in out
    assert ": Pull complete\n" in out


def wait_for_layers(store_root: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(list(store_root.glob("layers/sha256/*/layer.json"))) >= count:
            return
        time.sleep(0.01)
    pytest.fail("no layer was finished")


@pytest.mark.slow
def test_interrupt(pybuild, registry, store_root) -> None:
    """Ctrl-C ends a pull soon, although the registry is silent."""
    made = f"{registry.host}/made:1"
    random_image(pybuild, made)
    pybuild("push", made)
    shutil.rmtree(store_root)
    with Valve(registry.host, 6 << 20) as valve:
        process = pybuild.start("pull", f"{valve.host}/made:1")
        assert valve.full.wait(60)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130, stderr.decode()
        assert stderr == b"interrupted\n"
        check_clean(pybuild)
        valve.open()
        pybuild("pull", f"{valve.host}/made:1")


def test_the_same_image_at_once(pybuild, registry, store_root) -> None:
    made = f"{registry.host}/made:1"
    random_image(pybuild, made, layers=3, megabytes=8)
    pybuild("push", made)
    shutil.rmtree(store_root)
    pybuild("images")
    processes = [pybuild.start("pull", made) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    together = b"".join(out for out, _ in outputs)
    assert together.count(b": Pull complete\n") == 3
    assert together.count(b": Already exists\n") == 9
    check_clean(pybuild)


def test_a_full_disk(pybuild, registry, tmp_path, store_root) -> None:
    made = f"{registry.host}/made:1"
    random_image(pybuild, made, layers=3, megabytes=8)
    pybuild("push", made)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", disk], check=True)
    try:
        env = {"PYBUILD_ROOT": str(disk / "store")}
        failed = pybuild("pull", made, env=env, check=False)
        assert failed.returncode == 1
        errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert errors[0].startswith(f"error: pull {made}: layer sha256:")
        assert "no space left" in errors[0] or "bytes that are free" in errors[0]
        assert pybuild("system", "check", "--deep", env=env).stderr == ""
        assert list((disk / "store/blobs/sha256").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        pybuild("pull", made, env=env)
    finally:
        subprocess.run(["umount", disk], check=True)


# --- memory


@pytest.mark.slow
def test_memory(pybuild, registry, store_root) -> None:
    """A layer is never whole in memory."""
    name = f"{registry.host}/big:1"
    random_image(pybuild, name, layers=3, megabytes=80)

    def peak_mib(*words: str) -> float:
        # Not a child of ours: a child's peak begins with that of its parent.
        command = [sys.executable, "-c", PEAK_OF_CHILD, *pybuild.command(*words)]
        environment = pybuild.full_environment({})
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        return int(done.stdout.split()[-1]) / 1024

    assert peak_mib("push", "-q", name) <= 100
    shutil.rmtree(store_root)
    assert peak_mib("pull", "-q", name) <= 100
