#!/usr/bin/env python3
"""Build the cases of testdata/builds with docker's BuildKit and record what came out.

usage: record_builds.py [--check] [NAME…]

Contexts from servers are handed out inside that network namespace: `git daemon`, and Python's.

Starts Debian's dockerd in a network namespace of its own, in a temporary folder. With names, only
those cases; the records of the others stay. --check changes nothing and says which differ from
what is recorded. Cases that cite a source are built, too: one that this builder knows by now, and
that gives what the case says, is named, so that its `cites` can go.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builds import baseimage, cases, contexts, imagetree, sources

START_S = 60
# A builder that does not know a flag is no judge of what is wrong with it.
UNKNOWN = re.compile("nknown flag|unexpected key|invalid field|unknown instruction")
PATH = "/usr/bin:/usr/sbin:/bin:/sbin"  # Debian's docker before a newer client
HTTP, GIT = "http://127.0.0.1:8000", "git://127.0.0.1"
# dockerd must neither delete the bridge of another one nor touch its rules; crun's and runc's
# trouble with cgroup v1 beside v2 is docker's too.
DAEMON = """\
ip link set lo up
umount /sys/fs/cgroup/unified 2>/dev/null
exec dockerd --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" --host "unix://$0/socket"
"""


class Docker:
    """docker with BuildKit, as the daemon in `folder` gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "DOCKER_BUILDKIT": "1",
            "DOCKER_CONFIG": str(folder),
            "PATH": PATH,
        }

    def __call__(self, *args: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the client."""
        return subprocess.run(
            ["docker", "--host", f"unix://{self.folder}/socket", *args],
            input=input,
            capture_output=True,
            env=self.environment,
            check=False,
        )

    def image(self, name: str) -> imagetree.Image:
        """Return an image."""
        return imagetree.read_docker(self("save", name).stdout)


@contextlib.contextmanager
def running_docker() -> Iterator[Docker]:
    """Give a docker whose daemon ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="record-"))
    words = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", DAEMON]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*words, str(folder)], stdout=log, stderr=log, env={**os.environ, "PATH": PATH}
        )
    try:
        deadline = time.monotonic() + START_S
        while not (folder / "socket").exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dockerd does not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield Docker(folder)
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def build(docker: Docker, case: cases.Case) -> imagetree.Image | str:
    """Build a case; return the image, or why there is none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources.make_files(folder / "context", case.rows)
        words = []
        for argument, value in case.build_args.items():
            words += ["--build-arg", f"{argument}={value}"]
        for secret, value in case.secrets.items():
            (folder / secret).write_text(value)
            words += ["--secret", f"id={secret},src={folder / secret}"]
        words += ["--target", case.target] if case.target else []
        made = docker(
            *("build", "-q", "--network=none", "--no-cache", *words, "-f-"),
            str(folder / "context"),
            input=case.text.encode(),
        )
    if made.returncode != 0:
        said = made.stderr.decode(errors="replace").strip().splitlines()[-1]
        if docker("version").returncode != 0:
            raise SystemExit(
                f"{case.name} is the end of this daemon, so it cannot be a case: {said}"
            )
        return re.sub(r"/\S*/merged", "", said)
    name = made.stdout.decode().strip()
    image = docker.image(name)
    docker("rmi", "-f", name)
    return image


@contextlib.contextmanager
def serving(docker: Docker, folder: Path) -> Iterator[None]:
    """Serve a folder to the daemon, at HTTP and GIT, until the block ends."""
    inside = ["nsenter", f"--net=/proc/{(docker.folder / 'pid').read_text()}/ns/net"]
    git = ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={folder}"]
    http = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(folder), "8000"]
    servers = [
        subprocess.Popen(
            [*inside, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )
        for words in (http, [*git, "--listen=127.0.0.1"])
    ]
    try:
        for port in (8000, 9418):
            probe = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
            deadline = time.monotonic() + START_S
            while subprocess.run(
                [*inside, sys.executable, "-c", probe], stderr=subprocess.DEVNULL, check=False
            ).returncode:
                if time.monotonic() > deadline:
                    raise SystemExit(f"no server at port {port}")
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def build_context(docker: Docker, case: contexts.ContextCase) -> imagetree.Image | str:
    """Build a case whose context comes another way; return the image, or why there is none."""
    with tempfile.TemporaryDirectory() as name:
        case.serve_from(Path(name))
        with serving(docker, Path(name)):
            data = b"" if case.is_served else case.data()
            words = ("--network=none", "--no-cache", *case.words(HTTP, GIT))
            made = docker("build", "-q", *words, input=data)
    if made.returncode != 0:
        said = made.stderr.decode(errors="replace").strip().splitlines()[-1]
        return re.sub(r"/\S*/data/\S*/", "", said)
    name = made.stdout.decode().strip()
    image = docker.image(name)
    docker("rmi", "-f", name)
    return image


def agrees(case: cases.Case, made: imagetree.Image | str) -> bool:
    """Tell whether what was made is what a case says that cites a source."""
    if isinstance(made, str) or case.refused:
        is_judged = isinstance(made, str) and (is_about_unknown(case) or not UNKNOWN.search(made))
        return is_judged and bool(case.refused)
    return cases.as_cited(case, made)


def is_about_unknown(case: cases.Case) -> bool:
    """Tell whether a case is to be refused for a word that nobody knows."""
    return any(UNKNOWN.search(words) for words in case.refused)


def is_recorded(name: str) -> bool:
    """Tell whether a case of that name is to be judged by what was recorded."""
    case = cases.read_cases().get(name)
    return case is not None and not case.cites


@dataclass
class Recorder:
    """What a builder makes of cases, beside what it is known to make; `names`: only those."""

    docker: Docker
    base: imagetree.Image
    names: list[str]
    known: dict[str, Any]
    differing: int = 0

    def wants(self, name: str) -> bool:
        """Tell whether a case was asked for."""
        return not self.names or name in self.names

    def row(self, kind: str, name: str, made: imagetree.Image | str) -> dict[str, Any]:
        """Return what is recorded of a result, and say where it is something new."""
        row = {"refused": made} if isinstance(made, str) else cases.outcome(made, self.base)
        if row != self.known[kind].get(name):
            self.differing += 1
            sys.stdout.write(f"{name}: not as recorded\n")
        return row

    def cases(self, builder: str) -> dict[str, Any]:
        """Build the cases with a directory."""
        found: dict[str, Any] = {}
        for case in cases.read_cases().values():
            if not self.wants(case.name):
                continue
            made = build(self.docker, case)
            if case.cites:
                if agrees(case, made):
                    sys.stdout.write(f"{case.name}: {builder} does what it cites\n")
            elif isinstance(made, str) and UNKNOWN.search(made) and not is_about_unknown(case):
                sys.stdout.write(f"{case.name}: let it cite a source, {builder} says: {made}\n")
            else:
                found[case.name] = self.row("cases", case.name, made)
        kept = self.known["cases"].items() if self.names else ()
        return {**{name: row for name, row in kept if is_recorded(name)}, **found}

    def contexts(self) -> dict[str, Any]:
        """Build the cases whose context comes another way."""
        wanted = [case for case in contexts.read_context_cases() if self.wants(case.name)]
        found = {
            case.name: self.row("contexts", case.name, build_context(self.docker, case))
            for case in wanted
        }
        return {**(self.known["contexts"] if self.names else {}), **found}


def main() -> int:
    """Record; the exit code is 1 when --check found a difference."""
    words = [word for word in sys.argv[1:] if word != "--check"]
    with running_docker() as docker:
        rootfs = docker.folder / "base.tar"
        busybox = shutil.which("busybox", path=PATH)
        assert busybox is not None, "install busybox-static"
        baseimage.write_busybox(rootfs, busybox, baseimage.CASE_ROWS)
        docker("import", str(rootfs), "base")
        version = docker("version", "--format", "{{.Server.Version}}").stdout.decode().strip()
        recorder = Recorder(docker, docker.image("base"), words, cases.recorded())
        record: dict[str, Any] = {"builder": f"BuildKit in dockerd {version}"}
        record["cases"] = dict(sorted(recorder.cases(record["builder"]).items()))
        record["contexts"] = dict(sorted(recorder.contexts().items()))
    if "--check" in sys.argv:
        return 1 if recorder.differing else 0
    cases.RECORDED.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
