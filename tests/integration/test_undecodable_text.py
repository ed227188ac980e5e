"""Bytes that are no UTF-8, wherever a build takes text from: they go through, as with docker."""

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

NAME = b"bad\xff\xfename"

DOCKERFILE = b"""\
FROM %(base)s
ARG A=\xfa
ENV E=\xfb$A
LABEL l=\xff
COPY %(name)s /\xfc
COPY ["%(name)s", "/x\xfd"]
COPY <<EOF /doc
in a heredoc \xff
EOF
WORKDIR /w\xfe
RUN echo \xff\xfe "$E" >/out; echo \xff
RUN --mount=type=cache,id=c\xff,target=/c\xff --mount=target=/b\xff,source=%(name)s cp /b\xff /bound
COPY --from=%(base)s /bin/busy* /s\xff/
CMD echo \xff
"""


@pytest.fixture
def undecodable(tmp_path: Path, busybox_image: str) -> bytes:
    """Return a context whose folder, files and Dockerfile have such names."""
    folder = os.fsencode(tmp_path) + b"/dir\xff"
    os.mkdir(folder)
    with open(folder + b"/" + NAME, "wb") as file:
        file.write(b"bytes\n")
    with open(folder + b"/Dockerfile\xfe", "wb") as file:
        file.write(DOCKERFILE % {b"base": busybox_image.encode(), b"name": NAME})
    return folder


def test_a_build_takes_any_bytes(pybuild, undecodable: bytes, tmp_path: Path) -> None:
    context = os.fsdecode(undecodable)
    args = ("-t", "x", "-f", os.fsdecode(undecodable + b"/Dockerfile\xfe"), context)
    pybuild(*args)
    out = os.fsencode(tmp_path) + b"/out\xff"
    again = pybuild(*args, "-o", f"type=local,dest={os.fsdecode(out)}")
    assert again.stderr.count(" CACHED") == 8
    found = {
        name: Path(os.fsdecode(out + b"/" + name)).read_bytes()
        for name in (b"\xfc", b"x\xfd", b"doc", b"out", b"bound")
    }
    assert found == {
        b"\xfc": b"bytes\n",
        b"x\xfd": b"bytes\n",
        b"doc": b"in a heredoc \xff\n",
        b"out": b"\xff\xfe \xfb\xfa\n",
        b"bound": b"bytes\n",
    }
    assert os.path.isdir(out + b"/w\xfe")
    pybuild("-t", "x", *args[2:])
    config = json.loads(pybuild("inspect", "x").stdout)[0]["Config"]
    assert config["Labels"] == {"l": "\ufffd"}
    assert "E=\ufffd\ufffd" in config["Env"]
    assert config["WorkingDir"] == "/w\ufffd"
    assert "echo \ufffd" in pybuild("history", "--no-trunc", "x").stdout
    pybuild("cache", "ls")


@pytest.mark.parametrize(
    "line",
    [b"RUN exit 3 # \xff", b"COPY no\xff /", b"FROM b\xff", b"FOO \xff", b"COPY --from=\xff a b"],
)
def test_an_error_names_them(pybuild, undecodable: bytes, busybox_image: str, line: bytes) -> None:
    text = b"FROM %s\n%s\n" % (busybox_image.encode(), line)
    result = pybuild("-f", "-", os.fsdecode(undecodable), input=text, check=False)
    assert result.returncode == 1
    assert "error: Dockerfile:2" in result.stderr
    assert "bug in pybuild" not in result.stderr
