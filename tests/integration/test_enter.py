"""Entering a step: what failed is there as it was left, with its mounts, until it is pruned."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.engine.engine import Engine

pytestmark = pytest.mark.kernel

LIMIT_S = 30
UUID = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture
def pybuild(shared_pybuild):
    """Return the command line on one store for all; what it knows of builds is this test's."""
    with Engine(str(shared_pybuild.root)) as engine:
        engine.remove_builds(everything=True)
    return shared_pybuild


@pytest.fixture
def write(context: Path) -> Callable[[str], Path]:
    """Return what writes a Dockerfile FROM busybox and returns the context."""

    def make(text: str) -> Path:
        (context / "Dockerfile").write_text(f"FROM busybox:test AS web\n{text}")
        return context

    return make


def failed(pybuild, context: Path, *words: str) -> str:
    """Build what fails, and return the last line that it says."""
    done = pybuild("build", *words, context, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1]


def inside(pybuild, script: str, *words: str, fails: int = 0) -> str:
    """Enter with a script, and return what it prints; with `fails` what goes wrong."""
    done = pybuild("enter", *words, "--", "sh", "-c", script, check=False)
    assert done.returncode == fails, done.stderr
    return done.stderr if fails else done.stdout


def kept(pybuild) -> list[str]:
    with Engine(str(pybuild.root)) as engine:
        entries = engine.cache_view(["type=exec.kept"]).entries
    return sorted(entry.description.partition(" of ")[0] for entry in entries)


def last_build(pybuild) -> str:
    with Engine(str(pybuild.root)) as engine:
        return engine.journal().build.build_id


def test_what_a_failed_step_left(pybuild, write) -> None:
    context = write(
        "ARG V=one\nENV A='b c'\nWORKDIR /w\nRUN chown 7:8 /w\nUSER 7:8\n"
        "RUN echo made > made; exit 3\n"
    )
    hint = failed(pybuild, context)
    build = last_build(pybuild)
    assert hint == f"hint: to look around where it failed: pybuild enter {build[:8]}"
    script = 'pwd; id -u; id -g; echo "$A $V"; cat made; exit 5'
    done = pybuild("enter", "--", "sh", "-c", script, check=False)
    assert (done.returncode, done.stdout) == (5, "/w\n7\n8\nb c one\nmade\n")
    # What is done inside stays, until it is not wanted any more.
    inside(pybuild, "echo inside >> made; echo x > new")
    assert inside(pybuild, "cat made new") == "made\ninside\nx\n"
    assert inside(pybuild, "cat made; ls", "--fresh") == "made\nmade\n"
    # Nothing of it is in what the next build makes.
    assert failed(pybuild, context).startswith("hint: to look around")
    assert inside(pybuild, "ls") == "made\n"


def test_mounts(pybuild, write, tmp_path: Path) -> None:
    context = write(
        "COPY f /f\nFROM web AS other\nFROM web\n"
        "RUN --mount=type=cache,target=/cache --mount=type=bind,target=/ctx"
        " --mount=type=bind,rw,target=/mine --mount=type=bind,from=other,source=/f,target=/g"
        " --mount=type=bind,from=other,rw,target=/theirs --mount=type=tmpfs,target=/t"
        " --mount=type=secret,id=token,env=TOKEN,target=/s --mount=type=secret,id=absent"
        " echo c > /cache/c; echo m > /mine/m; rm /theirs/f; echo t > /t/t; false\n"
    )
    (context / "f").write_text("file\n")
    secret = tmp_path / "token"
    secret.write_text("a secret value")
    given = ("--secret", f"id=token,src={secret}")
    failed(pybuild, context, *given)
    (context / "f").write_text("something else\n")
    secret.write_text("another value")
    script = (
        "cat /cache/c /ctx/f /mine/m /mine/f /g; ls /theirs/f /t/t;"
        " grep -c ' /t tmpfs ' /proc/mounts; cat /s; echo; echo $TOKEN; ls /run/secrets;"
        " touch /ctx/no; touch /mine/yes"
    )
    said = inside(pybuild, f"{script} 2>/dev/null", *given)
    assert said.splitlines() == [
        *("c", "file", "m", "file", "file"),
        *("1", "another value", "another value"),
    ]
    # What is written to a bind mount is thrown away, as in a build.
    assert inside(pybuild, "ls /mine", *given).split() == ["Dockerfile", "f", "m"]
    said = inside(pybuild, "true", fails=125)
    assert 'secret "token" is not given, and the step had it' in said
    assert "hint: give it again: --secret id=token,src=FILE" in said
    notes = [path.read_bytes() for path in pybuild.root.glob("snapshots/*/kept")]
    assert len(notes) == 5  # the step, what it wrote to two mounts, the context, what is inside
    assert not any(b"value" in note for note in notes)
    assert pybuild("system", "check").stdout == "clean\n"
    pybuild("system", "prune")
    assert os.listdir(pybuild.root / "snapshots") == []


def test_mounts_of_a_step_that_did_not_fail(pybuild, write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-value")
    secret = ("--secret", f"id=token,src={tmp_path}/token")
    script = "cat /c/x /b/other /run/secrets/token; ls /own 2>&1; ls /made"
    context = write(
        "RUN echo other > /other\nFROM busybox:test\n"
        "RUN --mount=type=cache,id=made,target=/c --mount=from=web,target=/b --mount=target=/own"
        " --mount=type=secret,id=token cat /own/Dockerfile /run/secrets/token > /dev/null;"
        " echo cached > /c/x; touch /made\n"
    )
    for _ in range(2):  # the second time the step comes from the cache
        pybuild("build", "-t", "entered", *secret, context)
        done = pybuild("enter", *secret, ":L4", "--", "sh", "-c", script)
        assert done.stdout.splitlines() == [
            "cached",
            "other",
            "s3cret-valuels: /own: No such file or directory",
            "/made",
        ]
        assert done.stderr == (
            "note: the bind mount at /own is left out: files of the context are kept of steps that"
            " fail only\n"
        )
    refused = inside(pybuild, "true", ":L4", fails=125)
    assert "give it again: --secret id=token,src=FILE" in refused
    # What the mounts show stays as long as what was done inside is kept.
    pybuild("rmi", "entered")
    pybuild("cache", "prune", "-f", "--filter", "type=regular")
    assert inside(pybuild, "cat /b/other", *secret, ":L4") == "other\n"


def test_an_agent_is_given_again(pybuild, write, tmp_path: Path) -> None:
    context = write("RUN --mount=type=ssh,required false\n")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    failed(pybuild, context, "--ssh", f"default={key}")
    assert 'ssh agent "default" is not given' in inside(pybuild, "true", fails=125)
    assert inside(pybuild, "test -S $SSH_AUTH_SOCK && echo ok", "--ssh", f"default={key}") == "ok\n"


def test_steps_that_did_not_fail(pybuild, write) -> None:
    context = write(
        f"ENV A=b\nCOPY f /f\nWORKDIR /w\nRUN {UUID} > /u; echo > x\nFROM web AS last\nRUN echo y\n"
    )
    (context / "f").write_text("file\n")
    pybuild("build", "-q", context)
    # Without a step the end of the build is meant; also where all of it was remembered.
    for _ in range(2):
        assert inside(pybuild, "pwd; ls; echo $A") == "/w\nx\nb\n"
        assert inside(pybuild, "cat /f; ls -d /w 2>&1; pwd", ":web 2/4").startswith("file\nls: ")
        pybuild("build", "-q", context)
    for word in (":L4", ":web/3", "last:[web 3/4]", ":workdir"):
        assert inside(pybuild, "pwd; ls -A; ls /u 2>/dev/null || echo -", word) == "/w\n-\n"
    assert inside(pybuild, "test -s /u; touch /w/y; ls", ":web 4/4") == "x\ny\n"
    assert inside(pybuild, "ls", ":web 4/4") == "x\ny\n"
    said = inside(pybuild, "true", ":RUN", fails=125)
    assert '"RUN" means several steps' in said
    assert said.count("pybuild enter ") == 2
    pybuild("image", "prune", "-f")
    pybuild("cache", "prune", "-a", "-f")
    assert "was pruned" in inside(pybuild, "true", ":L4", fails=125)


def test_the_terminal_is_the_shells(pybuild, write) -> None:
    failed(pybuild, write("RUN echo left > /left; false\n"))
    words = pybuild.command("enter")
    environment = pybuild.full_environment({"TERM": "vt100"})
    pid, master = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    # The shell's prompt, then what each line answers.
    said = read_until(master, b"# ")
    os.write(master, b"echo $(tty) $TERM $(cat /left) $(stty size)\r")
    said = read_until(master, b"left 33 77\r\n")
    assert b"/dev/pts/0 vt100 left 33 77" in said
    # Another one does not get in, and is told why.
    refused = pybuild("enter", "--", "true", check=False)
    assert refused.returncode == 125
    assert "is entered already" in refused.stderr
    build = last_build(pybuild)
    refused = pybuild("builds", "rm", build, check=False)
    assert (refused.returncode, "step 4 is entered" in refused.stderr) == (1, True)
    pybuild("system", "prune")
    os.write(master, b"exit 9\r")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 9
    assert inside(pybuild, "cat /left") == "left\n"


def read_until(master: int, wanted: bytes) -> bytes:
    """Read what a terminal shows until `wanted` is there."""
    said = b""
    while wanted not in said:
        assert select.select([master], [], [], LIMIT_S)[0], said
        said += os.read(master, 4096)
    return said


def test_what_was_changed_inside(pybuild, write) -> None:
    context = write("COPY f g h /d/\nRUN echo one > /made; mkdir /new; false\n")
    for name in "fgh":
        (context / name).write_text(f"{name}\nsecond\n")
    failed(pybuild, context)
    assert "nobody has entered its step" in pybuild("enter", "--adopt", check=False).stderr
    script = (
        "echo two >> /made; echo third >> /d/f; rm /d/g; chmod 700 /d/h; ln -s x /link;"
        " head -c 300 /dev/zero > /zero; rm -r /home; mkdir /home; touch /home/a /d/f; rmdir /new;"
        " printf end > /no-line; cp /d/h /h; touch /d"
    )
    inside(pybuild, script)
    assert pybuild("enter", "--adopt").stdout.splitlines() == [
        "C /d/f (9B → 15B)",
        *("--- a/d/f", "+++ b/d/f", "@@ -1,2 +1,3 @@", " f", " second", "+third"),
        "D /d/g (9B)",
        "C /d/h (mode 0644 → 0700)",
        "A /h (9B)",
        "A /home/a (0B)",
        "D /home/app/",
        "A /link (-> x)",
        "C /made (4B → 8B)",
        *("--- a/made", "+++ b/made", "@@ -1 +1,2 @@", " one", "+two"),
        "D /new/",
        "A /no-line (3B)",
        "A /zero (300B)",
    ]


def test_several_that_failed(pybuild, context: Path) -> None:
    """The failure of one kills what runs; that each fails by itself is a matter of luck."""
    stage = "FROM busybox:test AS {0}\nRUN echo {0} > /who; false\n"
    target = "FROM busybox:test\nCOPY --from=a /who /a\nCOPY --from=b /who /b\n"
    (context / "Dockerfile").write_text(stage.format("a") + stage.format("b") + target)
    hint = failed(pybuild, context)
    names = [word.split()[-1] for word in hint.rpartition(": ")[2].split(" or ")]
    who = [inside(pybuild, "cat /who", name) for name in names]
    assert who in (["a\n"], ["b\n"], ["a\n", "b\n"], ["b\n", "a\n"])
    if len(names) == 2:
        assert "several steps failed" in inside(pybuild, "true", fails=125)


def test_what_cannot_be_entered(pybuild, write, tmp_path: Path) -> None:
    none = pybuild("--root", tmp_path / "none", "enter", check=False)
    assert (none.returncode, "there is no build in the journal" in none.stderr) == (125, True)
    context = write("RUN echo a\nCOPY absent /\n")
    done = pybuild("build", context, check=False)
    assert "pybuild enter" not in done.stderr
    assert "no step" in inside(pybuild, "true", ":99", fails=125)
    assert "no such build: zz" in inside(pybuild, "true", "zz", fails=125)
    context = write("RUN exit 3\n")
    done = pybuild("build", "--no-keep-failed", context, check=False)
    assert "pybuild enter" not in done.stderr
    assert "nothing is kept of step 4, which failed" in inside(pybuild, "true", fails=125)
    failed(pybuild, context)
    said = pybuild("enter", "--", "absent", check=False)
    assert (said.returncode, "absent" in said.stderr) == (127, True)
    (record,) = [
        path for path in pybuild.root.glob("snapshots/*/kept") if b'"failed"' in path.read_bytes()
    ]
    note = json.loads(record.read_text())
    note["note"]["op"] = {"is": "Sandbox"}
    record.write_text(json.dumps(note))
    assert "what is kept of step 4 is damaged" in inside(pybuild, "true", fails=125)
    record.write_text("{")
    checked = pybuild("system", "check", check=False)
    assert checked.returncode == 1
    assert "its record is damaged" in checked.stdout
    assert "nothing is kept of step 4" in inside(pybuild, "true", fails=125)
    pybuild("cache", "verify", check=False)
    assert pybuild("system", "check").stdout == "clean\n"


def test_what_is_kept_goes_with_its_build(pybuild, write) -> None:
    context = write("RUN head -c 5000 /dev/zero > /zero; false\n")
    for _ in range(2):
        failed(pybuild, context)
    inside(pybuild, "true")
    assert kept(pybuild) == ["entered step 4", "failed step 4", "failed step 4"]
    pybuild("builds", "rm", last_build(pybuild))
    assert kept(pybuild) == ["failed step 4"]
    assert float(pybuild("system", "df", "--format", "{{.Size}}").stdout.split()[2][:-2]) >= 5
    removed = pybuild("cache", "prune", "--filter", "type=exec.kept", "-f").stdout
    assert removed.split()[-1] == "5kB"
    assert kept(pybuild) == []
    failed(pybuild, context)
    pybuild("builds", "rm", "--all")
    assert os.listdir(pybuild.root / "snapshots") == []
    # A build whose log and steps are forgotten by themselves takes what is kept with it.
    failed(pybuild, context)
    env = {"PYBUILD_HISTORY_MAX_AGE": "0s", "PYBUILD_HISTORY_MAX_ENTRIES": "0"}
    pybuild("system", "prune", env=env)
    assert os.listdir(pybuild.root / "snapshots") == []


def test_what_it_stands_on_stays(pybuild, write) -> None:
    context = write(
        f"RUN {UUID} > /u\nFROM web\nRUN --mount=type=bind,from=web,target=/web false\n"
    )
    failed(pybuild, context)
    pybuild("cache", "prune", "-a", "-f", "--filter", "type=regular")
    assert inside(pybuild, 'test "$(cat /u)" = "$(cat /web/u)" && echo same') == "same\n"
    assert pybuild("system", "check").stdout == "clean\n"


@pytest.mark.parametrize("moment", [1, 2])
def test_a_kill_while_it_is_kept(pybuild, write, moment: int) -> None:
    context = write("RUN --mount=type=bind,rw,target=/m touch /m/x; echo a > /a; false\n")
    killed = pybuild(
        "build",
        context,
        env={"PYBUILD_STORE_KILL_AT": f"snapshot-kept:{3 if moment == 2 else 1}"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert pybuild("system", "check").stdout == "clean\n"
    if moment == 2:  # all of it was kept, though nobody could say so in the journal
        assert inside(pybuild, "cat /a; ls /m/x") == "a\n/m/x\n"
    build = last_build(pybuild)
    pybuild("builds", "rm", build)
    pybuild("system", "prune")
    assert os.listdir(pybuild.root / "snapshots") == []


def test_a_kill_of_the_shell(pybuild, write) -> None:
    failed(pybuild, write("RUN echo a > /a; false\n"))
    shell = pybuild.start("enter", "--", "sh", "-c", "echo b > /b; echo ready; sleep 1000")
    assert shell.stdout is not None
    assert shell.stdout.readline() == b"ready\n"
    shell.kill()
    shell.communicate()
    assert pybuild("system", "check").stdout == "clean\n"
    assert inside(pybuild, "cat /a /b") == "a\nb\n"
