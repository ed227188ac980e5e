"""pybuild where user namespaces and mounts are forbidden: what can be built still is."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.linux.landlock import can_scope_signals
from tests.dockerdaemon import running_docker

PROJECT = Path(__file__).parents[3]
pytestmark = pytest.mark.kernel

TIME = "1700000000"
# A user namespace in which no other can be made.
NO_NAMESPACES = (
    *("unshare", "--user", "--map-users=0,0,100000", "--map-groups=0,0,100000", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"',
    "sh",
)
SLEEP_S = 86413
COPIES = """\
FROM busybox:test
COPY --chown=1000:1000 file /srv/file
COPY --chown=7:8 --chmod=4711 file /srv/again
WORKDIR /work/here
COPY --from=busybox:test /etc/passwd /srv/passwd
ENV A=b
LABEL c=d
"""
RUNS = """\
FROM busybox:test
RUN mkdir /opt && echo one > /opt/one && chown 33:44 /opt/one && rm -r /home && mkdir /home \\
    && touch /home/new && echo x > /dev/null && (sleep 86413 &)
COPY --chown=1000:1000 file /srv/file
USER app
RUN id -u > /tmp/who && echo more >> /srv/file
"""
FAILS = """\
FROM busybox:test
WORKDIR /srv
RUN echo made > made; rm -r /home; exit 3
"""
CHANGES = "pwd; cat made; echo more > made; echo new > new; rm -r /bin/yes /tmp; exit 5"
WORDS = ("build", "--build-arg", f"SOURCE_DATE_EPOCH={TIME}", "-o")
TO = "type=oci,dest={},rewrite-timestamp=true"


@pytest.fixture
def user(make_user):
    user = make_user(subids=False, walls=NO_NAMESPACES)
    user.write("context/file", "text\n")
    user("import", "rootfs.tar", "busybox:test")
    return user


@pytest.fixture
def of_root(pybuild, busybox_rootfs: Path, tmp_path: Path):
    """Return a function: of_root(text) is the ID of the image that root builds."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context/file").write_text("text\n")
    shutil.copy(busybox_rootfs, tmp_path / "rootfs.tar")
    pybuild("import", "rootfs.tar", "busybox:test", cwd=tmp_path)

    def build(text: str) -> str:
        (tmp_path / "context/Dockerfile").write_text(text)
        return pybuild(*WORDS, TO.format(tmp_path / "x.tar"), "-q", tmp_path / "context").stdout

    return build


def test_a_user_builds_what_takes_no_process(user, of_root) -> None:
    user.write("context/Dockerfile", COPIES)
    made = user(*WORDS, TO.format(user.home / "x.tar"), "-q", "context")
    assert made.stdout == of_root(COPIES)
    said = user("info").stdout
    assert "no root, no mounts, no namespaces" in said
    assert "user.max_user_namespaces is 0 (as root: sysctl user.max_user_namespaces=" in said
    assert user("system", "check", "--deep").stdout == "clean\n"


# Name, kind, mode, owner: what keeps even its owner out, and bits that a chown takes away.
CLOSED = (
    ("closed", tarfile.DIRTYPE, 0, 5),
    ("closed/file", tarfile.REGTYPE, 0, 6),
    ("closed/in", tarfile.DIRTYPE, 0o100, 5),
    ("closed/in/suid", tarfile.REGTYPE, 0o4000, 5),
    ("again", tarfile.LNKTYPE, 0, 6),
    ("full", tarfile.DIRTYPE, 0o3555, 4),
    ("full/file", tarfile.REGTYPE, 0o444, 4),
    ("link", tarfile.SYMTYPE, 0o777, 7),
    ("fifo", tarfile.FIFOTYPE, 0o200, 8),
)
INTO_CLOSED = """\
FROM busybox:test AS base
ADD closed.tar /srv/
COPY --chmod=000 file /new/parent/file
COPY --chown=3:3 --chmod=4755 file /srv/suid
FROM busybox:test
COPY --from=base /srv /srv
COPY --from=base --chown=9:9 /srv/closed /copy
COPY file /srv/full/new
COPY file /srv/closed/file
COPY --from=base /new /new
"""


def write_closed(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind, mode, owner in CLOSED:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid = kind, mode, owner, owner
            member.linkname = {"link": "target", "again": "closed/file"}.get(name, "")
            archive.addfile(member)
    path.chmod(0o644)


def test_modes_that_keep_even_the_owner_out(user, of_root, tmp_path: Path) -> None:
    """On disk they are wider than in the layers."""
    user.write("context/Dockerfile", INTO_CLOSED)
    for context in (user.home / "context", tmp_path / "context"):
        write_closed(context / "closed.tar")
    made = user(*WORDS, TO.format(user.home / "x.tar"), "-q", "context")
    assert made.stdout == of_root(INTO_CLOSED)


def test_a_user_is_told_why_nothing_runs(user) -> None:
    user.write("context/Dockerfile", "FROM busybox:test\nRUN true\n")
    for words in (
        ("build", "context"),
        ("build", "--isolation=chroot", "context"),
        ("run", "--rm", "busybox:test", "true"),
    ):
        refused = user(*words, check=False)
        assert refused.returncode in (1, 125)
        assert "no mounts and no namespaces can be made here" in refused.stderr
        assert "user.max_user_namespaces is 0" in refused.stderr


@pytest.fixture
def in_container(pybuild, of_root, tmp_path: Path):
    """Return a function that runs pybuild as root of a container with docker's walls.

    The container is ours, its files are the host's: no CAP_SYS_ADMIN, and a seccomp filter that
    forbids unshare, mount and clone3.
    """
    settings = (
        f"PYBUILD_ROOT={tmp_path}/inside",
        f"PYTHONPATH={PROJECT}:{sysconfig.get_path('purelib')}",
        *("PYTHONDONTWRITEBYTECODE=1", "HOME=/root", "PATH=/usr/bin:/bin"),
    )

    def run(*words: str | Path, more: str = "A=b", check: bool = True):
        inside = (os.path.realpath(sys.executable), "-m", "pybuild", *words)
        enter = ("chroot", "/host", "/usr/bin/env", "-i", "-C", tmp_path, *settings, more)
        around = ("run", "--rm", "-v", "/:/host", "busybox:test", *enter)
        return pybuild(*around, *inside, check=check)

    run("import", "rootfs.tar", "busybox:test")
    return run


def test_root_of_a_container_builds_with_another_root_directory(
    in_container, of_root, tmp_path: Path
) -> None:
    wanted = of_root(RUNS)
    words = (*WORDS, TO.format("y.tar"), "context")
    done = in_container(*words, more="container=oci")
    assert ("ChrootIsolation: " in done.stderr, "PlainCopies: " in done.stderr) == (True, True)
    assert in_container(*words, "-q", "--isolation=chroot").stdout == wanted
    # Whoever enters a step is behind the same wall, in a copy of what it left.
    (tmp_path / "context/Dockerfile").write_text(FAILS)
    assert in_container("build", "context", more="container=oci", check=False).returncode == 1
    entered = in_container("enter", "--", "sh", "-c", CHANGES, more="container=oci", check=False)
    assert (entered.returncode, entered.stdout) == (5, "/srv\nmade\n")
    changed = in_container("enter", "--adopt").stdout.splitlines()
    assert changed[:2] == ["D /bin/yes (-> busybox)", "C /srv/made (5B → 5B)"]
    assert [line for line in changed if line[1] == " "][2:] == ["A /srv/new (4B)", "D /tmp/"]
    again = in_container("enter", "--", "cat", "new", more="container=oci")
    assert again.stdout == "new\n"
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if left_behind(path)]


def left_behind(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(f"sleep\0{SLEEP_S}\0".encode())
    except OSError:  # it has just ended
        return False


# Namespaces are allowed, but /proc is masked as usual: the kernel lets nobody mount a new one.
OUTER = ("--rm", "--network", "host")
UNCONFINED = (*OUTER, "--security-opt", "seccomp=unconfined")
ANYWHERE = """\
FROM busybox:test
RUN test -r /proc/self/status
"""
SHARES = f"""\
{ANYWHERE}RUN cd /proc/self && test -r status && ! echo 0 2>/dev/null > oom_score_adj
RUN (sleep 86413 &) ; ! kill -9 1 2>/dev/null && ! ls /proc/1/root/ 2>/dev/null && ps > /seen
RUN --network=none ls /sys/class/net/lo > /dev/null && ! ping -c 1 192.0.2.1 2>/dev/null
USER app
RUN id -u > /tmp/who
"""


MAIN = "import sys; from pybuild.cli.main import run; sys.exit(run(sys.argv[1:]))"


def outer_mounts(folder: Path) -> list[str]:
    """Return the options that show a container our interpreter and the project, as on the host."""
    shown = (sys.base_prefix, sysconfig.get_path("purelib"), str(PROJECT), str(folder), "/usr")
    return [word for path in shown for word in ("-v", f"{path}:{path}")]


@pytest.fixture
def outer_rootfs(tmp_path: Path) -> Path:
    """Return a root directory for a container into which the host's /usr is mounted."""
    root = tmp_path / "outer"
    for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "var/lib", "run"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return root


@pytest.fixture(params=["podman", "docker"])
def in_masked(
    request, tool, peers, outer_rootfs: Path, tmp_path: Path, context: Path
) -> Iterator[Callable[..., str]]:
    """Return a function that runs pybuild in a container of podman's or docker's.

    It is called with the words for pybuild; with `unmasked` the container's /proc hides nothing.
    change: of the code, before it does anything.
    """
    settings = (
        f"PYBUILD_ROOT={context}/inside",
        f"PYTHONPATH={PROJECT}:{sysconfig.get_path('purelib')}",
        *("PYTHONDONTWRITEBYTECODE=1", "HOME=/root", "PATH=/usr/bin:/bin"),
    )
    python = os.path.realpath(sys.executable)
    inside = ["/usr/bin/env", "-i", "-C", str(context), *settings]
    inside += ["sh", "-c", '"$@" 2>&1', "sh", python, "-c"]
    # Not what the container's root is in: its /proc would be there a second time, unmasked.
    mounts = outer_mounts(context)
    if request.param == "podman":
        podman = peers("podman")

        def run(
            *words: str,
            unmasked: bool = False,
            filtered: bool = False,
            user: int = 0,
            change: str = "",
            fails: int = 0,
        ) -> str:
            more = ("--security-opt", "unmask=ALL") if unmasked else ()
            around = (
                "run",
                *(OUTER if filtered else UNCONFINED),
                *more,
                "-u",
                str(user),
                *mounts,
                "--rootfs",
                outer_rootfs,
            )
            return podman(*around, *inside, change + MAIN, *words, fails=fails)

        yield run
        return
    with running_docker(tool) as docker:
        tar = tmp_path / "outer.tar"
        subprocess.run(["tar", "-C", outer_rootfs, "-cf", tar, "."], check=True)
        docker("import", str(tar), "outer:test")

        def run(*words: str, unmasked: bool = False) -> str:
            more = ("--security-opt", "systempaths=unconfined") if unmasked else ()
            around = ("run", *UNCONFINED, *more, *mounts, "outer:test")
            return docker(*around, *inside, MAIN, *words)

        yield run


def test_a_container_whose_proc_is_masked(in_masked, busybox_rootfs: Path, context: Path) -> None:
    """RUN sees the processes around it, and reaches none of them."""
    shutil.copy(busybox_rootfs, context / "rootfs.tar")
    in_masked("import", "rootfs.tar", "busybox:test")
    (context / ".dockerignore").write_text("*\n")
    (context / "Dockerfile").write_text(SHARES)
    said = in_masked("build", ".")
    assert "SharedProcesses: RUN sees the processes around the build" in said
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if left_behind(path)]
    assert "no new /proc can be mounted: that of this container hides /proc/" in in_masked("info")
    # Where more is allowed, nothing of it is used.
    (context / "Dockerfile").write_text(f"{ANYWHERE}RUN test $$ = 1 && ! kill -0 2")
    said = in_masked("build", ".", unmasked=True)
    assert (said.count("CACHED"), "SharedProcesses" in said) == (1, False)  # the base image


# The launcher of a RUN, without what keeps its signals inside.
WITHOUT_SCOPE = """
from runtime import launcher
off = "from runtime.launch import descendants; descendants.keep_signals_inside = lambda: None"
launcher._CODE = launcher._CODE.replace("from runtime", off + "; from runtime", 1)
"""


@pytest.mark.parametrize("in_masked", ["podman"], indirect=True)
def test_signals_that_leave_a_run(in_masked, busybox_rootfs: Path, context: Path) -> None:
    shutil.copy(busybox_rootfs, context / "rootfs.tar")
    in_masked("import", "rootfs.tar", "busybox:test")
    # Before 6.12 there is nothing that would keep them.
    refused = "!" if can_scope_signals() else ""
    (context / "Dockerfile").write_text(f"FROM busybox:test\nRUN {refused} kill -0 1\n")
    in_masked("build", ".")
    (context / "Dockerfile").write_text("FROM busybox:test\nRUN kill -0 1\n")
    in_masked("build", ".", change=WITHOUT_SCOPE)


@pytest.mark.parametrize("in_masked", ["podman"], indirect=True)
def test_a_container_of_podmans_defaults(in_masked, busybox_rootfs: Path, context: Path) -> None:
    shutil.copy(busybox_rootfs, context / "rootfs.tar")
    in_masked("import", "rootfs.tar", "busybox:test", filtered=True)
    (context / ".dockerignore").write_text("*\n")
    (context / "Dockerfile").write_text(SHARES)
    said = in_masked("build", ".", filtered=True)
    assert "SharedProcesses: RUN sees the processes around the build" in said
    context.chmod(0o777)
    (context / "inside").rename(context / "roots")
    in_masked("import", "rootfs.tar", "busybox:test", filtered=True, user=1000)
    said = in_masked("build", ".", filtered=True, user=1000)
    assert "SharedProcesses: RUN sees the processes around the build" in said


WITHOUT_OVERLAY = """
from runtime.rootless import probe
probe.can_overlay = lambda folder: False
"""


@pytest.mark.parametrize("in_masked", ["podman"], indirect=True)
def test_entering_where_steps_are_copies(in_masked, busybox_rootfs: Path, context: Path) -> None:
    """Also when by then overlays can be mounted: the copy is all that there is."""
    shutil.copy(busybox_rootfs, context / "rootfs.tar")
    (context / ".dockerignore").write_text("*\n")
    (context / "Dockerfile").write_text(FAILS)
    in_masked("import", "rootfs.tar", "busybox:test")
    in_masked("build", ".", change=WITHOUT_OVERLAY, fails=1)
    in_masked("enter", "--", "sh", "-c", CHANGES, change=WITHOUT_OVERLAY, fails=5)
    said = in_masked("enter", "--", "sh", "-c", "cat /srv/*; ls -d /home /tmp; :")
    assert said == "more\nnew\n" + "".join(
        f"ls: {path}: No such file or directory\n" for path in ("/home", "/tmp")
    )
    changed = [line for line in in_masked("enter", "--adopt").splitlines() if line[1] == " "]
    assert [line for line in changed if line[0] == "D"] == ["D /bin/yes (-> busybox)", "D /tmp/"]
