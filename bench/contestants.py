"""The tools that are measured: how each is set up beside the others, and what it is asked to do.

Every tool works in the same private mount namespace, on images imported from the same tar files,
in a folder of its own below one work folder.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BUSYBOX = "docker.io/library/busybox:bench"
DEBIAN = "docker.io/library/debian:bench"
DAEMON_START_S = 30


@dataclass
class Contestant:
    """One tool in one mode.

    makes: what stands on the disk after its build, for an honest reading of the ratios.
    reference: shown for orientation, and no peer that a ratio is taken of.
    prune_argv: has the build cache forget what no image needs.
    """

    name: str
    makes: str
    environment: dict[str, str]
    run_argv: Callable[[str, Sequence[str]], list[str]] | None = None
    build_argv: Callable[[Path, str], list[str]] | None = None
    import_argv: Callable[[Path, str], list[str]] | None = None
    forget_argv: Callable[[str], list[str]] | None = None
    prune_argv: list[str] | None = None
    daemons: list[int] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None
    ours: bool = False
    reference: bool = False

    def quietly(self, argv: Sequence[str], *, check: bool = True) -> str:
        """Run a command that is not measured and return its output."""
        done = subprocess.run(
            argv,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}:\n{done.stdout[-3000:]}")
        return done.stdout


def first_line(argv: Sequence[str]) -> str:
    """Return the first line that a command prints, such as its version."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def version(text: str) -> str:
    """Return the first word of `text` that begins with a digit."""
    words = (word.strip(",v") for word in text.split())
    return next((word for word in words if word[:1].isdigit()), "?")


def program(name: str) -> str | None:
    """Return the path of a program. Debian's docker goes before a newer client without a daemon."""
    return shutil.which(name, path=f"/usr/bin:/usr/sbin:/bin:/sbin:{os.environ.get('PATH', '')}")


def base_environment() -> dict[str, str]:
    """Return the environment that every tool gets."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    # An ordinary user's Python keeps its compiled modules; so do we, whatever this shell says.
    return {"PATH": os.defpath, **kept}


def pybuild(work: Path) -> Contestant | None:
    """Return ours: the command installed beside the interpreter that runs this script."""
    path = Path(sys.executable).with_name("pybuild")
    if not path.exists():
        return None
    command = str(path)
    return Contestant(
        name=f"pybuild {version(first_line([command, 'version']))}",
        makes="image in its store; layers as trees and digests, not compressed, no tar kept",
        environment={**base_environment(), "PYBUILD_ROOT": str(work / "pybuild")},
        run_argv=lambda image, words: [
            *(command, "run", "--rm", "--network", "none", image),
            *words,
        ],
        build_argv=lambda context, tag: [command, "build", "-q", "-t", tag, str(context)],
        import_argv=lambda tar, name: [command, "import", str(tar), name],
        forget_argv=lambda tag: [command, "rmi", "--force", tag],
        prune_argv=[command, "system", "prune", "--all"],
        ours=True,
    )


def containers_environment(work: Path) -> dict[str, str]:
    """Write podman's and buildah's configuration, which keeps them apart from the user's own."""
    folder = work / "containers"
    folder.mkdir(exist_ok=True)
    (folder / "containers.conf").write_text(
        "[containers]\n"
        # Their default wants more than a root without CAP_SYS_RESOURCE may ask for.
        'default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
        "[engine]\n"
        'cgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        f'tmp_dir = "{folder}/tmp"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    return {
        **base_environment(),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }


def podman(work: Path) -> Contestant | None:
    """Return podman. Its build is buildah's code, so it only runs."""
    command = program("podman")
    if command is None:
        return None
    return Contestant(
        name=f"podman {version(first_line([command, '--version']))}",
        makes="-",
        environment=containers_environment(work),
        run_argv=lambda image, words: [
            *(command, "run", "--rm", "--network", "none", "--pull", "never", image),
            *words,
        ],
        import_argv=lambda tar, name: [command, "import", "--quiet", str(tar), name],
    )


def buildah(work: Path) -> Contestant | None:
    """Return buildah with its layer cache on, as the others have; it shares podman's storage."""
    command, importer = program("buildah"), program("podman")
    if command is None or importer is None:
        return None
    return Contestant(
        name=f"buildah {version(first_line([command, '--version']))}",
        makes="image in containers-storage; layers as trees and digests, not compressed",
        environment=containers_environment(work),
        build_argv=lambda context, tag: [
            *(command, "bud", "--quiet", "--layers", "--jobs", "4", "--network", "host"),
            *("--pull-never", "--tag", tag, str(context)),
        ],
        import_argv=lambda tar, name: [importer, "import", "--quiet", str(tar), name],
        forget_argv=lambda tag: [command, "rmi", "--force", tag],
        prune_argv=[command, "rmi", "--prune", "--force"],
    )


def docker(work: Path, *, buildkit: bool) -> Contestant | None:
    """Return docker with a daemon of its own, in a network namespace of its own.

    There it can neither delete the bridge of a docker that is installed nor touch its rules.
    """
    client, daemon = program("docker"), program("dockerd")
    if client is None or daemon is None:
        return None
    folder = work / ("docker-buildkit" if buildkit else "docker-classic")
    folder.mkdir()
    socket = folder / "socket"
    argv = ["unshare", "--net", daemon, "--bridge", "none", "--iptables=false"]
    argv += ["--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    argv += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    argv += ["--pidfile", f"{folder}/pid", "--host", f"unix://{socket}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=base_environment()
        )
    command = [client, "--host", f"unix://{socket}"]

    def stop() -> None:
        process.terminate()
        process.wait()

    contestant = Contestant(
        name=f"docker {version(first_line([client, '--version']))}"
        + (" BuildKit" if buildkit else " classic"),
        makes="image in the daemon's overlay2; layers as trees and digests, not compressed",
        environment={
            **base_environment(),
            "DOCKER_BUILDKIT": str(int(buildkit)),
            "DOCKER_CONFIG": str(folder),
        },
        run_argv=lambda image, words: [
            *(*command, "run", "--rm", "--network", "none", image),
            *words,
        ],
        build_argv=lambda context, tag: [
            *(*command, "build", "--quiet", "--network", "host", "--tag", tag, str(context)),
        ],
        import_argv=lambda tar, name: [*command, "import", str(tar), name],
        forget_argv=lambda tag: [*command, "rmi", "--force", tag],
        prune_argv=[*command, *(["builder"] if buildkit else ["image"]), "prune", "--force"],
        stop=stop,
    )
    if not wait_for_daemon(contestant, [*command, "version"], process):
        tail = (folder / "log").read_text(errors="replace")[-400:]
        sys.stderr.write(f"docker left out: its daemon does not start: {tail}\n")
        stop()
        return None
    contestant.daemons = [process.pid, *descendants(process.pid)]
    return contestant


def wait_for_daemon(
    contestant: Contestant, argv: list[str], process: subprocess.Popen[bytes]
) -> bool:
    """Ask until the daemon answers; False when it ended or takes too long."""
    deadline = time.monotonic() + DAEMON_START_S
    while process.poll() is None and time.monotonic() < deadline:
        if "Server:" in contestant.quietly(argv, check=False):
            return True
        time.sleep(0.2)
    return False


def descendants(pid: int) -> list[int]:
    """Return the pids below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def write_bundle(work: Path, busybox_tar: Path) -> Path | None:
    """Return a bundle that runs `true`, whose config is podman's own: same mounts, same seccomp.

    What only podman provides (its hosts file, its cgroup's path) is taken out.
    """
    engine = podman(work)
    command = program("podman")
    if engine is None or command is None:
        return None
    create = [command, "create", "--network", "none", "--pull", "never", BUSYBOX, "true"]
    container = engine.quietly(create).strip().splitlines()[-1]
    engine.quietly([command, "init", container])
    (source,) = (work / "containers").glob(f"**/{container}/userdata/config.json")
    config = json.loads(source.read_text())
    engine.quietly([command, "rm", "--force", container])

    bundle = work / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    subprocess.run(["tar", "-xf", busybox_tar, "-C", bundle / "rootfs"], check=True)
    config["root"] = {"path": "rootfs"}
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "bind"]
    config["process"]["terminal"] = False
    config.pop("hooks", None)
    config["linux"].pop("cgroupsPath", None)
    config["linux"].pop("resources", None)
    for namespace in config["linux"]["namespaces"]:
        namespace.pop("path", None)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def always(argv: list[str], _image: str, _words: Sequence[str]) -> list[str]:
    """Return `argv`: a bundle has its command in its config."""
    return argv


def bare_runtimes(work: Path, bundle: Path) -> list[Contestant]:
    """Return the OCI runtimes installed, each on `bundle` with and without its seccomp profile."""
    plain = work / "bundle-without-seccomp"
    plain.mkdir()
    config = json.loads((bundle / "config.json").read_text())
    config["linux"].pop("seccomp", None)
    config["root"]["path"] = str(bundle / "rootfs")
    (plain / "config.json").write_text(json.dumps(config))

    found = []
    for name in ("pybuild-runtime", "crun", "runc"):
        # Ours is the one that is installed beside this interpreter.
        own = shutil.which(name, path=str(Path(sys.executable).parent))
        command = own or program(name)
        if command is None:
            continue
        words = [command, "--root", str(work / name), "run", "--bundle"]
        for folder, suffix in ((bundle, "+ seccomp"), (plain, "no seccomp")):
            argv = [*words, str(folder), "bench"]
            found.append(
                Contestant(
                    name=f"{name} {version(first_line([command, '--version']))} {suffix}",
                    makes="-",
                    environment=base_environment(),
                    # A filter costs a runtime most of its time; we load one, so our peers do.
                    reference=folder is plain,
                    run_argv=functools.partial(always, argv),
                    ours=own is not None and folder is not plain,
                )
            )
    return found
