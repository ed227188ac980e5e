"""Cold builds on stores of their own give the same digests; `repro` names what would not."""

import json
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM busybox:test AS tools
RUN mkdir -p /out/z /out/a && for n in 3 1 2; do echo $n > /out/$n; done
WORKDIR /made/here
COPY . /src
FROM busybox:test
COPY --from=tools /out /out
COPY --chmod=640 sub /sub
RUN ln -s /out/1 /link && cp -r /sub /copy && chmod 4755 /copy && mkfifo /pipe
ADD archive.tar /
LABEL a=b
"""


def project(folder: Path, newest_first: bool) -> Path:
    """Make a context; its files are made in one order or the other, now."""
    folder.mkdir()
    names = ["sub", "archive.tar", "Dockerfile", "one", "two"]
    for name in names[::-1] if newest_first else names:
        if name == "sub":
            (folder / "sub").mkdir()
            (folder / "sub/file").write_text("text\n" * 1000)
        else:
            (folder / name).write_text(DOCKERFILE if name == "Dockerfile" else f"{name}\n")
    return folder


def test_two_cold_builds(pybuild, busybox_rootfs, tmp_path: Path) -> None:
    seed = type(pybuild)(tmp_path / "seed")
    seed("import", busybox_rootfs, "busybox:test")
    seed("save", "-o", tmp_path / "base.tar", "busybox:test")
    said = []
    for number, options in enumerate((["-j", "1"], ["-j", "8"])):
        machine = type(pybuild)(tmp_path / f"store{number}")
        machine("load", "-q", "-i", tmp_path / "base.tar")
        context = project(tmp_path / f"in{number}", newest_first=bool(number))
        metadata = tmp_path / f"metadata{number}"
        output = f"type=oci,dest={tmp_path}/{number}.tar,rewrite-timestamp=true"
        environment = {"SOURCE_DATE_EPOCH": "1700000000", "TZ": ("UTC", "Asia/Tokyo")[number]}
        words = ["-o", output, "--metadata-file", metadata, *options, context]
        before = os.umask((0o022, 0o077)[number])
        cores = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(cores)} if number else cores)
            machine("-t", "x:1", *words, env=environment)
        finally:
            os.umask(before)
            os.sched_setaffinity(0, cores)
        found = json.loads(metadata.read_text())
        said.append([found["containerimage.config.digest"], found["containerimage.digest"]])
    assert said[0] == said[1]
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        (
            "RUN echo a > /a\nRUN mkdir /log /var/log; date > /var/log/x",
            "/var/log/x: ",
            "a log says",
        ),
        ("RUN echo $TZ > /zone", "/zone: size, content", "no cause is known"),
        ("RUN hostname > /name", "/name: size, content", "no cause is known"),
        (
            "RUN ls -U / > /dev/null; echo x | gzip > /x.gz; cat /proc/uptime >> /x.gz",
            "/x.gz",
            "-n",
        ),
        ("RUN touch -d @$(($(date +%s) - 99999999)) /old", "/old: time", "touch -d"),
    ],
)
def test_the_first_difference_is_named(pybuild, busybox_image, context, text, path, said) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN true\n{text}\n")
    done = pybuild("repro", context, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    line = 2 + len(text.splitlines())
    assert f"not reproducible: line {line}: {text.splitlines()[-1]}" in done.stdout
    assert f"  {path}" in done.stdout
    assert said in done.stdout


def test_what_is_reproducible(pybuild, busybox_image, context: Path) -> None:
    shutil.rmtree(context)
    project(context, newest_first=False)
    done = pybuild("repro", context, env={"SOURCE_DATE_EPOCH": None})
    assert "reproducible: 7 steps made the same files" in done.stdout
    assert "hint: set SOURCE_DATE_EPOCH" in done.stdout
    assert "order of the context's directories" in done.stdout
