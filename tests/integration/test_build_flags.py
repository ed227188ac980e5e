"""Flags of `build` whose effect is seen inside a RUN, or in what is written beside the image."""

import glob
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture
def probe(pybuild, busybox_image, context: Path):
    """Return a function: probe(command, *flags) builds a RUN and returns what it wrote."""

    def run(command: str, *flags: str) -> str:
        text = f"FROM {busybox_image}\nRUN {command} > /seen\nFROM scratch\nCOPY --from=0 /seen /\n"
        (context / "Dockerfile").write_text(text)
        out = context.parent / "out"
        pybuild("build", "-o", out, *flags, context)
        return (out / "seen").read_text()

    return run


def test_hosts(probe) -> None:
    flags = ["--add-host", "one:10.1.2.3", "--add-host=two=[2001:db8::1]"]
    lines = probe("cat /etc/hosts", *flags, "--add-host", "up:host-gateway").splitlines()
    assert lines[-3:] == ["10.1.2.3\tone", "2001:db8::1\ttwo", "127.0.0.1\tup"]
    assert "10.1.2.3" not in probe("cat /etc/hosts"), "they count in the cache's key"


def test_size_of_shared_memory(probe) -> None:
    assert "size=65536k" in probe("grep ' /dev/shm ' /proc/mounts")
    assert "size=2048k" in probe("grep ' /dev/shm ' /proc/mounts", "--shm-size", "2m")


def test_limits(probe) -> None:
    command = "sh -c 'ulimit -Sn; ulimit -Hn'"
    assert probe(command, "--ulimit", "nofile=123:456") == "123\n456\n"
    assert probe("sh -c 'ulimit -c'", "--ulimit", "core=0") == "0\n"


def test_parent_of_cgroups(probe) -> None:
    # Where no tree of cgroups can be written to, there is none to see.
    seen = probe("cat /proc/self/cgroup", "--cgroup-parent", "/pybuild-test-parent")
    before = probe("cat /proc/self/cgroup", "--cgroup-parent", "/pybuild-other-parent")
    assert seen == before, "it is no part of the key: the second build is cached"
    # A parent that somebody named is his: as with other tools, it stays.
    for folder in glob.glob("/sys/fs/cgroup/**/pybuild-test-parent", recursive=True):
        os.rmdir(folder)


def test_what_is_written_beside_the_image(
    pybuild, busybox_image, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nLABEL a=1 b=2\n")
    iid, metadata = tmp_path / "iid", tmp_path / "metadata.json"
    words = ["--iidfile", str(iid), "--metadata-file", str(metadata), "--label", "b=3"]
    done = pybuild("build", "-q", "-t", "x:1", *words, "--label=c", context)
    image_id = pybuild("inspect", "-f", "{{.Id}}", "x:1").stdout.strip()
    assert done.stdout.strip() == iid.read_text() == image_id
    said = json.loads(metadata.read_text())
    assert said["containerimage.config.digest"] == said["containerimage.digest"] == image_id
    assert said["image.name"] == "docker.io/library/x:1"
    assert said["buildx.build.ref"]
    labels = pybuild("inspect", "-f", "{{json .Config.Labels}}", "x:1").stdout
    assert json.loads(labels) == {"a": "1", "b": "3", "c": ""}
    assert os.listdir(tmp_path / "context") == ["Dockerfile"]


@pytest.mark.parametrize(
    ("verb", "option"),
    [("build", "--iidfile"), ("build", "--metadata-file"), ("bake", "--metadata-file")],
)
def test_files_that_cannot_be_written(
    pybuild, busybox_image, context: Path, verb: str, option: str
) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\n")
    (context / "docker-bake.json").write_text('{"target": {"default": {}}}')
    before = pybuild("builds", "ls", "-q").stdout
    causes = {
        "none/x": "no such file or directory",
        "Dockerfile/x": "not a directory",
        ".": "is a directory",
        "n" * 255: "file name too long",
        "": "no such file or directory",
    }
    for path, cause in causes.items():
        words = [option, path] if verb == "bake" else [option, path, context]
        done = pybuild(verb, *words, cwd=context, check=False)
        assert (done.returncode, done.stderr) == (1, f"error: {option}: write {path}: {cause}\n")
    # Nothing was begun.
    assert pybuild("builds", "ls", "-q").stdout == before


def test_stages_with_names_of_their_own(pybuild, busybox_image, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS base\nRUN touch /base\nFROM base AS test\nRUN touch /test\n"
        "FROM base AS lint\nRUN touch /lint\nFROM base AS unused\nRUN false\n"
        'FROM base AS app\nCMD ["ls", "/base"]\n'
    )
    words = ["-t", "app:1", "-t", "test=test:1", "-t", "TEST=test:2", "--also", "lint"]
    done = pybuild("build", *words, context)
    assert "[lint 2/2] RUN touch /lint" in done.stderr
    assert done.stderr.count("RUN touch /base") == 1
    names = pybuild.image_names()
    assert {"app:1", "test:1", "test:2"} < names
    assert pybuild("run", "--rm", "test:2", "ls", "/test").stdout == "/test\n"
    assert pybuild("run", "--rm", "app:1").stdout == "/base\n"
    failed = pybuild("build", "--also", "unused", context, check=False)
    assert (failed.returncode, "RUN false" in failed.stderr) == (1, True)
    wrong = pybuild("build", "-t", "nothing=x:1", context, check=False)
    assert 'target stage "nothing" could not be found' in wrong.stderr
