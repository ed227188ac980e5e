"""The Python API: what docs/python.md says, and what goes wrong."""

import doctest
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pybuild as api

pytestmark = pytest.mark.kernel

PAGE = Path(__file__).parents[2] / "docs/python.md"
LOOP = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def root(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a store that has `busybox`."""
    folder = str(tmp_path_factory.mktemp("api") / "store")
    with api.Engine(folder) as engine, open(busybox_rootfs, "rb") as file:
        engine.import_rootfs(file, reference="busybox")
    return folder


@pytest.fixture
def here(tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty working directory, with the store as everybody's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYBUILD_ROOT", root)
    before = set(os.listdir("/proc/self/fd"))
    yield tmp_path
    left = set(os.listdir("/proc/self/fd")) - before
    shown = [
        os.readlink(f"/proc/self/fd/{fd}") for fd in left if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert not shown, "descriptors are left open"
    assert root not in Path("/proc/self/mountinfo").read_text()


def test_the_page(here: Path) -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert (failed, tried > 20) == (0, True), tried


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text())
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_everything_that_is_promised_is_there() -> None:
    assert [name for name in api.__all__ if getattr(api, name, None) is None] == []
    assert set(api.__all__) <= set(dir(api))
    with pytest.raises(AttributeError, match="nothing"):
        _ = api.nothing  # type: ignore[attr-defined]


def test_the_import_loads_next_to_nothing() -> None:
    code = "import sys, pybuild; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, typing; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) - set(bare.stdout.split()) == {"pybuild"}


def test_words_that_make_no_sense(here: Path) -> None:
    for options, error in (
        ({"txt": ""}, "unknown option 'txt'"),
        ({"text": "", "dockerfile": "x"}, "contradict"),
    ):
        with pytest.raises(TypeError, match=error):
            api.build(".", **options)  # type: ignore[arg-type]
    with pytest.raises(api.PybuildError, match="names no type"):
        api.build(".", output="dest=x")
    with pytest.raises(TypeError, match="unknown option 'foo'"):
        api.run("busybox", foo=1)  # type: ignore[call-arg]


def test_errors_of_a_build(here: Path) -> None:
    with pytest.raises(api.BuildError, match="no such directory") as context:
        api.build("nowhere")
    assert (context.value.line, context.value.build_id) == (None, None)
    with pytest.raises(api.BuildError) as missing:
        api.build(text="FROM busybox\nCOPY nothing /\n")
    assert (missing.value.line, missing.value.dockerfile) == (2, "Dockerfile")
    text = (
        "FROM busybox AS a\nRUN exit 1\nFROM busybox AS b\nRUN exit 2\nFROM a\nCOPY --from=b / /\n"
    )
    with pytest.raises(api.StepFailed) as both:
        api.build(text=text)
    assert {(each.line, each.exit_code) for each in both.value.errors} <= {(2, 1), (4, 2)}
    for options in ({"output": "nowhere=1"}, {"budget": "size=1"}, {"network": "odd"}):
        with pytest.raises(api.InvalidRequest) as senseless:
            api.build(text="FROM busybox\n", **options)
        assert isinstance(senseless.value, api.BuildError), options
    assert senseless.value.hint
    (here / "mine").touch()
    with pytest.raises(api.BuildError, match=r"open store .*: the folder is no store"):
        api.build(text="FROM busybox\n", root=here)
    with pytest.raises(TypeError):
        api.build(text="FROM busybox\n", outputs="x")
    with pytest.raises(api.BudgetExceeded):
        api.build(text="FROM busybox\n", budget="image=1kB")
    with pytest.raises(api.SecretLeaked) as leaked:
        api.build(
            text="FROM busybox\nRUN --mount=type=secret,id=a cp /run/secrets/a /a\n",
            secrets={"a": b"value-of-it"},
        )
    assert leaked.value.line == 2
    with api.Engine() as engine:
        assert engine.journal().build.build_id == leaked.value.build_id


def test_steps_that_left_no_files(here: Path) -> None:
    with pytest.raises(api.StepFailed) as failed:
        api.build(text="FROM busybox\nRUN echo one > /one\nRUN false\n")
    with api.Engine() as engine:
        assert failed.value.build_id is not None
        with engine.open_step(failed.value.build_id, "2/3") as tree:
            assert tree.read_text("one") == "one\n"
        with pytest.raises(api.PybuildError, match="it failed, so it left no files"):
            engine.open_step(failed.value.build_id, "3/3")
        with pytest.raises(api.PybuildError, match='no step "9"'):
            engine.open_step(failed.value.build_id, 9)
        with pytest.raises(api.StoreError):
            engine.open_image("nothing")


def test_a_trees_links_do_not_lead_out(here: Path) -> None:
    built = api.build(
        text="FROM busybox\nRUN ln -s /etc/own /abs; ln -s ../../../etc/own /up; ln -s /loop /loop;"
        " echo inside > /etc/own; mkfifo /pipe; mkdir /d; ln -s /d /toward\n"
    )
    with built.open() as tree:
        assert tree.read_text("abs") == tree.read_text("/up") == "inside\n"
        assert (tree / "abs").read_text() == "inside\n"
        assert tree.names("toward") == []
        with pytest.raises(OSError, match="symbolic links"):
            tree.read_bytes("loop")
        with pytest.raises(api.PybuildError, match="not a regular file"):
            tree.read_bytes("pipe")
        with pytest.raises(OSError, match="Read-only"):
            (tree.path / "new").touch()
        # For processes of ours, too.
        done = subprocess.run(["ls", tree.path / "etc/own"], capture_output=True, check=False)
        assert done.returncode == 0
    with pytest.raises(api.PybuildError, match="the tree is closed"):
        tree.read_text("abs")


def test_a_container_from_its_start_to_its_end(here: Path) -> None:
    with api.container("busybox", "sh", "-c", LOOP, name="loop", hostname="own") as container:
        assert container.wait_for_log("ready") == "ready"
        assert container.is_running
        assert container.exit_code is None
        with pytest.raises(TimeoutError, match="it still runs"):
            container.wait(timeout_s=0.01)
        with pytest.raises(TimeoutError, match="it did not write 'never'"):
            container.wait_for_log("never", timeout_s=0.01)
        with api.Engine() as engine:
            assert [record.name for record in engine.containers()] == ["loop"]
        done = container.exec("sh", "-c", "hostname >&2; echo $X > /new; exit 7", env={"X": "y"})
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"", b"own\n")
        with pytest.raises(api.CommandFailed, match="exit code 7: own"):
            done.check()
        with pytest.raises(api.RuntimeFailure, match="not found"):
            container.exec("nothing")
        assert container.read_text("/new") == "y\n"
        with container.files() as tree:
            assert tree.exists("/proc/1/status")
        assert container.stop() == 4
        assert container.logs.split() == ["ready", "bye"]
        assert (container.is_running, container.exit_code) == (False, 4)
        assert container.exec("cat", "/new").text == "y\n"
        with pytest.raises(api.ContainerError, match="started before"):
            container.start()
    with pytest.raises(api.ContainerError, match="it has been closed"):
        container.exec("true")
    with api.Engine() as engine:
        assert engine.containers(everything=True) == []


def test_ends_of_containers(here: Path) -> None:
    with api.container("busybox", "sh", "-c", "echo out; exit 9") as container:
        assert container.wait() == 9
        with pytest.raises(api.ContainerError, match="ended with 9 without writing 'x'"):
            container.wait_for_log("x")
    with api.container("busybox", "sh", "-c", "trap '' TERM; echo go; sleep 1000") as container:
        container.wait_for_log("go")
        assert container.stop(timeout_s=0.01) == 137
    with api.container("busybox", "sh", "-c", "echo go; sleep 1000") as left:
        left.wait_for_log("go")
    assert left.exit_code == 137
    with pytest.raises(api.RuntimeFailure):
        api.run("busybox", "nothing")
    with pytest.raises(api.ImageMissing):
        api.run("nothing:here", pull="never")
    with api.container("busybox", start=False) as idle:
        with pytest.raises(api.ContainerError, match="it was not started"):
            idle.wait()
        assert idle.exec("sh", "-c", "echo $0 > /f; id -u", user="7").text == "7\n"
    with api.Engine() as engine:
        assert engine.containers(everything=True) == []


def test_folders_of_this_machine(here: Path) -> None:
    (here / "data").mkdir()
    (here / "data/f").write_text("shared\n")
    script = "cat /data/f; touch /data/no; touch /out/yes"
    (here / "out").mkdir()
    done = api.run("busybox", "sh", "-c", script, folders={"data": "/data:ro", "out": "/out"})
    assert done.text == "shared\n"
    assert os.listdir("data") == ["f"]
    assert os.listdir("out") == ["yes"]


def test_containers_end_with_the_process(here: Path) -> None:
    code = (
        "import pybuild, os, signal\n"
        "c = pybuild.container('busybox', 'sh', '-c', 'echo go; sleep 1000')\n"
        "c.wait_for_log('go'); print(c.id, c._pid, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    for end in ("", f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"):
        done = subprocess.run(
            [sys.executable, "-c", code + end], env=environment, capture_output=True, text=True
        )
        name, pid = done.stdout.split()
        try:
            fd = os.pidfd_open(int(pid))
        except ProcessLookupError:
            pass
        else:
            assert select.select([fd], [], [], 20)[0]
            os.close(fd)
        with api.Engine() as engine:
            deadline = time.monotonic() + 20
            while name in [record.id for record in engine.containers()]:
                assert time.monotonic() < deadline, "its launcher holds it for a moment only"
