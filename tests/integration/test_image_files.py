"""What is said about the files of images: image tree, image diff, blame."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

FIRST = """\
FROM {base} AS first
ENV A=1 B=2
COPY data /srv/data

RUN head -c 5000 /dev/zero > /big && mkdir -p /d/sub && echo x > /d/sub/x && ln -s d /link
RUN rm /big && chmod 600 /srv/data
LABEL l=1
"""
SECOND = """\
FROM {base} AS first
ENV A=3
COPY data /srv/data
RUN mkdir -p /d/sub && echo yy > /d/sub/x && ln -s etc /link
USER 1000
"""


@pytest.fixture
def images(pybuild, busybox_image, context: Path) -> tuple[str, str]:
    """Build two images that differ."""
    (context / "data").write_text("data\n")
    for number, text in enumerate((FIRST, SECOND), 1):
        (context / "Dockerfile").write_text(text.format(base=busybox_image))
        pybuild("build", "-q", "-t", f"files:{number}", context)
    return "files:1", "files:2"


def test_tree(pybuild, images) -> None:
    (base, copy, big, gone) = json.loads(
        pybuild("image", "tree", "--format=json", "files:1").stdout
    )
    assert (copy["number"], copy["size_bytes"], copy["hidden_bytes"]) == (2, 5, 5)
    assert copy["created_by"].startswith("COPY data /srv/data")
    assert (big["size_bytes"], big["hidden_bytes"]) == (5002, 5000)
    assert big["biggest"][0] == {"path": "/big", "size_bytes": 5000}
    assert (gone["deletions"], gone["hidden_bytes"]) == (1, 0)
    assert base["files"] > 3
    shown = pybuild("image", "tree", "-n", "1", "files:1").stdout.splitlines()
    assert shown[0].split() == ["LAYER", "SIZE", "HIDDEN", "FILES", "CREATED", "BY"]
    assert ["5kB", "/big"] in [line.split() for line in shown]
    assert shown[-1].endswith("5kB of it hidden by later layers")


def test_diff(pybuild, images) -> None:
    assert pybuild("image", "diff", "files:1", "files:2").stdout.splitlines() == [
        "~ Env A: 1 → 3",
        "- Env B: 2",
        "- Labels l: 1",
        "+ User: 1000",
        "C /d/sub/x (content, +1B)",
        "C /link (target d → etc)",
        "C /srv/data (mode 0600 → 0644)",
    ]
    assert pybuild("image", "diff", "files:1", "files:1").stdout == ""


def test_diff_between_layers(pybuild, images) -> None:
    done = pybuild("image", "diff", "files:1#2", "files:1#3")
    assert done.stdout.splitlines() == [
        "A /big (+5kB)",
        "A /d",
        "A /d/sub",
        "A /d/sub/x (+2B)",
        "A /link",
    ]
    done = pybuild("image", "diff", "--format", "json", "files:1#3", "files:1")
    assert json.loads(done.stdout)["files"] == [
        {"letter": "D", "path": "/big", "what": [], "size_bytes": -5000},
        {"letter": "C", "path": "/srv/data", "what": ["mode 0644 → 0600"], "size_bytes": 0},
    ]
    done = pybuild("image", "diff", "files:1#9", "files:1", check=False)
    assert (done.returncode, done.stderr) == (1, "error: files:1#9: files:1 has 4 layers\n")


def test_blame(pybuild, images) -> None:
    form = "{{.Layer}} {{.Action}} {{.Dockerfile}}:{{.Line}} {{.Stage}} {{.Step}}"
    done = pybuild("blame", "--format", form, "files:1", "link/sub/x")
    assert done.stdout.startswith("3 wrote Dockerfile:5 first RUN head -c 5000"), done.stdout
    done = pybuild("blame", "--all", "--format", form, "files:1", "/big")
    assert done.stdout.splitlines() == [
        "4 deleted Dockerfile:6 first RUN rm /big && chmod 600 /srv/data",
        "3 wrote Dockerfile:5 first RUN head -c 5000 /dev/zero > /big && mkdir -p /d/sub && ech…",
    ]
    shown = pybuild("blame", "files:1", "/bin/busybox").stdout.splitlines()
    assert shown[0].split() == ["LAYER", "ACTION", "PLACE", "STEP", "CREATED", "BUILD"]
    assert "not built here" in shown[1]


def test_blame_of_what_never_was(pybuild, images) -> None:
    done = pybuild("blame", "files:1", "/no/such", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: blame files:1: no layer has /no/such"
    done = pybuild("blame", "nothing", "/x", check=False)
    assert (done.returncode, done.stderr) == (1, "error: no such image: nothing\n")
