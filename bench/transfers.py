"""The rows that move images: to a registry, from it, into archives.

Everyone talks to Debian's docker-registry on 127.0.0.1, whose own work is in nobody's CPU seconds
but in everybody's seconds.
"""

import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import contestants
from contestants import Contestant
from rows import Job, Row

ROWS = {
    "f1": Row(
        "f1",
        "push of a 500 MB image of 5 layers, cold (gzip)",
        "to an empty registry; nothing is compressed before. pybuild keeps what it compresses, "
        "durably; the others do not.",
    ),
    "f3": Row(
        "f3",
        "pull and unpack the same image, cold",
        "as pybuild pushed it; pybuild keeps the blobs beside the trees, and both are durable when "
        "it ends; the others keep trees and tar-split and leave the rest to the kernel.",
    ),
    "f4": Row("f4", "pull and unpack a Debian base of 1 layer, cold", "as f3."),
    "g": Row(
        "g",
        "save the 500 MB image as a docker-archive",
        "pybuild's file is a docker-archive and an OCI layout; everyone's layers are plain tars.",
    ),
    "g-oci": Row("g-oci", "save the 500 MB image as an OCI archive (gzip)", "everyone compresses."),
}
LAYERS = 5
LAYER_BYTES = 100_000_000
PUSHED, BASE = "big:1", "debian:1"
START_S = 30
Argv = list[str]


@dataclass
class Registry:
    """A docker-registry of our own. prefix: what runs it, in another network namespace."""

    folder: Path
    host: str = ""
    prefix: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, on the port it had before."""
        program = contestants.program("docker-registry")
        if program is None:
            raise SystemExit("bench: missing: docker-registry (make test-deps)")
        if not self.host:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                self.host = f"127.0.0.1:{listening.getsockname()[1]}"
        self.folder.mkdir(exist_ok=True)
        storage = {"filesystem": {"rootdirectory": str(self.folder / "data")}}
        http = {"addr": self.host, "secret": "x"}
        config = {"version": 0.1, "storage": storage, "http": http, "log": {"level": "error"}}
        (self.folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        with (self.folder / "log").open("wb") as log:
            argv = [*self.prefix, program, "serve", str(self.folder / "config.yml")]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        if self.prefix:
            return  # it cannot be seen from here
        name, _, port = self.host.partition(":")
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection((name, int(port)), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it; what it stores stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def empty(self) -> None:
        """Let it forget everything, caches in memory too."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()


@dataclass(frozen=True)
class Mover:
    """A contestant, and how it is asked for each of the transfers. rows: those it is in."""

    contestant: Contestant
    load: Callable[[Path], Argv]
    push: Callable[[str], Argv]
    pull: Callable[[str], Argv]
    remove: Callable[[str], Argv]
    save: Callable[[str, str], dict[str, Argv]]
    rows: frozenset[str] = frozenset({"f1", "f3", "f4", "g", "g-oci"})


def movers(work: Path) -> Iterator[Mover]:
    """Yield what is installed."""
    ours = contestants.pybuild(work)
    if ours is not None:
        yield pybuild(ours)
    podman, skopeo = contestants.program("podman"), contestants.program("skopeo")
    if podman is not None:
        yield podman_mover(podman, work)
        if skopeo is not None:
            yield skopeo_mover(skopeo, podman, work)


def pybuild(ours: Contestant) -> Mover:
    """Return ours."""
    command = str(Path(sys.executable).with_name("pybuild"))
    return Mover(
        ours,
        load=lambda tar: [command, "load", "-i", str(tar)],
        push=lambda name: [command, "push", "-q", name],
        pull=lambda name: [command, "pull", "-q", name],
        remove=lambda name: [command, "rmi", "-f", name],
        save=lambda name, file: {
            "g": [command, "save", "-o", file, name],
            "g-oci": [command, "build", "-q", "-o", f"type=oci,dest={file}", alone(ours, name)],
        },
    )


def alone(ours: Contestant, name: str) -> str:
    """Return a context that builds what an image is already: an OCI archive is a build's output."""
    folder = Path(ours.environment["PYBUILD_ROOT"]).with_name("alone")
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {name}\n")
    return str(folder)


def podman_mover(command: str, work: Path) -> Mover:
    """Return podman."""
    folder = work / "podman-transfers"
    folder.mkdir()
    insecure = "--tls-verify=false"
    return Mover(
        Contestant(
            f"podman {contestants.version(contestants.first_line([command, '--version']))}",
            makes="image in containers-storage: layers as trees, tar-split",
            environment=contestants.containers_environment(folder),
        ),
        load=lambda tar: [command, "load", "-q", "-i", str(tar)],
        push=lambda name: [command, "push", "-q", insecure, name],
        pull=lambda name: [command, "pull", "-q", insecure, name],
        remove=lambda name: [command, "rmi", "-f", name],
        save=lambda name, file: {
            "g": [command, "save", "-q", "--format", "docker-archive", "-o", file, name],
            "g-oci": [command, "save", "-q", "--format", "oci-archive", "-o", file, name],
        },
    )


def skopeo_mover(command: str, podman: str, work: Path) -> Mover:
    """Return skopeo, on containers-storage of its own, into which podman loads and unloads."""
    folder = work / "skopeo-transfers"
    folder.mkdir()
    copy = [command, "copy", "-q"]
    return Mover(
        Contestant(
            f"skopeo {contestants.version(contestants.first_line([command, '--version']))}",
            makes="image in containers-storage: layers as trees, tar-split",
            environment=contestants.containers_environment(folder),
        ),
        load=lambda tar: [podman, "load", "-q", "-i", str(tar)],
        push=lambda name: [
            *(*copy, "--dest-tls-verify=false", f"containers-storage:{name}", f"docker://{name}")
        ],
        pull=lambda name: [
            *(*copy, "--src-tls-verify=false", f"docker://{name}", f"containers-storage:{name}")
        ],
        remove=lambda name: [podman, "rmi", "-f", name],
        save=lambda name, file: {
            "g": [*copy, f"containers-storage:{name}", f"docker-archive:{file}:{name}"],
            "g-oci": [*copy, f"containers-storage:{name}", f"oci-archive:{file}"],
        },
    )


class Transfers:
    """The transfer rows on one registry: contestants, and their jobs."""

    def __init__(self, work: Path, debian_tar: Path) -> None:
        self.registry = Registry(work / "registry")
        self.registry.start()
        self._work = work
        self._movers = {mover.contestant.name: mover for mover in movers(work)}
        self._stops: list[Callable[[], None]] = [self.registry.stop]
        self._add_docker(work)
        self._big = f"{self.registry.host}/{PUSHED}"
        self._base = f"{self.registry.host}/{BASE}"
        self._archive = work / "big.tar"
        # In a process of its own: the memory of this one counts for every child at its start.
        argv = [sys.executable, __file__, str(self._archive), self._big]
        subprocess.run(argv, check=True)
        self._debian_tar = debian_tar
        self._there: set[tuple[str, str]] = set()

    def _add_docker(self, work: Path) -> None:
        """Add docker, with a second registry on the same folder where its daemon can see it."""
        daemon = contestants.docker(work, buildkit=True)
        if daemon is None:
            return
        enter = ("nsenter", f"--net=/proc/{daemon.daemons[0]}/ns/net")
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        inside = Registry(self.registry.folder, self.registry.host, enter)
        inside.start()
        self._stops += [inside.stop, daemon.stop]
        self._movers[daemon.name] = docker_mover(daemon)

    def stop(self) -> None:
        """Stop the registries and docker's daemon."""
        for stop in self._stops:
            stop()

    def field(self, row: str) -> list[Contestant]:
        """Return the contestants of a row."""
        return [mover.contestant for mover in self._movers.values() if row in mover.rows]

    def begin(self, row: str) -> None:
        """Put what a row pulls into the registry, or what it pushes or saves into every store."""
        ours = next(iter(self._movers.values()))
        if row in ("f3", "f4"):
            image = self._big if row == "f3" else self._base
            self.registry.empty()
            self._load(ours, image)
            ours.contestant.quietly(ours.push(image))
            for mover in self._movers.values():
                self._remove(mover, image)
        elif row.startswith("g"):
            for mover in self._movers.values():
                if row in mover.rows:
                    self._load(mover, self._big)

    def _load(self, mover: Mover, image: str) -> None:
        self._remove(mover, image)
        self._there.add((mover.contestant.name, image))
        if image == self._big:
            mover.contestant.quietly(mover.load(self._archive))
        else:
            command = mover.load(self._debian_tar)[0]
            mover.contestant.quietly([command, "import", str(self._debian_tar), image])

    def _remove(self, mover: Mover, image: str) -> None:
        """Remove an image that the contestant has: with what stays there would be nothing to do."""
        who = (mover.contestant.name, image)
        if who in self._there:
            mover.contestant.quietly(mover.remove(image))
            if mover.contestant.ours:
                # The build that writes an OCI archive leaves an image, and so compressed layers.
                command = mover.remove(image)[0]
                mover.contestant.quietly([command, "image", "prune", "--force"])
                mover.contestant.quietly([command, "system", "prune", "--all", "--force"])
            self._there.remove(who)

    def jobs(self, row: str, contestant: Contestant) -> Iterator[Job]:
        """Yield a row's command for a contestant, again and again."""
        mover = self._movers[contestant.name]
        image = self._base if row == "f4" else self._big
        file = str(self._work / "saved.tar")

        def before_push() -> None:
            self._load(mover, image)  # what was compressed for the last push is gone
            self.registry.empty()
            os.sync()

        def before_pull() -> None:
            self._remove(mover, image)
            self._there.add((contestant.name, image))
            os.sync()  # or whoever syncs next pays for the others

        def before_save() -> None:
            if contestant.ours:
                self._load(mover, image)
            Path(file).unlink(missing_ok=True)
            os.sync()

        while True:
            if row == "f1":
                yield Job(mover.push(image), prepare=before_push)
            elif row in ("f3", "f4"):
                yield Job(mover.pull(image), prepare=before_pull)
            else:
                yield Job(mover.save(image, file)[row], prepare=before_save)


def docker_mover(daemon: Contestant) -> Mover:
    """Return docker. It pushes far slower than the others, so it only pulls."""
    assert daemon.import_argv is not None
    command = daemon.import_argv(Path("x"), "x")[:-3]
    return Mover(
        daemon,
        load=lambda tar: [*command, "load", "-q", "-i", str(tar)],
        push=lambda name: [*command, "push", "-q", name],
        pull=lambda name: [*command, "pull", "-q", name],
        remove=lambda name: [*command, "rmi", "-f", name],
        save=lambda name, file: {"g": [*command, "save", "-o", file, name]},
        rows=frozenset({"f3", "f4"}),
    )


def image_archive(path: Path, name: str) -> None:
    """Write a docker-archive of LAYERS layers: source-like text, a third of it incompressible."""
    rng = random.Random(1)
    letters = b"abcdefghijklmnopqrstuvwxyz_(){};= \n"
    words = [bytes(rng.choices(letters, k=rng.randint(3, 12))) for _ in range(5000)]
    layers = [one_layer(number, words, rng) for number in range(LAYERS)]
    diff_ids = [f"sha256:{sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    files = {f"layer{number}.tar": layer for number, layer in enumerate(layers)}
    files["config.json"] = json.dumps(config).encode()
    manifest = {"Config": "config.json", "RepoTags": [name], "Layers": sorted(files)[1:]}
    files["manifest.json"] = json.dumps([manifest]).encode()
    with tarfile.open(path, "w") as archive:
        for file_name, data in files.items():
            add(archive, file_name, data)


def one_layer(number: int, words: list[bytes], rng: random.Random) -> bytes:
    """Return the tar of a layer: about 1,300 files of all sizes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        size = count = 0
        while size < LAYER_BYTES:
            wanted = int(rng.lognormvariate(10.5, 1.3))
            text = b" ".join(rng.choices(words, k=wanted // 9 + 1))[:wanted]
            data = rng.randbytes(wanted) if count % 3 == 0 else text
            add(archive, f"layer{number}/file{count}", data)
            size, count = size + len(data), count + 1
    return out.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), 1_700_000_000
    archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    image_archive(Path(sys.argv[1]), sys.argv[2])
