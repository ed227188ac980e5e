"""What a container executes, in which environment, and what becomes of its record."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.engine import containers, foreground, records
from pybuild.engine.records import ContainerRecord
from pybuild.engine.runrequest import HostFolder, RunRequest
from pybuild.errors import ContainerError, ImageMissing
from store.locks import held
from store.oci import ContainerConfig
from store.root import Store

BOTH = ContainerConfig(entrypoint=("entry", "e1"), cmd=("cmd",), env=("PATH=/bin", "A=1"))


@pytest.mark.parametrize(
    ("config", "entrypoint", "command", "args"),
    [
        (BOTH, None, None, ("entry", "e1", "cmd")),
        (BOTH, None, ("x", "y"), ("entry", "e1", "x", "y")),
        (BOTH, ("own",), None, ("own",)),
        (BOTH, ("own",), ("x",), ("own", "x")),
        (BOTH, (), ("x",), ("x",)),
        (ContainerConfig(cmd=("cmd",)), None, None, ("cmd",)),
        (ContainerConfig(cmd=("cmd",)), None, ("x",), ("x",)),
        (ContainerConfig(entrypoint=("entry",)), None, None, ("entry",)),
    ],
)
def test_entry_point_and_command_override_as_dockers(
    config: ContainerConfig,
    entrypoint: tuple[str, ...] | None,
    command: tuple[str, ...] | None,
    args: tuple[str, ...],
) -> None:
    request = RunRequest(image="i", entrypoint=entrypoint, command=command)
    assert containers.command_of(config, request) == args


@pytest.mark.parametrize(
    ("config", "entrypoint"), [(ContainerConfig(), None), (BOTH, ()), (ContainerConfig(), ())]
)
def test_nothing_to_execute(config: ContainerConfig, entrypoint: tuple[str, ...] | None) -> None:
    with pytest.raises(ContainerError, match="run i: no command specified"):
        containers.command_of(config, RunRequest(image="i", entrypoint=entrypoint))


def test_the_environment_is_dockers_then_the_images_then_the_requests() -> None:
    request = RunRequest(image="i", env=("A=2", "B=x=y", "HOSTNAME"))
    assert containers.environment_of(BOTH, request, "box") == ("PATH=/bin", "A=2", "B=x=y")
    bare = containers.environment_of(ContainerConfig(), RunRequest(image="i", tty=True), "box")
    assert bare[0].startswith("PATH=/usr/local/sbin:")
    assert bare[1:] == ("HOSTNAME=box", "TERM=xterm")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def record(store: Store, **changes: object) -> ContainerRecord:
    made = ContainerRecord(
        id="c" * 64,
        name="name",
        image_id="sha256:" + "1" * 64,
        image_name="i",
        args=("true",),
        layers=(),
        created="2026-01-01T00:00:00Z",
        snapshot="s",
    )
    made = replace(made, **changes)  # type: ignore[arg-type]
    records.save(store.root, made)
    folder = Path(store.root, "snapshots", "s")
    folder.mkdir()
    (folder / "lock").touch()
    return made


def test_a_missing_image_is_its_own_error_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(ImageMissing, match="unable to find image 'no:such' locally"):
        foreground.run(store, RunRequest(image="no:such", pull="never"))
    assert os.listdir(Path(store.root, "containers")) == []


def test_a_container_whose_lock_is_held_runs(store: Store) -> None:
    running = record(store)
    with held(os.path.join(store.root, "snapshots", "s", "lock")):
        assert containers.listed(store, everything=False) == [running]
        with pytest.raises(ContainerError, match="remove container name: it is running"):
            containers.remove(store, "name", force=False)


def test_a_container_without_its_supervisor_has_ended(store: Store) -> None:
    record(store)
    assert containers.listed(store, everything=False) == []
    (lost,) = containers.listed(store, everything=True)
    assert (lost.state, lost.exit_code, lost.error) == ("exited", 137, "supervisor lost")
    assert records.load_all(store) == [lost]
    containers.remove(store, "name", force=False)
    assert os.listdir(Path(store.root, "snapshots")) == []


def test_what_was_not_to_be_kept_goes(store: Store) -> None:
    record(store, remove=True)
    assert containers.listed(store, everything=True) == []
    assert records.load_all(store) == []
    assert os.listdir(Path(store.root, "snapshots")) == []


def test_inspected(store: Store) -> None:
    record(store, state="exited", exit_code=3, folders=(("/a", "/b", True),), labels=(("k", "v"),))
    seen = containers.inspected(store, "name")
    assert seen is not None
    assert seen["Name"] == "/name"
    assert seen["State"]["ExitCode"] == 3  # type: ignore[index]
    assert seen["HostConfig"]["Binds"] == ["/a:/b:ro"]  # type: ignore[index]
    assert containers.inspected(store, "other") is None


def test_a_missing_folder_of_the_host_is_made_for_v_and_refused_for_mount(tmp_path: Path) -> None:
    new = HostFolder(f"{tmp_path}/new/deep", "/data")
    containers._host_folders(RunRequest(image="i", folders=(new,)))
    assert Path(new.source).is_dir()
    absent = HostFolder(f"{tmp_path}/absent", "/data", must_exist=True)
    with pytest.raises(ContainerError, match=r"bind source path does not exist: .*/absent"):
        containers._host_folders(RunRequest(image="i", folders=(absent,)))
    assert not Path(absent.source).exists()
