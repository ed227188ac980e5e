"""Images that are made to mislead the runtime: each is refused, or runs as a harmless one would."""

import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture
def image_with(pybuild, busybox_rootfs, tmp_path: Path):
    """Return a function: the name of a busybox image with links and files of the test's."""

    def make(links: dict[str, str], files: dict[str, str] | None = None) -> str:
        replaced = {*links, *(files or {})}
        path = tmp_path / "hostile.tar"
        with tarfile.open(busybox_rootfs) as source, tarfile.open(path, "w") as target:
            for member in source:
                if member.name not in replaced:
                    target.addfile(member, source.extractfile(member) if member.isreg() else None)
            for name, to in links.items():
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, to
                target.addfile(member)
            for name, text in (files or {}).items():
                import io

                member = tarfile.TarInfo(name)
                member.size = len(text)
                target.addfile(member, io.BytesIO(text.encode()))
        pybuild("import", path, "hostile")
        return "hostile"

    return make


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["/root", "tmp"])
def test_the_kernels_file_systems_need_directories(pybuild, image_with, context, name, target):
    image = image_with({name: target})
    done = pybuild("run", "--rm", image, "true", check=False)
    assert done.returncode == 125
    assert f"mount on /{name}: the image has a symlink" in done.stderr
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN true\n")
    done = pybuild("build", context, check=False)
    assert done.returncode == 1
    assert f"Dockerfile:2: mount on /{name}: the image has a symlink" in done.stderr


def test_a_step_cannot_make_proc_a_symlink_for_the_next(pybuild, busybox_image, context):
    with tarfile.open(context / "proc.tar", "w") as archive:
        member = tarfile.TarInfo("proc")
        member.type, member.linkname = tarfile.SYMTYPE, "/root"
        archive.addfile(member)
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nADD proc.tar /\nRUN echo 61 > /root/sys/vm/swappiness\n"
    )
    before = Path("/proc/sys/vm/swappiness").read_text()
    done = pybuild("build", context, check=False)
    assert done.returncode == 1
    assert "a directory has to be" in done.stderr
    assert Path("/proc/sys/vm/swappiness").read_text() == before


@pytest.mark.parametrize("point", ["/proc", "/proc/sys", "/proc/version", "/m"])
def test_nothing_is_mounted_over_proc(pybuild, image_with, tmp_path, point):
    image = image_with({"m": "/proc"})
    source = tmp_path / "hostile.tar" if point == "/proc/version" else tmp_path
    done = pybuild("run", "--rm", "-v", f"{source}:{point}", image, "true", check=False)
    assert done.returncode == 125
    assert f"mount on {point}: nothing may be mounted on or inside /proc" in done.stderr


def test_a_generated_file_does_not_land_in_proc(pybuild, image_with):
    image = image_with({"etc/hosts": "/proc/sys/kernel/core_pattern"})
    done = pybuild("run", "--rm", image, "true", check=False)
    assert done.returncode == 125
    assert "mount on /etc/hosts" in done.stderr


def test_files_that_tools_show_of_their_own_in_proc(pybuild, busybox_image, tmp_path):
    (tmp_path / "cpus").write_text("one\n")
    mount = f"{tmp_path / 'cpus'}:/proc/cpuinfo"
    assert (
        pybuild("run", "--rm", "-v", mount, busybox_image, "cat", "/proc/cpuinfo").stdout == "one\n"
    )


@pytest.mark.parametrize(
    ("passwd", "group"),
    [
        ("bob:x:4294967295:1:::\n", ""),
        ("bob:x:1000:4294967295:::\n", ""),
        ("bob:x:1000:1000:::\n", "g:x:4294967295:bob\n"),
    ],
)
def test_an_id_that_means_root_to_the_kernel_is_refused(pybuild, image_with, passwd, group):
    files = {"etc/passwd": f"root:x:0:0::/root:/bin/sh\n{passwd}", "etc/group": group}
    done = pybuild("run", "--rm", "-u", "bob", image_with({}, files), "id", check=False)
    assert done.returncode == 125
    assert "4294967295 is out of range" in done.stderr


def test_a_dangling_link_to_a_generated_file(pybuild, image_with, context):
    """As systemd-resolved's root file systems have it; what was made for it is gone afterwards."""
    image = image_with({"etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf"})
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN test -s /etc/resolv.conf\n")
    pybuild("build", "-t", "built", context)
    assert pybuild("run", "--rm", "built", "cat", "/etc/resolv.conf").stdout
    layer = pybuild("inspect", "-f", "{{json .RootFS.Layers}}", "built").stdout
    # The empty layer: neither the link's target nor its folders are in it.
    assert "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef" in layer
