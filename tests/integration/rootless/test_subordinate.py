"""pybuild as an ordinary user with subordinate ids: all that root can do, and the same images."""

import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

UID, FIRST_SUBID = 4321, 231072
TIME = "1700000000"
OWNERS = """\
FROM busybox:test
RUN mkdir -p /opt/d && echo one > /opt/one && echo two > /opt/two && chown 33:44 /opt/one \\
    && chmod 4755 /opt/one && ln /opt/one /opt/again && mkfifo /opt/p && chown -h 5:6 /opt/p
COPY --chown=1000:1000 data /srv/data
RUN rm /opt/two && rm -r /home && mkdir -m 700 /home && chown 1000 /home && touch /home/new
USER app
WORKDIR /work/here
RUN id -u > /tmp/who && cat /srv/data/text
"""


# The store on an overlay: there no other one can be mounted.
ON_OVERLAY = """
for name in l u w home/.local; do mkdir -p "$house/$name"; done
mount -t overlay -o "lowerdir=$house/l,upperdir=$house/u,workdir=$house/w" o "$house/home/.local"
chown 4321 "$house/home/.local"
"""


@pytest.fixture
def user(make_user):
    return make_user()


def write_context(folder: Path, text: str) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "data/text").write_text("text\n")
    (folder / "Dockerfile").write_text(text)
    for path in (folder / "data/text", folder / "data"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


def test_the_whole_way_of_an_image(user, start_registry) -> None:
    write_context(user.home / "context", OWNERS)
    user("import", "rootfs.tar", "busybox:test")
    name = f"{start_registry().host}/rootless/x:1"
    user("build", "-t", name, "context")
    device = ("--device", "/dev/full:/dev/as-full")
    script = "test -c /dev/as-full; id -u; stat -c %u:%g:%a /opt/one /srv/data/text /home"
    seen = user("run", "--rm", *device, "-u", "0", name, "sh", "-c", script).stdout.split()
    assert seen == ["0", "33:44:4755", "1000:1000:644", "1000:0:700"]
    user("push", name)
    user("save", "-o", "x.tar", name)
    user("rmi", name)
    user("pull", name)
    assert user("run", "--rm", name, "cat", "/tmp/who").stdout == "1000\n"
    user("rmi", name)
    assert name in user("load", "-i", "x.tar").stdout
    assert user("run", "--rm", name, "cat", "/tmp/who").stdout == "1000\n"
    assert user("system", "check", "--deep").stdout == "clean\n"
    store = user.home / ".local/share/pybuild"
    owners = {path.stat().st_uid for path in store.glob("layers/sha256/*/fs/opt/one")}
    assert (owners, store.stat().st_uid) == ({FIRST_SUBID + 32}, UID)


@pytest.mark.parametrize("before", ["", ON_OVERLAY], ids=["overlay", "copies"])
def test_an_image_is_the_one_that_root_builds(make_user, pybuild, tmp_path: Path, before) -> None:
    """Times are rewritten; all else of each layer, and the config, is as it comes."""
    user = make_user(before=before)
    ours = write_context(tmp_path / "context", OWNERS)
    shutil.copytree(ours, user.home / "context")
    shutil.copy(user.home / "rootfs.tar", tmp_path)
    words = ("build", "--build-arg", f"SOURCE_DATE_EPOCH={TIME}", "-q", "-o")
    to = "type=oci,dest={},rewrite-timestamp=true"
    pybuild("import", "rootfs.tar", "busybox:test", cwd=tmp_path)
    user("import", "rootfs.tar", "busybox:test")
    of_root = pybuild(*words, to.format(tmp_path / "x.tar"), ours).stdout
    built = user(*words, to.format(user.home / "x.tar"), "context")
    of_user = built.stdout
    assert of_root == of_user
    assert of_root.startswith("sha256:")


def test_a_store_is_for_those_who_made_it(user, pybuild) -> None:
    user("import", "rootfs.tar", "busybox:test")
    store = user.home / ".local/share/pybuild"
    refused = pybuild("images", env={"PYBUILD_ROOT": str(store)}, check=False)
    assert refused.returncode == 1
    assert "it was made with 65537 ids, this process works by root" in refused.stderr
