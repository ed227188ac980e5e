"""Policies in comments: each is seen to do what it says, and to be told where people look."""

import hashlib
import http.server
import os
import shutil
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybuild.cli.build import SYNTAX, request_of
from pybuild.cli.buildshow import fields_of
from pybuild.cli.options import parse
from pybuild.cli.plan import as_json
from pybuild.engine.engine import Engine

pytestmark = pytest.mark.kernel

UUID = "cat /proc/sys/kernel/random/uuid"
COUNT = "--mount=type=cache,id={},target=/c echo >> /c/tries; n=$(cat /c/tries | wc -l)"


@pytest.fixture
def pybuild(shared_pybuild):
    """Return the command line on one store for all: each test has a Dockerfile of its own."""
    return shared_pybuild


@pytest.fixture
def write(context: Path) -> Callable[[str], Path]:
    """Return what writes a Dockerfile FROM busybox and returns the context."""

    def make(text: str) -> Path:
        (context / "Dockerfile").write_text(f"FROM busybox:test\n{text}")
        return context

    return make


def step(pybuild, text: str = "") -> dict[str, object]:
    """Return the last build's step whose text has `text`."""
    with Engine(str(pybuild.root)) as engine:
        shown = fields_of(engine.journal())
    (found,) = [item for item in shown["steps"] if text in item["name"]]
    return found


def build(pybuild, *words: str | Path) -> str | None:
    """Build as the command line does, in this process, and return the image's ID."""
    request = request_of(parse(SYNTAX, list(map(os.fspath, words))))
    with Engine(str(pybuild.root)) as engine:
        return engine.build(request, lambda _event: None).image_id


def cause(pybuild, text: str) -> list[str]:
    return [item["text"] for item in step(pybuild, text)["causes"]]


def age(pybuild, hours: int) -> None:
    """Let all that was recorded be so much older; what is remembered of whole builds goes."""
    shutil.rmtree(pybuild.root / "memos", ignore_errors=True)
    passed_ns = hours * 3_600_000_000_000
    with sqlite3.connect(pybuild.root / "records.db") as db:
        db.execute(
            "UPDATE records SET started_ns = started_ns - ?, ended_ns = ended_ns - ?",
            (passed_ns, passed_ns),
        )
        db.execute(
            "UPDATE memos SET value = CAST(value AS INTEGER) - ? WHERE namespace = 'ran'",
            (passed_ns,),
        )
    db.close()


def test_a_retry_begins_on_a_clean_layer(pybuild, write) -> None:
    context = write(
        f"# pybuild: retry=5 delay=1ms\nRUN {COUNT.format(1)}; echo try $n; touch /of-$n;"
        " [ $n = 3 ] && ls -d /of-*\n"
    )
    build(pybuild, "-t", "x", context)
    assert pybuild("run", "--rm", "x", "sh", "-c", "ls -d /of-*").stdout == "/of-3\n"
    log = pybuild("builds", "logs", "last", "RUN").stdout.splitlines()
    again = "failed (exit code: 1); the next one begins in 1 ms ---"
    assert log == [
        "try 1",
        f"--- try 1 of 6 {again}",
        "try 2",
        f"--- try 2 of 6 {again}",
        "try 3",
        "/of-3",
    ]
    assert step(pybuild, "RUN")["tries"] == 3
    shown = pybuild("builds", "show").stdout
    assert "3 tries" in shown
    assert "policies: retry=5 delay=1ms" in shown
    # It is the same step with other policies: they are no part of its key.
    path = context / "Dockerfile"
    path.write_text(path.read_text().replace("retry=5 delay=1ms", "cpus=1.5 timeout=1h"))
    build(pybuild, context)
    assert step(pybuild, "RUN")["status"] == "cached"


def test_when_all_tries_fail(pybuild, write) -> None:
    context = write(f"# pybuild: retry=2\nRUN {COUNT.format(2)}; echo try $n; exit $n\n")
    failed = pybuild("build", context, check=False)
    assert failed.returncode == 1
    assert "did not complete successfully in 3 tries: exit code: 3" in failed.stderr
    assert step(pybuild, "RUN")["tries"] == 3
    # What is no command today is none tomorrow.
    pybuild("build", write('# pybuild: retry=2\nRUN ["/absent"]\n'), check=False)
    assert step(pybuild, "RUN")["tries"] == 1


def test_a_delay_ends_with_the_build(pybuild, write) -> None:
    context = write("# pybuild: retry=1 delay=100h\nRUN false\n")
    building = pybuild.start("build", "--progress=plain", context)
    assert building.stderr is not None
    for line in building.stderr:
        if b"try 1 of 2 failed (exit code: 1); the next one begins in 100 h" in line:
            building.send_signal(signal.SIGINT)
            break
    building.communicate(timeout=30)
    assert building.returncode == 130


def test_a_timeout(pybuild, write) -> None:
    context = write("# pybuild: timeout=100ms\nRUN trap '' TERM INT; sleep 1000\n")
    failed = pybuild("build", context, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("did not complete successfully: exceeded its timeout of 100 ms") == 2
    pybuild("build", context, check=False)
    assert cause(pybuild, "RUN") == ["it exceeded its timeout of 100 ms in the build before"]
    assert "failed, " in pybuild("builds", "show").stdout
    assert "exit code" not in pybuild("builds", "show").stdout


def test_memory(pybuild, write) -> None:
    context = write("# pybuild: memory=16m\nRUN dd if=/dev/zero of=/dev/null bs=100M count=1\n")
    failed = pybuild("build", context, check=False)
    assert failed.returncode == 1
    assert "exceeded its memory limit of 16 MiB (peak 16 MiB)" in failed.stderr
    assert "137" not in failed.stderr
    assert step(pybuild, "RUN")["peak_memory_bytes"] == 16 << 20
    # A command that does not mind hears of it all the same.
    pybuild("build", write("# pybuild: memory=16m\nRUN (dd if=/dev/zero bs=100M count=1) || :\n"))
    log = pybuild("builds", "logs", "last", "RUN").stdout
    assert "--- a process exceeded its memory limit of 16 MiB (peak 16 MiB); the step" in log


def test_processors(pybuild, write) -> None:
    reads = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max"
    pybuild("build", write(f"# pybuild: cpus=0.5\nRUN {reads}\n"))
    assert pybuild("builds", "logs", "last", "RUN").stdout.split()[0] == "50000"


def test_no_cache(pybuild, write) -> None:
    context = write(f"# pybuild: no-cache\nRUN echo same > /s\nRUN {UUID} > /u\n")
    first = build(pybuild, context)
    # It runs each time, and what it makes is the same: what follows is cached, the image its own.
    assert build(pybuild, context) == first
    assert step(pybuild, "same")["status"] == "adopted"
    assert cause(pybuild, "same") == ["its policy is no-cache"]
    assert step(pybuild, "random")["status"] == "cached"
    context = write(f"# pybuild: no-cache\nRUN {UUID} > /u\nRUN echo after\n")
    build(pybuild, context)
    build(pybuild, context)
    assert cause(pybuild, "after") == [f"follows [2/3] RUN {UUID} > /u"]


def planned(pybuild, context: Path) -> dict[str, tuple[str, list[str]]]:
    """Return what `plan` says of the steps: by the words behind the place, state and causes."""
    with Engine(str(pybuild.root)) as engine:
        found = as_json(engine.plan(request_of(parse(SYNTAX, [str(context)]))))
    return {
        item["name"].partition("] ")[2]: (item["state"], [each["text"] for each in item["causes"]])
        for item in found["steps"]
    }


def test_a_plan_knows(pybuild, write) -> None:
    context = write("# pybuild: no-cache\nCOPY f /\n# pybuild: ttl=2h\nRUN echo a\n")
    (context / "f").write_text("x")
    build(pybuild, context)
    assert planned(pybuild, context)["COPY f /"] == ("miss", ["its policy is no-cache"])
    assert planned(pybuild, context)["RUN echo a"] == ("hit", [])
    age(pybuild, 3)
    over = ["ttl of 2 h is over (record is 3 h old)"]
    assert planned(pybuild, context)["RUN echo a"] == ("miss", over)
    shown = pybuild("plan", context).stdout
    assert "policies: no-cache" in shown
    assert "policies: ttl=2h" in shown


def test_no_cache_of_a_copy(pybuild, write) -> None:
    context = write("# pybuild: no-cache\nCOPY f /\n")
    (context / "f").write_text("x")
    first = build(pybuild, context)
    assert build(pybuild, context) == first
    assert step(pybuild, "COPY")["status"] == "adopted"
    assert "policies: no-cache" in pybuild("cache", "why").stdout


def test_ttl(pybuild, write) -> None:
    context = write(f"# pybuild: ttl=24h\nRUN {UUID} > /u; echo same > /s\nRUN echo after\n")
    first = build(pybuild, context)
    age(pybuild, 23)
    assert build(pybuild, context) == first
    assert build(pybuild, context) == first
    age(pybuild, 7)
    assert build(pybuild, context) != first
    assert cause(pybuild, "random") == ["ttl of 24 h is over (record is 30 h old)"]


def test_what_a_ttl_let_run_is_young_again(pybuild, write) -> None:
    context = write(
        "# pybuild: ttl=2h\nRUN touch -d 202001010000 /s\n# pybuild: ttl=1h\nCOPY f /\n"
    )
    (context / "f").write_text("x")
    first = build(pybuild, context)
    age(pybuild, 3)
    assert build(pybuild, context) == first
    assert [step(pybuild, word)["status"] for word in ("RUN", "COPY")] == ["adopted"] * 2
    # The records are of the first run still, but the steps ran a moment ago.
    assert build(pybuild, context) == first
    assert [step(pybuild, word)["status"] for word in ("RUN", "COPY")] == ["cached"] * 2


def test_what_is_remembered_of_a_whole_build(pybuild, write) -> None:
    context = write(f"# pybuild: ttl=1ms\nRUN {UUID} > /u\n")
    images = [build(pybuild, context) for _ in range(3)]
    assert len(set(images)) == 3
    assert step(pybuild, "RUN")["status"] == "done"
    write("# pybuild: ttl=1d\nRUN echo\n")
    before = {path.name for path in (pybuild.root / "memos").iterdir()}
    build(pybuild, context)
    assert len({path.name for path in (pybuild.root / "memos").iterdir()} - before) == 1
    build(pybuild, context)
    assert step(pybuild, "RUN")["policies"] == "ttl=24h"


def test_a_secret_that_was_changed(pybuild, write, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    reads = "RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null; echo same > /s"
    context = write(f"{reads}\nRUN echo after\n")
    secret.write_text("bright-1")
    given = ("--secret", f"id=token,src={secret}")
    build(pybuild, *given, context)
    secret.write_text("bright-2")
    build(pybuild, *given, context)
    assert step(pybuild, "token")["status"] == "cached"  # as BuildKit has it
    path = context / "Dockerfile"
    path.write_text(path.read_text().replace(reads, f"# pybuild: secret-key=content\n{reads}"))
    build(pybuild, *given, context)
    assert cause(pybuild, "token") == ["values of secrets count now (secret-key=content)"]
    build(pybuild, *given, context)
    assert step(pybuild, "token")["status"] == "cached"
    secret.write_text("bright-3")
    build(pybuild, *given, context)
    assert cause(pybuild, "token") == ['secret "token" changed']
    assert [step(pybuild, word)["status"] for word in ("token", "after")] == ["adopted", "cached"]
    build(pybuild, context)
    assert cause(pybuild, "token") == ['secret "token" is not given any more']
    # Neither the values nor digests that anyone could check a guess against are anywhere.
    for path in filter(Path.is_file, pybuild.root.rglob("*")):
        held = path.read_bytes()
        assert b"bright-" not in held
        assert hashlib.sha256(b"bright-3").hexdigest().encode() not in held


def test_the_salt_is_the_owners(pybuild, write, tmp_path: Path) -> None:
    context = write("# pybuild: secret-key=content\nRUN --mount=type=secret,id=t :\n")
    (tmp_path / "t").write_text("v")
    build(pybuild, "--secret", f"id=t,src={tmp_path}/t", context)
    salt = pybuild.root / "salt"
    assert (salt.stat().st_mode & 0o777, salt.stat().st_size) == (0o600, 32)
    assert pybuild("system", "check").returncode == 0
    salt.write_bytes(b"short")
    failed = pybuild("build", "--secret", f"id=t,src={tmp_path}/t", context, check=False)
    assert f"salt {salt}: damaged" in failed.stderr
    salt.unlink()


def test_a_key_with_a_secret_is_not_exported(pybuild, write, tmp_path: Path) -> None:
    context = write("# pybuild: secret-key=content\nRUN --mount=type=secret,id=t :\nRUN echo b\n")
    (tmp_path / "t").write_text("v")
    given = ("--secret", f"id=t,src={tmp_path}/t")
    cache = tmp_path / "cache"
    build(pybuild, *given, "--cache-to", f"type=local,mode=max,dest={cache}", context)
    texts = [path.read_text(errors="replace") for path in cache.rglob("*") if path.is_file()]
    titles = [
        title for title in ("RUN --mount=type=secret", "RUN echo b") if title in "".join(texts)
    ]
    assert titles == ["RUN echo b"]


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a server that never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("path", ["file", "repository.git#main"])
def test_the_timeout_of_what_is_fetched(pybuild, write, silent: str, path: str) -> None:
    context = write(f"# pybuild: timeout=200ms retry=1\nADD {silent}/{path} /a/\n")
    failed = pybuild("build", "--progress=plain", context, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("exceeded its timeout of 200 ms") == 3
    assert "try 1 of 2 failed (" in failed.stderr


class Late(http.server.BaseHTTPRequestHandler):
    """Has what is asked for the third time."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        found = type(self).asked == 3
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_what_is_fetched_is_tried_again(pybuild, write) -> None:
    Late.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/f"
        context = write(f"# pybuild: retry=3 delay=1ms\nADD {address} /f\nRUN cat /f\n")
        done = pybuild("build", "--progress=plain", "-t", "x", context)
        server.shutdown()
    assert "--- try 2 of 4 failed (" in done.stderr
    assert "try 3 of 4" not in done.stderr
    assert pybuild("run", "--rm", "x", "cat", "/f").stdout == "ok"


def test_files_of_the_context_are_not_fetched(pybuild, write) -> None:
    failed = pybuild("build", write("# pybuild: retry=3\nADD f /f\n"), check=False)
    assert failed.returncode == 1
    assert "Dockerfile:3: ADD has no policy retry for files of the context" in failed.stderr


def test_no_secret_to_count(pybuild, write) -> None:
    failed = pybuild("build", write("# pybuild: secret-key=content\nRUN a\n"), check=False)
    assert failed.returncode == 1
    assert "Dockerfile:3: policy secret-key: this RUN has no secret" in failed.stderr


def test_a_wrong_word(pybuild, write) -> None:
    failed = pybuild("build", write("# pybuild: retry=3 time-out=3s\nRUN a\n"), check=False)
    assert failed.returncode == 1
    shown = 'Dockerfile:2:20: unknown policy "time-out" (did you mean timeout?)'
    assert shown in failed.stderr
