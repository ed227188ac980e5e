"""pybuild as an ordinary user with one id: owners are kept where no file can have them."""

import io
import os
import shutil
import tarfile

import pytest

pytestmark = pytest.mark.kernel

TIME = "1700000000"
OWNERS = """\
FROM busybox:test AS one
RUN mkdir /opt && echo one > /opt/one && rm -r /home && mkdir /home && touch /home/new
COPY --chown=1000:1000 file /srv/file
COPY --chown=7:8 --chmod=4711 file /srv/again
COPY --chown=3:4 links /srv/links
RUN echo more >> /srv/file && cd /srv && mkdir -m 2775 d && chown 33:44 d file && chmod 4755 file \\
    && ln file again2 && mkfifo p && ln -s file l && chown -h 5:6 p l links/two && mv l d/m \\
    && cp -a p d/ \\
    && touch -h d/m && touch d/grouped && mkdir d/below
RUN test "$(echo $(stat -c %u:%g /srv/file /srv/d/m /srv/p))" = "33:44 5:6 5:6" \\
    && chown 9 /srv/d && chown -R :12 /srv/d && sed -i s/text/other/ /srv/file \\
    && chown 0:0 /srv/again
FROM busybox:test
COPY --from=one /srv /srv
RUN rm -r /home && mkdir -p /home/app && chown app /home/app
USER app
WORKDIR /home/app/work
RUN touch made && mkdir -m 700 d && ln -s made l && mkfifo d/p && umask 077 && cp made d/private \\
    && ! chown 0 made && test "$(id -u) $(stat -c %u made)" = "1000 1000" && id -G > groups
USER root
RUN su app -c 'touch /home/app/by-su; sh -c "id -u > /home/app/by-child"' && id -u > /home/me
"""


# The store on an overlay: there no other one can be mounted.
ON_OVERLAY = """
for name in l u w home/.local; do mkdir -p "$house/$name"; done
mount -t overlay -o "lowerdir=$house/l,upperdir=$house/u,workdir=$house/w" o "$house/home/.local"
chown 4321 "$house/home/.local"
"""


@pytest.fixture
def user(make_user):
    return prepared(make_user(subids=False))


def prepared(user):
    user("import", "rootfs.tar", "busybox:test")
    user.write("context/file", "text\n")
    return user


@pytest.mark.parametrize("before", ["", ON_OVERLAY], ids=["overlay", "copies"])
def test_owners_are_what_root_makes_them(make_user, pybuild, tmp_path, before) -> None:
    user = prepared(make_user(subids=False, before=before))
    user.write("context/Dockerfile", OWNERS)
    for name in ("one", "two"):
        user.write(f"context/links/{name}", "").unlink()
        (user.home / "context/links" / name).symlink_to("target")
    shutil.copytree(user.home / "context", tmp_path / "context", symlinks=True)
    shutil.copy(user.home / "rootfs.tar", tmp_path)
    pybuild("import", "rootfs.tar", "busybox:test", cwd=tmp_path)
    words = ("build", "--build-arg", f"SOURCE_DATE_EPOCH={TIME}", "-q", "-o")
    to = "type=oci,dest={},rewrite-timestamp=true"
    of_root = pybuild(*words, to.format(tmp_path / "x.tar"), tmp_path / "context").stdout
    assert user(*words, to.format(user.home / "x.tar"), "context").stdout == of_root


def test_other_users_are_emulated_and_a_build_says_so(user) -> None:
    run = user("run", "--rm", "-u", "1000", "busybox:test", "sh", "-c", "id -u; id -ur; id -g")
    assert run.stdout.split() == ["1000", "1000", "1000"]
    user.write("context/Dockerfile", "FROM busybox:test\nUSER app\nRUN chown root /etc/passwd\n")
    said = user("build", "context", check=False)
    assert said.returncode == 1
    assert said.stderr.count("EmulatedUser") == 1
    assert "chown: /etc/passwd: Operation not permitted" in said.stderr
    assert "hint: with a single id other owners and users are emulated" in said.stderr


DEBIAN = """\
FROM debian:bookworm
COPY package /p/DEBIAN
RUN mkdir -p /p/srv/spool && echo one > /p/srv/one && ln -s one /p/srv/link \\
    && chown 33:44 /p/srv/one && chown -h 5:6 /p/srv/link && cp /usr/bin/id /p/srv/id \\
    && chown 7:8 /p/srv/id && chmod 6755 /p/srv/id && dpkg-deb -b /p /p.deb && dpkg -i /p.deb
"""
POSTINST = """\
#!/bin/sh
set -e
useradd --system --uid 900 --create-home --home-dir /var/spool/demo demo
install -d -o demo -g tty -m 2750 /srv/spool/in
runuser -u demo -- touch /srv/spool/in/made
tar -C /srv -c one link | tar -C /var/spool/demo -x
chown -R :games /srv/spool
"""
CONTROL = """\
Package: p
Version: 1
Architecture: all
Maintainer: m <m@example.org>
Description: d
"""
INSTALLED = """\
/srv 0:0 755 
/srv/id 7:8 6755 
/srv/link 5:6 777 one
/srv/one 33:44 644 
/srv/spool 0:60 755 
/srv/spool/in 900:60 2750 
/srv/spool/in/made 900:60 644 
/var/spool/demo 900:900 755 
/var/spool/demo/link 5:6 777 one
/var/spool/demo/one 33:44 644 
uid=900(demo) gid=900(demo) euid=7(lp) egid=8(mail) groups=8(mail),900(demo)
uid=5(games) gid=60(games) groups=60(games)
127
"""


def test_a_package_is_installed_as_by_root(user, debian_rootfs_tar) -> None:
    shutil.copy(debian_rootfs_tar, user.home / "debian.tar")
    user("import", "debian.tar", "debian:bookworm")
    user.write("context/Dockerfile", DEBIAN)
    user.write("context/package/postinst", POSTINST).chmod(0o755)
    user.write("context/package/control", CONTROL)
    user("build", "-t", "x", "context")
    script = "find /srv /var/spool/demo ! -name '.*' -printf '%p %U:%G %m %l\\n' | sort"
    script += "; su demo -c /srv/id"
    # It keeps its capabilities for as long as it changes its groups, and no longer.
    script += "; setpriv --reuid games --regid games --init-groups"
    script += " sh -c 'id; setpriv --reuid 0 id 2> /dev/null; echo $?'"
    assert user("run", "--rm", "x", "sh", "-c", script).stdout == INSTALLED


def test_a_path_leads_the_supervisor_nowhere_but_the_caller(user) -> None:
    """The same path is a file of the host's and one of the container's."""
    victim = user.write("victim/file", "")
    up = "../../../../../../../../.."
    script = f"""
        mkdir -p {victim.parent} /jail && cd {victim.parent} && touch file /file /jail/file
        cp /bin/busybox /jail/ && ln -s /file /jail/link
        ln -s {victim} absolute && ln -s {up}{victim} upwards
        chown 1 {victim} && chown :2 {up}{victim} && stat -c %u:%g file
        chown 3:4 absolute && stat -c %u:%g file && chown 5:6 upwards && stat -c %u:%g file
        chown 7:8 /proc/1/root{victim} && stat -c %u:%g file
        su app -c 'touch /proc/1/root{victim}.new' && stat -c %u file.new
        chroot /jail /busybox chown 7:8 /../file link && stat -c %u:%g /jail/file /file
    """
    seen = user("run", "--rm", "busybox:test", "sh", "-c", script).stdout
    assert seen.split() == ["1:2", "3:4", "5:6", "7:8", "1000", "7:8", "0:0"]
    assert os.listxattr(victim) == []
    assert os.listdir(victim.parent) == ["file"]


def test_who_has_mounts_of_its_own_is_answered_about_these(user) -> None:
    inner = "mount -t tmpfs t /m && chown :9 /m && chmod 2755 /m && mkdir /m/in"
    inner += " && stat -c %u:%g /m/in"
    script = f"mkdir /m && chown 5:6 /m && unshare -m sh -c '{inner}' && stat -c %u:%g /m && ls /m"
    seen = user("run", "--rm", "--privileged", "busybox:test", "sh", "-c", script).stdout
    assert seen.split() == ["0:9", "5:6"]


def test_limits_that_nobody_handed_over_are_an_error(user) -> None:
    refused = user("run", "--rm", "--memory", "64m", "busybox:test", "true", check=False)
    assert refused.returncode == 125
    assert refused.stderr.startswith("error: limits: Permission denied (")
    assert "systemd-run --user --scope -p Delegate=yes" in refused.stderr


def test_info_says_what_would_give_more(user) -> None:
    said = user("info").stdout
    assert "mode:        rootless, with a single id\n" in said
    wanted = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 pybuilder"
    assert wanted in said
    assert "limits:      none: no cgroup v2 is handed to this user" in said


def test_a_pulled_layer_keeps_its_owners_and_devices(user) -> None:
    """A device cannot be made here: it stays in the layer's headers."""
    with tarfile.open(user.home / "devices.tar", "w") as archive:
        for name, kind in (("dev", tarfile.CHRTYPE), ("file", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.devmajor, member.devminor, member.uid = kind, 1, 7, 33
            archive.addfile(member, io.BytesIO())
    user("import", "devices.tar", "devices")
    user.write("context/Dockerfile", "FROM devices\nCOPY file /other\n")
    user("build", "-t", "x", "-o", f"type=oci,dest={user.home}/x.tar,compression=none", "context")
    with tarfile.open(user.home / "x.tar") as layout:
        names = [name for name in layout.getnames() if "blobs/sha256/" in name]
        layers = [layout.extractfile(name).read() for name in names]
    first = next(data for data in layers if b"ustar" in data and b"dev\0" in data)
    with tarfile.open(fileobj=io.BytesIO(first)) as layer:
        member = layer.getmember("dev")
    assert (member.ischr(), member.devminor, member.uid) == (True, 7, 33)
