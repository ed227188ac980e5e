"""No line of a step's output is lost or cut: not in plain, not in rawjson, not in the log."""

import json
import re
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

AWK = "awk 'BEGIN { for (i = 0; i < %d; i++) printf \"%%0%dd\\n\", i }'"
# Its name, its command, what it writes, how the build ends.
STEPS: dict[str, tuple[str, bytes, int]] = {
    "five megabytes": (
        AWK % (50_000, 100),
        b"".join(b"%0100d\n" % number for number in range(50_000)),
        0,
    ),
    "a megabyte without an end": (
        "head -c 1000000 /dev/zero | tr '\\0' x",
        b"x" * 1_000_000,
        0,
    ),
    "no UTF-8": (
        "printf 'a\\377b\\200\\n\\303\\n\\0\\033[31mred\\n'",
        b"a\xffb\x80\n\xc3\n\0\x1b[31mred\n",
        0,
    ),
    "a bar": (
        "for i in 10 50 100; do printf '\\r%s%%' $i; done; printf '\\r\\ndone\\n'",
        b"\r10%\r50%\r100%\r\ndone\n",
        0,
    ),
    "the last words of a failure": (
        AWK % (20_000, 20) + "; printf 'no newline'; exit 7",
        b"".join(b"%020d\n" % number for number in range(20_000)) + b"no newline",
        1,
    ),
    "nothing but newlines": ("yes '' | head -n 5000", b"\n" * 5000, 0),
}


def dockerfile(image: str, command: str) -> str:
    return f"FROM {image}\nRUN <<'END'\n{command}\nEND\n"


def as_lines(output: bytes) -> bytes:
    """Return `output` as plain progress has it: a return ends a line, the last line ends too."""
    text = output.replace(b"\r\n", b"\n").lstrip(b"\r").replace(b"\r", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def plain_output(stderr: bytes) -> dict[bytes, bytes]:
    """Return what each step of a plain display wrote: its name -> its lines, with their ends."""
    names: dict[bytes, bytes] = {}
    outputs: dict[bytes, list[bytes]] = {}
    for number, rest in re.findall(rb"^#(\d+) (.*)\n", stderr, re.MULTILINE):
        if number not in names:
            names[number] = rest
        elif match := re.match(rb"\d+\.\d+ (.*)", rest, re.DOTALL):
            outputs.setdefault(names[number], []).append(match[1] + b"\n")
    return {name: b"".join(parts) for name, parts in outputs.items()}


def json_output(stderr: bytes) -> dict[str, bytes]:
    """Return what each step of a rawjson display wrote."""
    names: dict[str, str] = {}
    outputs: dict[str, bytes] = {}
    for line in stderr.splitlines():
        if not line.startswith(b"{"):
            continue
        status = json.loads(line)
        names.update((vertex["digest"], vertex["name"]) for vertex in status.get("vertexes", ()))
        for log in status.get("logs", ()):
            name = names[log["vertex"]]
            outputs[name] = outputs.get(name, b"") + b64decode(log["data"])
    return outputs


@pytest.fixture
def build(pybuild, busybox_image, context) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Return a function: build(text, "plain") builds a Dockerfile; its output is bytes."""

    def call(text: str, kind: str) -> subprocess.CompletedProcess[bytes]:
        (context / "Dockerfile").write_text(text)
        return subprocess.run(
            pybuild.command("--no-cache", f"--progress={kind}", context),
            env=pybuild.full_environment({}),
            capture_output=True,
            check=False,
        )

    return call


def logs(root: Path) -> list[bytes]:
    """Return the logs of all steps."""
    return [path.read_bytes() for path in sorted(root.glob("logs/*/*.log"))]


@pytest.mark.parametrize("name", STEPS)
def test_every_byte_arrives(name: str, build, busybox_image, store_root) -> None:
    command, output, code = STEPS[name]
    text = dockerfile(busybox_image, command)
    plain = build(text, "plain")
    assert plain.returncode == code
    (shown,) = plain_output(plain.stderr).values()
    assert shown == as_lines(output)
    raw = build(text, "rawjson")
    assert list(json_output(raw.stderr).values()) == [output]
    assert logs(store_root) == [output, output]


def test_eight_steps_at_once(build, busybox_image, store_root) -> None:
    count, width = 10_000, 60
    stages = [
        f"FROM {busybox_image} AS s{stage}\n"
        f"RUN awk 'BEGIN {{ for (i = 0; i < {count}; i++) printf \"{stage} %0{width}d\\n\", i }}'\n"
        for stage in range(8)
    ]
    copies = [f"COPY --from=s{stage} /etc/passwd /p{stage}\n" for stage in range(8)]
    text = "".join([*stages, f"FROM {busybox_image}\n", *copies])
    wanted = [
        b"".join(b"%d %0*d\n" % (stage, width, number) for number in range(count))
        for stage in range(8)
    ]
    plain = build(text, "plain")
    assert plain.returncode == 0, plain.stderr[-2000:]
    assert sorted(plain_output(plain.stderr).values()) == wanted
    raw = build(text, "rawjson")
    assert sorted(json_output(raw.stderr).values()) == wanted
    assert sorted(logs(store_root)) == sorted([*wanted, *wanted])


def test_quiet_and_none(pybuild, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo hello\n")
    quiet = pybuild("-q", context)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", quiet.stdout)
    assert quiet.stderr == ""
    nothing = pybuild(context, env={"BUILDKIT_PROGRESS": "none"})
    assert (nothing.stdout, nothing.stderr) == ("", "")
    named = pybuild("--progress=quiet", context)
    assert (named.stdout, named.stderr) == (quiet.stdout, "")
    refused = pybuild("--progress=tty", context, check=False)
    assert refused.returncode == 1
    assert "stderr is no terminal" in refused.stderr
