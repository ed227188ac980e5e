"""Runs in the emulated machine: builds without end, and says what is done, until the power goes.

The next boot is told, in `done.json`, what was said before, and proves it first.
"""

import io
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from pybuild.cli.main import run

CONTEXT = Path("/tmp/context")
DOCKERFILE = """\
FROM busybox:test AS one
COPY data /data
RUN cat /data/* | sha256sum > /sum && head -c 500000 /dev/urandom > /random
FROM busybox:test
COPY --from=one /sum /random /from/
RUN cp -r /from /again && rm /again/random && touch -d 2020-01-01 /again/old
"""
STEPS = 4


def say(*words: object) -> None:
    """Send one line to the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def command(*words: str, code: int = 0) -> str:
    """Run the command line in this process; return what it printed. Another exit code ends us."""
    kept = os.dup(1), os.dup(2)
    with open("/tmp/output", "wb+") as output:
        for fd in (1, 2):
            os.dup2(output.fileno(), fd)
        found = run(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, before in zip((1, 2), kept, strict=True):
            os.dup2(before, fd)
            os.close(before)
    text = Path("/tmp/output").read_text()
    if found != code:
        say("wrong", *words, "exit", found)
        raise SystemExit(text)
    return text


def write_context(number: int) -> str:
    """Make the build context of a number; return what /from/sum says in its image."""
    data = CONTEXT / "data"
    data.mkdir(parents=True, exist_ok=True)
    (CONTEXT / "Dockerfile").write_text(DOCKERFILE)
    source = random.Random(number)
    for name in range(10):
        (data / f"{name}").write_bytes(source.randbytes(30_000))
    joined = b"".join((data / f"{name}").read_bytes() for name in range(10))
    return subprocess.run(
        ["sha256sum"], input=joined, capture_output=True, check=True
    ).stdout.decode()


def build(number: int) -> tuple[str, int]:
    """Build the image of a number; return its ID and how many steps were cached."""
    write_context(number)
    text = command("--progress=plain", "-t", f"x:{number}", str(CONTEXT))
    found = re.search(r"writing image (sha256:[0-9a-f]{64})", text)
    assert found, text
    return found[1], len(re.findall(r"^#\d+ CACHED", text, re.M)) - 1  # one line is of FROM


def prove(done: dict[str, str], tags: dict[str, str]) -> None:
    """Check that what was said to be done is, and print `wrong` where it is not."""
    problems = command("system", "check", "--deep")
    if problems != "clean\n":
        say("wrong check", problems)
    listed = command("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").split()
    names = dict(zip(listed[::2], listed[1::2], strict=True))
    for name, image_id in tags.items():
        if names.get(name, "") != image_id:
            say("wrong tag", name, image_id, "is", names.get(name))
    for number, image_id in done.items():
        found, cached = build(int(number))
        if (found, cached) != (image_id, STEPS):
            say("wrong", number, image_id, "is", found, "cached", cached)


def main() -> None:
    """Prove what was done, build what was not, then go on for ever."""
    state = json.loads(Path("done.json").read_bytes())
    number = state["next"]
    if number == 0:
        command("import", "rootfs.tar", "busybox:test")
    prove(state["done"], state["tags"])
    began = time.monotonic()
    expected = write_context(number)
    say("done", number, build(number)[0])
    took_s = time.monotonic() - began
    text = command("run", "--rm", f"x:{number}", "cat", "/from/sum", "/again/sum")
    if text != expected * 2:
        say("wrong content", text)
    command("system", "check")
    say("ready", took_s)
    while True:
        number += 1
        say("begin", number)
        image_id, _ = build(number)
        say("done", number, image_id)
        command("tag", f"x:{number}", f"tagged:{number}")
        say("tag", f"tagged:{number}", image_id)
        command("rmi", f"x:{number}")
        say("tag", f"x:{number}")


if __name__ == "__main__":
    assert isinstance(sys.stdout, io.TextIOWrapper)
    main()
