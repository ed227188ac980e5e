"""RUN --mount for real: what the process sees, what stays, what counts for the cache."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from store.cachemounts import CacheMountKey
from store.root import Store

pytestmark = pytest.mark.kernel

FULL = os.environ.get("PYBUILD_FULL") == "1"
HANGS_S = 60  # what takes longer will not end
SECRET = "correct-horse-battery-staple"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def ran(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the first words of the RUN steps that were not cached, in order."""
    names: dict[str, str] = {}
    done = []
    for line in result.stderr.splitlines():
        number, _, rest = line.partition(" ")
        if number.startswith("#") and number not in names:
            names[number] = rest
        elif number.startswith("#") and rest.startswith("DONE") and "] RUN " in names[number]:
            done.append(names[number].partition("] ")[2])
    return done


def image_id(pybuild, name: str) -> str:
    return json.loads(pybuild("inspect", name).stdout)[0]["Id"]


def layers(pybuild, name: str) -> list[str]:
    return json.loads(pybuild("inspect", name).stdout)[0]["RootFS"]["Layers"]


def output(pybuild, image: str, *command: str) -> str:
    return pybuild("run", "--rm", image, *command).stdout


@pytest.fixture
def build(pybuild, busybox_image, context):
    """Build a Dockerfile text (`{base}` stands for the base image) as `x`; return the result."""

    def call(text: str, *args: str, **options):
        (context / "Dockerfile").write_text(text.replace("{base}", busybox_image))
        return pybuild("build", "-t", "x", "--progress=plain", *args, context, **options)

    return call


# -- bind


def test_files_of_the_context_are_seen_and_not_kept(build, pybuild, context) -> None:
    write(
        context,
        {"src/a": "A", "src/skip.log": "no", ".dockerignore": "**/*.log\nDockerfile\n", "x*y": "s"},
    )
    (context / "src/a").chmod(0o750)
    os.chown(context / "src/a", 1234, 5678)
    os.utime(context / "src/a", (1_600_000_000, 1_600_000_000))
    build(
        """FROM {base}
WORKDIR /w
RUN --mount=target=m,source=src --mount=target=/one,source=src/a --mount=source=x*y,target=/star \
  ls -A m > ls && stat -c '%a %u %g %Y' m/a > stat && cat /one /star > cat && \
  ! touch m/b 2>/dev/null && ! touch /one 2>/dev/null
"""
    )
    assert output(pybuild, "x", "cat", "ls", "stat", "cat") == "a\n750 0 0 1600000000\nAs"
    assert output(pybuild, "x", "ls", "-A", "/w").split() == ["cat", "ls", "stat"]
    assert (
        output(pybuild, "x", "sh", "-c", "ls -d /one /star /w/m 2>&1; true").count("No such") == 3
    )


def test_the_whole_context_where_the_work_is(build, pybuild, context) -> None:
    write(context, {"main.c": "int", "sub/f": "f"})
    build("FROM {base}\nWORKDIR /src\nRUN --mount=target=. find . -type f | sort > /found\n")
    assert output(pybuild, "x", "cat", "/found").split() == ["./Dockerfile", "./main.c", "./sub/f"]
    assert output(pybuild, "x", "ls", "-A", "/src") == ""


def test_what_is_written_to_a_bind_is_lost(build, pybuild, context) -> None:
    write(context, {"d/f": "old"})
    build(
        """FROM {base} AS other
RUN mkdir /o && echo old > /o/f
FROM {base}
RUN --mount=target=/d,source=d,rw --mount=from=other,target=/o,source=o,rw \
  echo new > /d/f && echo new > /o/f && touch /d/g /o/g && cat /d/f /o/f > /seen
RUN --mount=target=/d,source=d,rw --mount=from=other,target=/o,source=o,rw \
  cat /d/f /o/f > /again && test ! -e /d/g && test ! -e /o/g
"""
    )
    assert output(pybuild, "x", "cat", "/seen") == "new\nnew\n"
    assert output(pybuild, "x", "cat", "/again") == "oldold\n"
    assert (context / "d/f").read_text() == "old"
    assert os.listdir(context / "d") == ["f"]


def test_a_bind_from_a_stage_and_from_an_image(build, pybuild, busybox_image) -> None:
    build(
        """FROM {base} AS Tools
RUN mkdir /t && echo tool > /t/real && ln -s real /t/link && ln -s /t /abs && chown -R 7:8 /t
FROM scratch AS nothing
FROM {base}
RUN --mount=from=tools,source=/abs/link,target=/f --mount=from={base},target=/img,src=etc \
  --mount=from=nothing,target=/none \
  cat /f > /seen && stat -c %u:%g /f >> /seen && head -n1 /img/passwd >> /seen && \
  ls -A /none >> /seen
"""
    )
    assert output(pybuild, "x", "cat", "/seen") == "tool\n7:8\nroot:x:0:0:root:/root:/bin/sh\n"


def test_a_bind_counts_by_content_alone(build, context) -> None:
    text = """FROM {base} AS gen
RUN echo STEP; mkdir /o && echo data > /o/f
FROM {base}
RUN --mount=target=/c,source=d --mount=from=gen,source=/o,target=/o cat /c/f /o/f > /sum
"""
    write(context, {"d/f": "1", ".dockerignore": "Dockerfile\n"})
    build(text)
    (context / "d/f").touch()
    assert ran(build(text)) == []
    assert len(ran(build(text.replace("STEP", "step")))) == 1, "the same files from another run"
    (context / "d").rename(context / "e")
    assert ran(build(text.replace("source=d", "source=e"))) == [], "the same files elsewhere"
    write(context, {"e/f": "2"})
    assert len(ran(build(text.replace("source=d", "source=e")))) == 1
    (context / "e/f").chmod(0o755)
    assert len(ran(build(text.replace("source=d", "source=e")))) == 1
    write(context, {"unrelated": "x"})
    assert ran(build(text.replace("source=d", "source=e"))) == []


def test_a_missing_source_says_so(build, context) -> None:
    write(context, {".dockerignore": "hidden\n", "hidden": ""})
    for source, hint in (("none", "not found"), ("hidden", "line 1: hidden")):
        result = build(f"FROM {{base}}\nRUN --mount=target=/x,source={source} true\n", check=False)
        assert result.returncode == 1
        assert f'RUN failed: "/{source}": not found' in result.stderr
        assert "Dockerfile:2" in result.stderr
        assert hint in result.stderr
    result = build(
        "FROM {base}\nRUN --mount=from={base},target=/x,source=/none true\n", check=False
    )
    assert '"/none": not found' in result.stderr


def test_a_context_link_leads_nowhere_outside(build, pybuild, context) -> None:
    (context / "shadow").symlink_to("/etc/shadow")
    (context / "etc").mkdir()
    (context / "etc/shadow").write_text("inside")
    build("FROM {base}\nRUN --mount=target=/s,source=shadow cat /s > /seen\n")
    assert output(pybuild, "x", "cat", "/seen") == "inside"


def test_a_step_sees_what_its_key_says_whatever_is_written(build, pybuild, context) -> None:
    """The context changes while the step runs: the step does not notice."""
    write(context, {"f": "before"})
    os.utime(context / "f", (1_600_000_000, 1_600_000_000))
    fifo_said = threading.Event()
    # The step's first line is awaited through its log, then the file is changed.
    process_output: list[str] = []

    def change() -> None:
        fifo_said.wait(timeout=60)
        (context / "f").write_text("after")

    watcher = threading.Thread(target=change)
    watcher.start()
    (context / "Dockerfile").write_text(
        "FROM busybox:test\nRUN --mount=target=/c echo ready; sleep 1; cat /c/f > /seen\n"
    )
    process = pybuild.start("build", "-t", "x", "--progress=plain", context)
    assert process.stderr is not None
    for line in process.stderr:
        process_output.append(line.decode())
        if line.rstrip().endswith(b" ready"):
            fifo_said.set()
    assert process.wait(timeout=60) == 0, process_output
    fifo_said.set()
    watcher.join()
    process.stderr.close()
    process.stdout.close()
    assert (context / "f").read_text() == "after"
    assert output(pybuild, "x", "cat", "/seen") == "before"


# -- cache


def test_a_cache_outlives_builds_and_is_in_no_layer(build, pybuild) -> None:
    step = "RUN --mount=type=cache,target=/c date >> /c/log; wc -l < /c/log > /n # {}\n"
    build("FROM {base}\n" + step.format(1))
    assert output(pybuild, "x", "cat", "/n") == "1\n"
    build("FROM {base}\n" + step.format(2))
    assert output(pybuild, "x", "cat", "/n") == "2\n"
    assert ran(build("FROM {base}\n" + step.format(2))) == [], "what is in it does not count"
    assert output(pybuild, "x", "sh", "-c", "ls -d /c; true") == ""


def test_what_makes_another_cache(build, pybuild) -> None:
    def count(options: str, salt: str, *args: str) -> str:
        build(
            f"FROM {{base}} AS s\nRUN mkdir /seed && echo > /seed/line\nFROM {{base}}\n"
            f"RUN --mount=type=cache,{options} cd $(echo {options.split('=')[1].split(',')[0]});"
            f"touch {salt}; ls | tr '\\n' ' ' > /ls; stat -c '%a %u %g' . >> /ls # {salt}\n",
            *args,
        )
        return output(pybuild, "x", "cat", "/ls")

    assert count("target=/c", "a") == "a 755 0 0\n"
    assert count("target=/d,id=/c", "b") == "a b 755 0 0\n"
    assert count("target=/c,id=x", "c") == "c 755 0 0\n"
    assert count("target=/c,uid=5,gid=6,mode=0711", "d") == "d 711 5 6\n"
    assert count("target=/c,uid=5,gid=6,mode=0711", "e") == "d e 711 5 6\n"
    assert count("target=/c,from=s,source=/seed", "f") == "f line 755 0 0\n"
    assert count("target=/c,from=s,source=/seed", "g") == "f g line 755 0 0\n"
    namespace = "--build-arg=BUILDKIT_CACHE_MOUNT_NS=n"
    assert count("target=/c", "h", namespace) == "h 755 0 0\n"
    assert count("target=/c", "i") == "a b i 755 0 0\n"


def test_no_cache_begins_with_empty_caches(build, pybuild) -> None:
    text = (
        "FROM {base}\nRUN --mount=type=cache,target=/c touch /c/a\n"
        "RUN --mount=type=cache,target=/c touch /c/b; ls /c > /ls # {0}\n"
    )
    build(text.replace("{0}", "1"))
    build(text.replace("{0}", "touch /c/c").replace("# ", "; "))
    build(text.replace("{0}", "2"), "--no-cache")
    assert output(pybuild, "x", "cat", "/ls").split() == ["a", "b"]


def test_a_read_only_cache(build) -> None:
    build(
        "FROM {base}\nRUN --mount=type=cache,target=/c touch /c/f\n"
        "RUN --mount=type=cache,target=/c,ro test -e /c/f && ! touch /c/g 2>/dev/null\n"
    )


PAIR = """\
FROM {base} AS a
RUN --mount=type=cache,target=/c,sharing=SHARING WORK; echo a
FROM {base} AS b
RUN --mount=type=cache,target=/c,sharing=SHARING WORK; echo b
FROM {base}
COPY --from=a /out /a
COPY --from=b /out /b
"""
CLOCK = "cut -d' ' -f1 /proc/uptime"


def test_a_locked_cache_is_used_by_one_at_a_time(build, pybuild) -> None:
    work = f"{CLOCK} > /out; sleep 0.5; {CLOCK} >> /out"
    build(PAIR.replace("SHARING", "locked").replace("WORK", work), "--jobs", "2")
    spans = sorted(
        tuple(map(float, output(pybuild, "x", "cat", f"/{name}").split())) for name in "ab"
    )
    assert spans[0][1] <= spans[1][0]


@pytest.mark.parametrize(("sharing", "seen"), [("shared", "2"), ("private", "1")])
def test_sharing_by_two_at_once(build, pybuild, sharing: str, seen: str) -> None:
    meet = "touch /c/$$$(cat /proc/sys/kernel/random/uuid); sleep 1; ls /c | wc -l > /out"
    build(PAIR.replace("SHARING", sharing).replace("WORK", meet), "--jobs", "2")
    assert output(pybuild, "x", "cat", "/a", "/b").split() == [seen, seen]


@pytest.fixture
def start(pybuild, busybox_image, tmp_path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a build of a Dockerfile text; reading from one that hangs ends, as it is killed."""
    with ExitStack() as stack:

        def call(name: str, text: str, *args: str) -> subprocess.Popen[bytes]:
            write(tmp_path / name, {"Dockerfile": text.replace("{base}", busybox_image)})
            process = pybuild.start("build", "--progress=plain", *args, tmp_path / name)
            stack.enter_context(process)
            stack.callback(process.kill)
            hanging = threading.Timer(HANGS_S, process.kill)
            hanging.start()
            stack.callback(hanging.cancel)
            return process

        yield call


def read_until_done(process: subprocess.Popen[bytes], step: str, *, begun: str) -> None:
    """Read what a build says until `step`, a part of its name, is done; `begun` began before."""
    assert process.stderr is not None
    seen, number = [], None
    for line in map(bytes.decode, process.stderr):
        seen.append(line)
        if number is None and step in line:
            assert any(begun in earlier for earlier in seen)
            number = line.split()[0]
        if number is not None and line.startswith(f"{number} DONE"):
            return
    pytest.fail(f"{step} is not done:\n{''.join(seen)}")


def test_two_locked_caches_in_either_order_end(start, pybuild) -> None:
    """Both steps wait between two caches, for one that the test holds: they do not have one each.

    A build's other step gets the only slot because the one that was begun before waits.
    """
    caches = Store.open(pybuild.root).cache_mounts

    def waiting(*names: str) -> subprocess.Popen[bytes]:
        mounts = " ".join(f"--mount=type=cache,sharing=locked,target=/{name}" for name in names)
        text = (
            f"FROM {{base}} AS waits\nRUN {mounts} echo > /w\n"
            f"FROM {{base}} AS goes\nRUN echo {'-'.join(names)} > /g\n"
            "FROM {base}\nCOPY --from=waits /w /w\nCOPY --from=goes /g /g\n"
        )
        process = start("-".join(names), text, "--jobs", "1")
        read_until_done(process, "RUN echo", begun="[waits 2/2]")
        return process

    def held() -> set[str]:
        return {info.key.id for info in caches.mounts() if caches.is_used(info)}

    between = caches.use(CacheMountKey("/m"), sharing="locked", make=os.mkdir, wait=time.sleep)
    first = waiting("1", "m", "2")
    held_by_first = held()
    second = waiting("2", "m", "1")
    assert held() == held_by_first
    between.close()
    for process in (first, second):
        _, log = process.communicate()
        assert process.returncode == 0, log.decode()


def test_the_same_locked_cache_twice_in_one_step(build) -> None:
    mount = "--mount=type=cache,id=c,sharing=locked,target=/"
    build(f"FROM {{base}}\nRUN {mount}a {mount}b touch /a/f && test -e /b/f\n")


def test_a_step_that_waits_for_a_cache_leaves_its_slot_to_others(start, pybuild) -> None:
    """The test holds the cache; with one job, a step without it still gets its turn."""
    caches = Store.open(pybuild.root).cache_mounts
    cache = caches.use(CacheMountKey("/c"), sharing="locked", make=os.mkdir, wait=time.sleep)
    text = (
        "FROM {base} AS waits\nRUN --mount=type=cache,target=/c,sharing=locked echo > /w\n"
        "FROM {base} AS goes\nRUN --mount=type=cache,target=/d,sharing=locked echo free > /g\n"
        "FROM {base}\nCOPY --from=waits /w /w\nCOPY --from=goes /g /g\n"
    )
    process = start("ours", text, "--jobs", "1")
    read_until_done(process, "RUN --mount=type=cache,target=/d", begun="[waits 2/2]")
    cache.close()
    _, log = process.communicate()
    assert process.returncode == 0, log.decode()


def test_a_killed_build_leaves_no_cache_locked(build, pybuild, busybox_image, context) -> None:
    mount = "RUN --mount=type=cache,target=/c,sharing=locked"
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\n{mount} touch /c/begun; echo held; sleep 1000\n"
    )
    process = pybuild.start("build", "--progress=plain", context)
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(b" held"):
            break
    process.kill()
    process.communicate()
    build(f"FROM {{base}}\n{mount} test -e /c/begun\n")
    assert pybuild("system", "prune", "-f").returncode == 0
    assert pybuild("system", "check", "--deep").returncode == 0
    build(f"FROM {{base}}\n{mount} test -e /c/begun && echo still\n")


def test_cache_mounts_are_shown_cleared_and_moved(build, pybuild, tmp_path) -> None:
    fill = (
        "FROM {base}\nRUN --mount=type=cache,target=/c,uid=7 mkdir /c/d; echo abc > /c/d/f;"
        " touch -d '2001-02-03 04:05:06' /c/d/f; echo 12345 > /c/g\n"
        "RUN --mount=type=cache,id=other,target=/o echo > /o/f\n"
    )
    look = (
        "FROM {base}\nRUN --mount=type=cache,target=/c,uid=7 --mount=type=cache,id=other,target=/o"
        " (cd /c; find . -type f | sort; date -r d/f +%Y; stat -c %u /c; ls /o) > /seen 2>&1"
        " || true # {n}\n"
    )
    build(fill)
    listing = pybuild("cache", "mounts", "ls", "--format", "{{.ID}} {{.Size}} {{.Files}}").stdout
    assert listing == "/c 10B 2\nother 1B 1\n"
    tree = pybuild("cache", "mounts", "tree", "--depth=1", "/c").stdout
    assert [line.split() for line in tree.splitlines()] == [
        ["10B", "/c"], ["4B", "d/"], ["6B", "g"]
    ]  # fmt: skip
    archive = tmp_path / "mounts.tar"
    pybuild("cache", "mounts", "export", "-o", archive)
    assert pybuild("cache", "mounts", "rm", "/c").stdout == "/c\n"
    assert pybuild("cache", "mounts", "ls", "-q").stdout == "other\n"
    build(look.replace("{n}", "1"))
    assert "./g" not in output(pybuild, "x", "cat", "/seen")
    assert pybuild("cache", "mounts", "rm", "--all").stdout == "/c\nother\n"
    assert pybuild("cache", "mounts", "import", "-i", archive).stdout == "/c\nother\n"
    build(look.replace("{n}", "2"))
    assert output(pybuild, "x", "cat", "/seen") == "./d/f\n./g\n2001\n7\nf\n"
    for words in (["rm", "none"], ["tree", "none"], ["export", "-o", tmp_path / "x", "none"]):
        result = pybuild("cache", "mounts", *words, check=False)
        assert (result.returncode, result.stderr) == (1, "error: cache mount none: there is none\n")
    assert not (tmp_path / "x").exists()
    assert pybuild("cache", "mounts", "rm", check=False).returncode == 2


# -- tmpfs


def test_a_tmpfs(build, pybuild) -> None:
    build(
        "FROM {base}\nRUN --mount=type=tmpfs,target=/t,size=64k --mount=type=tmpfs,target=/r,ro "
        "stat -f -c %T /t > /kind; df -k /t | tail -n1 | awk '{print $2}' >> /kind;"
        "cp /bin/busybox /t/x 2>/dev/null; rm /t/x;"
        " echo '#!/bin/sh' > /t/s && chmod +x /t/s && /t/s && ! touch /r/f 2>/dev/null\n"
    )
    assert output(pybuild, "x", "cat", "/kind") == "tmpfs\n64\n"
    assert output(pybuild, "x", "sh", "-c", "ls -d /t /r; true") == ""


# -- secret


def everything(root: Path) -> Iterator[tuple[Path, bytes]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_a_secret_is_seen_and_is_nowhere(build, pybuild, context, tmp_path, store_root) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    result = build(
        """FROM {base}
USER app
RUN --mount=type=secret,id=token,uid=1000 --mount=type=secret,id=token,target=/tmp/x,mode=0444 \
  --mount=type=secret,id=token,env=TOKEN \
  set -x; sha256sum < /run/secrets/token; sha256sum < /tmp/x; echo "$TOKEN" | sha256sum; \
  stat -c '%n %a %u %g' /run/secrets/token /tmp/x; cat /tmp/x; echo half $TOKEN half; \
  ! echo > /tmp/x
""",
        "--secret",
        f"id=token,src={tmp_path}/token",
    )
    digest = subprocess.run(["sha256sum"], input=SECRET.encode() + b"\n", capture_output=True)
    assert result.stderr.count(digest.stdout.decode().split()[0]) == 2
    assert "/run/secrets/token 400 1000 0" in result.stderr
    assert "/tmp/x 444 0 0" in result.stderr
    assert "half **** half" in result.stderr
    assert SECRET not in result.stderr
    found = [path for path, data in everything(store_root) if SECRET.encode() in data]
    assert found == []
    assert SECRET not in pybuild("history", "--no-trunc", "x").stdout
    assert SECRET not in pybuild("inspect", "x").stdout
    assert output(pybuild, "x", "sh", "-c", "ls -A /run /tmp 2>&1; true").count("token") == 0


def test_a_secrets_value_does_not_count(build, monkeypatch) -> None:
    text = 'FROM {base}\nRUN --mount=type=secret,id=TOKEN,env=T test -n "$T"\n'
    monkeypatch.setenv("TOKEN", "one-value")
    assert len(ran(build(text, "--secret", "id=TOKEN"))) == 1
    monkeypatch.setenv("TOKEN", "another-value")
    assert ran(build(text, "--secret", "id=TOKEN")) == []
    assert ran(build(text)) == [], "what is cached needs no secret"


def test_absent_secrets(build, tmp_path) -> None:
    build(
        "FROM {base}\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B"
        ' test ! -e /run/secrets && test -z "${B+set}"\n'
    )
    text = "FROM {base}\nRUN --mount=type=secret,id=a,required true\n"
    result = build(text, check=False)
    assert result.returncode == 1
    assert 'Dockerfile:2: secret "a": not given' in result.stderr
    assert "--secret id=a" in result.stderr
    result = build(text, "--secret", f"id=a,src={tmp_path}/none", check=False)
    assert f"secret a: {tmp_path}/none: no such file" in result.stderr


def test_a_secret_through_a_pipe(build, pybuild, tmp_path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(SECRET,))
    writer.start()
    build(
        "FROM {base}\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /n\n"
        "RUN --mount=type=secret,id=s wc -c < /run/secrets/s >> /n\n",
        "--secret",
        f"id=s,src={fifo}",
    )
    writer.join()
    assert output(pybuild, "x", "cat", "/n") == f"{len(SECRET)}\n" * 2


# -- ssh


@pytest.fixture
def agent(tool, tmp_path) -> Iterator[tuple[str, str]]:
    """Return (socket, public key) of a running ssh-agent with one key; its key file is `key`."""
    tool("ssh-agent")
    key = tmp_path / "key"
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the test's", "-f", str(key)]
    subprocess.run(keygen, check=True)
    path = str(tmp_path / "agent.sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    environment = {**os.environ, "SSH_AUTH_SOCK": path}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environment)
    yield path, (tmp_path / "key.pub").read_text().split()[1]
    process.terminate()
    process.wait()
    process.stdout.close()


def copy_program(path: str, folder: Path) -> str:
    """Copy a program of this machine and the libraries it loads; return what runs it there.

    folder: its name is that of its place in the image.
    """
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listed)
    folder.mkdir()
    for found in [path, *libraries]:
        shutil.copy(found, folder)
    (loader,) = (os.path.basename(found) for found in libraries if "/ld-" in found)
    place = f"/{folder.name}"
    return f"{place}/{loader} --library-path {place} {place}/{os.path.basename(path)}"


@pytest.mark.parametrize(
    ("base", "source"),
    [("busybox", "socket"), ("busybox", "environment"), ("busybox", "key")]
    + ([("debian", "socket")] if FULL else []),
)
def test_an_agent(tool, pybuild, context, agent, tmp_path, monkeypatch, request, base, source):
    path, public = agent
    value = {
        "socket": f"default={path}",
        "environment": "default",
        "key": f"default={tmp_path}/key",
    }
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    ssh_add = copy_program(tool("ssh-add"), context / "programs")
    (context / "Dockerfile").write_text(
        f"FROM {request.getfixturevalue(f'{base}_image')}\n"
        "COPY programs /programs\n"
        "RUN --mount=type=ssh,mode=0666"
        " test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && stat -c '%F %a' $SSH_AUTH_SOCK\n"
        "RUN --mount=type=ssh,id=default,target=/a,uid=1 stat -c '%a %u' /a;"
        f" {ssh_add} -L; {ssh_add} -D; echo removal $?\n"
    )
    result = pybuild("-t", "x", "--ssh", value[source], "--progress=plain", context)
    assert "socket 666" in result.stderr
    assert "600 1" in result.stderr
    assert f"ssh-ed25519 {public}" in result.stderr
    assert "removal 1" in result.stderr, "an agent is for signing, not for taking keys away"
    listed = subprocess.run(["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": path})
    assert listed.returncode == 0
    left = output(pybuild, "x", "sh", "-c", "ls -d /run/buildkit /a 2>&1; true")
    assert left.count("No such") == 2


def test_absent_agents(build, monkeypatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    build(
        "FROM {base}\nRUN --mount=type=ssh test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 &&"
        " test ! -e $SSH_AUTH_SOCK\n"
    )
    result = build("FROM {base}\nRUN --mount=type=ssh,required true\n", check=False)
    assert 'ssh agent "default": not given' in result.stderr
    result = build("FROM {base}\nRUN true\n", "--ssh", "default", check=False)
    assert "ssh agent default: no socket and no key" in result.stderr


# -- together, and RUN's other flags


def test_all_mount_points_go_and_parents_keep_their_times(build, pybuild, context) -> None:
    write(context, {"f": ""})
    build(
        "FROM {base}\nRUN mkdir /keep && touch -d '2001-01-01 00:00:00' /keep\n"
        "RUN --mount=target=/keep/new/deep/f,source=f --mount=type=cache,target=/opt/a/b"
        " --mount=type=tmpfs,target=/srv/t --mount=type=secret,id=s,target=/var/s"
        " echo x > /opt/file\n",
        "--secret",
        f"id=s,src={context}/f",
    )
    found = output(
        pybuild, "x", "sh", "-c", "ls -A /keep /srv /var 2>&1; ls -A /opt; stat -c %Y /keep"
    )
    assert found.splitlines()[-2:] == ["file", "978307200"]
    assert "new" not in found
    assert "No such" in found, "/srv is gone too: it was made for a mount"


def test_network_none_and_insecure(build, pybuild) -> None:
    build(
        "FROM {base}\nRUN --network=none ls /sys/class/net > /net\n"
        "RUN --security=insecure grep CapEff /proc/self/status > /caps && mount -t tmpfs x /mnt ||"
        " mkdir /mnt && mount -t tmpfs x /mnt\nRUN grep CapEff /proc/self/status >> /caps\n",
        *("--allow", "security.insecure"),
    )
    assert output(pybuild, "x", "cat", "/net") == "lo\n"
    insecure, sandbox = (
        int(line.split()[1], 16) for line in output(pybuild, "x", "cat", "/caps").splitlines()
    )
    assert sandbox == 0xA80425FB
    assert insecure & ~sandbox
    result = build("FROM {base}\nRUN --security=insecure true\n", check=False)
    assert "Dockerfile:2: security.insecure is not allowed" in result.stderr


def test_a_heredoc_with_its_own_interpreter(build, pybuild) -> None:
    build(
        """FROM {base}
SHELL ["/bin/false"]
RUN <<EOF
#!/bin/sh -u
echo "$0" > /name
stat -c %a "$0" >> /name
! echo >> "$0" 2>/dev/null && echo read-only >> /name
EOF
RUN --mount=type=tmpfs,target=/t <<-'AWK' 
	#!/bin/awk -f
	BEGIN { print "awk" > "/awk" }
AWK
"""
    )
    assert output(pybuild, "x", "cat", "/name", "/awk") == ("/dev/pipes/EOF\n755\nread-only\nawk\n")
    history = pybuild("history", "--no-trunc", "--format", "{{.CreatedBy}}", "x").stdout
    assert "RUN /dev/pipes/EOF # buildkit\n" in history


# -- adoption


GENERATOR = """\
FROM {base}
RUN --mount=target=/in,source=in grep -v ^# /in > /out; mkdir -p /d; ln /out /d/link; chmod 600 /out
RUN sleep 0.01; cat /proc/sys/kernel/random/uuid > /uuid
"""


def test_a_changed_comment_ends_at_the_generator(build, pybuild, context) -> None:
    write(context, {"in": "# one\ndata\n", ".dockerignore": "Dockerfile\n"})
    build(GENERATOR)
    before = image_id(pybuild, "x")
    # The clock has to go on, else equal times prove nothing.
    (mtime,) = {int(output(pybuild, "x", "stat", "-c", "%Y", "/out"))}
    build(f"FROM {{base}}\nRUN while test $(date +%s) -le {mtime}; do sleep 0.05; done\n")
    write(context, {"in": "# two\ndata\n"})
    result = build(GENERATOR)
    assert [step.split()[0:2] for step in ran(result)] == [["RUN", "--mount=target=/in,source=in"]]
    assert image_id(pybuild, "x") == before
    assert int(output(pybuild, "x", "stat", "-c", "%Y", "/out")) == mtime
    assert ran(build(GENERATOR)) == [], "the adopted result is recorded under the new key"
    assert statuses(pybuild)[-2:] == ["cached", "cached"]
    assert "adopted" in statuses(pybuild)
    write(context, {"in": "# two\nother\n"})
    assert len(ran(build(GENERATOR))) == 2
    assert image_id(pybuild, "x") != before
    write(context, {"in": "# three\nother\n"})
    assert len(ran(build(GENERATOR))) == 1
    write(context, {"in": "# four\ndata\n"})
    assert len(ran(build(GENERATOR))) == 1, "an older result is adopted as well"
    assert image_id(pybuild, "x") == before
    assert pybuild("system", "check", "--deep").returncode == 0


def statuses(pybuild) -> list[str]:
    """Return the journal's status of every step, builds in order."""
    import sqlite3

    with sqlite3.connect(pybuild.root / "records.db") as db:
        rows = db.execute(
            "SELECT steps.status FROM steps JOIN builds USING (build_id)"
            " ORDER BY builds.started_ns, steps.number"
        ).fetchall()
    db.close()
    return [row[0] for row in rows]


def test_a_step_that_only_checks_is_cut_off_too(build, pybuild, context) -> None:
    write(context, {"f": "1"})
    text = "FROM {base}\nRUN --mount=target=/c,source=f test -s /c\nRUN date +%N > /n\n"
    build(text)
    before = image_id(pybuild, "x")
    write(context, {"f": "2"})
    assert len(ran(build(text))) == 1
    assert image_id(pybuild, "x") == before


@pytest.mark.parametrize(
    "work",
    {
        "a date from the input": "touch -d $(cat /c) /f",
        "a mode": "touch /f; test $(cat /c) = 2020-01-01 || chmod 600 /f",
        "an owner": "touch /f; test $(cat /c) = 2020-01-01 || chown 5 /f",
        "a link": "touch /f; test $(cat /c) = 2020-01-01 && ln /f /g || touch /g",
        "a whiteout": "test $(cat /c) = 2020-01-01 || rm /etc/group",
        "bytes": "echo $(cat /c) > /f",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_not_adopted(build, pybuild, context, work: tuple[str, str]) -> None:
    text = f"FROM {{base}}\nRUN --mount=target=/c,source=c {work[1]}\nRUN date > /d\n"
    write(context, {"c": "2020-01-01"})
    build(text)
    before = layers(pybuild, "x")
    write(context, {"c": "2021-01-01"})
    assert len(ran(build(text))) == 2
    assert layers(pybuild, "x")[-2] != before[-2]


def test_an_edited_date_is_not_cut_off(build, pybuild) -> None:
    text = "FROM {base}\nRUN touch -d 2020-01-01 /f\nRUN stat -c %Y /f > /y\n"
    build(text)
    old = output(pybuild, "x", "cat", "/y")
    assert len(ran(build(text.replace("2020", "2021")))) == 2
    assert output(pybuild, "x", "cat", "/y") != old


def test_no_cache_adopts_nothing(build, pybuild, context) -> None:
    write(context, {"in": "# one\ndata\n"})
    build(GENERATOR)
    before = image_id(pybuild, "x")
    write(context, {"in": "# two\ndata\n"})
    assert len(ran(build(GENERATOR, "--no-cache"))) == 2
    assert image_id(pybuild, "x") != before
    assert "adopted" not in statuses(pybuild)


def test_a_generator_in_a_stage_of_its_own_is_cut_off_at_the_copy(build, pybuild, context) -> None:
    text = """FROM {base} AS gen
COPY in /in
RUN grep -v ^# /in > /out
FROM {base}
COPY --from=gen /out /out
RUN cat /proc/sys/kernel/random/uuid > /uuid
"""
    write(context, {"in": "# one\ndata\n"})
    build(text)
    before = image_id(pybuild, "x")
    write(context, {"in": "# two\ndata\n"})
    assert len(ran(build(text))) == 1
    assert image_id(pybuild, "x") == before
