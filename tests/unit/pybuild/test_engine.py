"""The Engine: where its store is, when it opens, and docker's view of images."""

import subprocess
import sys
from pathlib import Path

import pytest

import pybuild
from pybuild.engine.core import default_root, require_privilege
from pybuild.engine.engine import Engine
from pybuild.engine.images import describe, history, images
from pybuild.engine.info import host_platform
from pybuild.errors import NotPrivileged
from runtime.rootless.mode import missing_capabilities
from store.errors import InvalidReference
from store.oci import ContainerConfig, HistoryEntry, ImageConfig
from store.reference import Reference
from store.root import Store


def test_the_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBUILD_ROOT", "/chosen")
    assert default_root() == "/chosen"
    monkeypatch.delenv("PYBUILD_ROOT")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_root() == "/var/lib/pybuild"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_root() == "/data/pybuild"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_root() == "/home/me/.local/share/pybuild"


def test_the_store_opens_when_it_is_needed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Engine(str(root)) as engine:
        assert not root.exists()
        assert engine.images() == []
        assert root.is_dir()
        assert engine.store is engine.store


def test_the_package_has_an_engine_but_does_not_import_it() -> None:
    assert pybuild.Engine is Engine
    with pytest.raises(AttributeError, match="nothing"):
        pybuild.nothing  # noqa: B018
    code = "import pybuild, sys; print('pybuild.engine.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_privileges() -> None:
    missing = missing_capabilities()
    if not missing:
        require_privilege("build")
        return
    with pytest.raises(NotPrivileged, match="build: not enough privilege"):
        require_privilege("build")


def test_the_platform_is_the_image_specs() -> None:
    system, architecture = host_platform().split("/", 1)
    assert system == "linux"
    assert architecture not in ("x86_64", "aarch64")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


CONFIG = ImageConfig(
    architecture="amd64",
    os="linux",
    created="2026-01-02T00:00:00Z",
    author="me",
    config=ContainerConfig(cmd=("sh",), labels=(("k", "v"),)),
    history=(
        HistoryEntry("2026-01-01T00:00:00Z", "base", comment="first", empty_layer=True),
        HistoryEntry("2026-01-02T00:00:00Z", "CMD sh", empty_layer=True),
    ),
)


def test_describe_is_dockers_inspect(store: Store) -> None:
    image = store.images.add(CONFIG, references=[Reference.parse("a:1"), Reference.parse("b/c:2")])
    seen = describe(image)
    assert seen["Id"] == image.id
    assert seen["RepoTags"] == ["a:1", "b/c:2"]
    assert seen["Config"] == {"Cmd": ["sh"], "Labels": {"k": "v"}}
    assert seen["RootFS"] == {"Type": "layers", "Layers": []}
    assert (seen["Comment"], seen["Author"], seen["Created"]) == (
        "first",
        "me",
        "2026-01-02T00:00:00Z",
    )
    assert "Variant" not in seen
    assert str(seen["Metadata"]["LastTagTime"]).endswith("Z")  # type: ignore[index]


def test_history_is_newest_first_and_only_the_top_has_an_id(store: Store) -> None:
    image = store.images.add(CONFIG)
    lines = history(store, image)
    assert [(line.image_id, line.created_by) for line in lines] == [
        (image.id, "CMD sh"),
        (None, "base"),
    ]


def test_images_by_pattern(store: Store) -> None:
    names = [Reference.parse(name) for name in ("debian:12", "debian:13", "x.example/team/web:1")]
    store.images.add(CONFIG, references=names)

    def found(pattern: str | None) -> list[str]:
        return [name.familiar() for _, names in images(store, pattern) for name in names]

    assert found(None) == ["debian:12", "debian:13", "x.example/team/web:1"]
    assert found("debian") == ["debian:12", "debian:13"]
    assert found("debian:13") == ["debian:13"]
    assert found("*/team/*") == ["x.example/team/web:1"]
    assert found("docker.io/library/debian:12") == ["debian:12"]
    assert found("nothing") == []


def test_a_name_with_a_digest_cannot_be_given(tmp_path: Path) -> None:
    with Engine(str(tmp_path / "store")) as engine:
        image = engine.store.images.add(CONFIG)
        with pytest.raises(InvalidReference, match="a name with a digest cannot be given"):
            engine.tag(image.id, f"x@sha256:{'0' * 64}")
