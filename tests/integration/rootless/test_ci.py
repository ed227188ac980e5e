"""pybuild where user namespaces and mounts are forbidden: what can be built still is."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

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
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if left_behind(path)]


def left_behind(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(f"sleep\0{SLEEP_S}\0".encode())
    except OSError:  # it has just ended
        return False
