"""Builds for other platforms: indexes, cross builds, emulated steps."""

import io
import json
import platform as machine
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

OWN = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(machine.machine(), "")
OTHER = "linux/arm64" if OWN != "linux/arm64" else "linux/amd64"
CROSS = """\
FROM --platform=$BUILDPLATFORM busybox:test AS build
RUN echo shared > /shared
ARG TARGETPLATFORM BUILDPLATFORM TARGETOS TARGETARCH
RUN echo "$BUILDPLATFORM makes $TARGETPLATFORM $TARGETOS $TARGETARCH" > /made
FROM scratch
COPY --from=build /shared /made /
WORKDIR /work
CMD ["/made"]
"""


@pytest.fixture
def cross(busybox_image, context: Path) -> Path:
    (context / "Dockerfile").write_text(CROSS)
    return context


def test_an_index_of_two_platforms(pybuild, cross, start_registry, peers, tmp_path) -> None:
    name = f"{start_registry().host}/x:1"
    layout, metadata = tmp_path / "layout", tmp_path / "metadata"
    flags = ["--annotation", "index:i=x", "--annotation", f"manifest[{OTHER}]:only=there"]
    outputs = ["-o", f"type=oci,tar=false,dest={layout}", "--push", "--metadata-file", metadata]
    done = pybuild("-t", name, f"--platform={OWN},{OTHER}", *flags, *outputs, cross)
    assert done.stderr.count("RUN echo shared") == 1, "what is not of the target is done once"
    skopeo = peers("skopeo")
    index = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert index["annotations"] == {"i": "x"}
    found = {f"{m['platform']['os']}/{m['platform']['architecture']}" for m in index["manifests"]}
    assert found == {OWN, OTHER}
    assert json.loads(metadata.read_text())["containerimage.descriptor"]["mediaType"].endswith(
        "image.index.v1+json"
    )
    for where in (OWN, OTHER):
        words = ["--override-os", "linux", "--override-arch", where.split("/")[1]]
        folder = tmp_path / where.replace("/", "-")
        peers("skopeo")(*words, "copy", f"oci:{layout}:1", f"dir:{folder}")
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest.get("annotations") == ({"only": "there"} if where == OTHER else None)
        config = json.loads((folder / manifest["config"]["digest"][7:]).read_text())
        assert f"linux/{config['architecture']}" == where
    assert pybuild("system", "check", "--deep").returncode == 0
    listed = pybuild("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert listed.count(name) == 1


def test_folders_of_platforms(pybuild, cross, tmp_path) -> None:
    pybuild(f"--platform={OWN}", "--platform", OTHER, "-o", tmp_path / "out", cross)
    for where in (OWN, OTHER):
        made = (tmp_path / "out" / where.replace("/", "_") / "made").read_text()
        assert made == f"{OWN} makes {where} linux {where.split('/')[1]}\n"
    pybuild(f"--platform={OTHER},{OWN}", "-o", f"type=tar,dest={tmp_path}/out.tar", cross)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert f"{OTHER.replace('/', '_')}/made" in tar.getnames()


def test_one_other_platform(pybuild, cross) -> None:
    pybuild("-t", "x:1", "--platform", OTHER, cross)
    shown = pybuild("inspect", "-f", "{{.Os}}/{{.Architecture}}", "x:1").stdout.strip()
    assert shown == OTHER


def test_a_docker_archive_holds_one(pybuild, cross, tmp_path) -> None:
    words = [f"--platform={OWN},{OTHER}", "-o", f"type=docker,dest={tmp_path}/x.tar"]
    done = pybuild(*words, cross, check=False)
    assert "a docker archive holds one platform" in done.stderr
    assert "hint: use type=oci" in done.stderr


@pytest.fixture
def foreign(pybuild, busybox_rootfs: Path, tmp_path: Path) -> str:
    """Return an image whose /bin/sh is of another architecture, as far as anybody can tell."""
    pybuild("import", "--platform", OTHER, busybox_rootfs, "foreign:1")
    return "foreign:1"


def test_steps_for_others_need_an_emulator(pybuild, foreign, context) -> None:
    (context / "Dockerfile").write_text(f"FROM {foreign}\nCOPY Dockerfile /\nWORKDIR /x\n")
    pybuild("-t", "x:1", "--platform", OTHER, context)
    (context / "Dockerfile").write_text(f"FROM {foreign}\nRUN touch /x\n")
    # In a mount namespace of its own no binfmt_misc is to be seen.
    script = 'umount /proc/sys/fs/binfmt_misc 2>/dev/null; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *pybuild.command("--platform", OTHER, context)],
        env=pybuild.full_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"Dockerfile:2: RUN for {OTHER} on {OWN}: binfmt_misc is not mounted" in done.stderr
    assert "hint: install qemu-user-static" in done.stderr


@pytest.mark.skipif(OWN != "linux/amd64", reason="the foreign program below is for arm64")
def test_an_emulated_step(pybuild, busybox_rootfs, context, tool, tmp_path) -> None:
    qemu = tool("qemu-aarch64-static")
    foreign = tmp_path / "foreign.tar"
    shutil.copy(busybox_rootfs, foreign)
    with tarfile.open(foreign, "a") as archive:
        member = tarfile.TarInfo("bin/hello")
        data = hello_for_arm64()
        member.size, member.mode = len(data), 0o755
        archive.addfile(member, io.BytesIO(data))
    pybuild("import", "--platform", "linux/arm64", foreign, "foreign:1")
    text = 'FROM foreign:1\nRUN ["/bin/hello"]\n'
    (context / "Dockerfile").write_text(text)
    # A binfmt_misc of its own does no other test any harm.
    magic = (
        r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
        f"{qemu}:F"
    )
    script = (
        "mountpoint -q /proc/sys/fs/binfmt_misc ||"
        " mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || exit 98;"
        " test -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ||"
        ' printf %s "$0" > /proc/sys/fs/binfmt_misc/register || exit 99; exec "$@"'
    )
    command = pybuild.command("--progress=plain", "--platform", "linux/arm64", context)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, magic, *command],
        env=pybuild.full_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hello from arm64" in done.stderr


def hello_for_arm64() -> bytes:
    """Return a static program for arm64 that writes a line: two system calls, no library."""
    text = b"hello from arm64\n"
    code = b"".join(
        word.to_bytes(4, "little")
        for word in (
            0xD2800020,  # mov x0, #1
            0x100000E1,  # adr x1, text (7 words on)
            0xD2800002 | len(text) << 5,  # mov x2, #len
            0xD2800808,  # mov x8, #64 (write)
            0xD4000001,  # svc #0
            0xD2800000,  # mov x0, #0
            0xD2800BA8,  # mov x8, #93 (exit)
            0xD4000001,  # svc #0
        )
    )
    base, start = 0x400000, 64 + 56
    size = start + len(code) + len(text)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += number(2, 2) + number(183, 2) + number(1, 4) + number(base + start, 8)
    header += number(64, 8) + number(0, 8) + number(0, 4) + number(64, 2) + number(56, 2)
    header += number(1, 2) + number(64, 2) + number(0, 2) + number(0, 2)
    program = number(1, 4) + number(5, 4) + number(0, 8) + number(base, 8) + number(base, 8)
    program += number(size, 8) + number(size, 8) + number(0x1000, 8)
    return header + program + code + text
