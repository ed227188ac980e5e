"""The pytest plugin: the example of docs/python.md, what failures look like, what it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pybuild as api

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.kernel

PAGE = Path(__file__).parents[2] / "docs/python.md"
DOCKERFILE = "FROM busybox\nARG VERSION=1.2\nRUN echo $VERSION > /version\n"


@pytest.fixture(scope="module")
def root(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin") / "store"
    with api.Engine(str(folder)) as engine, open(busybox_rootfs, "rb") as file:
        engine.import_rootfs(file, reference="busybox")
    return folder


@pytest.fixture
def tested(pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function: tested(text) runs a test file with the plugin, in a process of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))
    (pytester.path / "app").mkdir()
    (pytester.path / "app/Dockerfile").write_text(DOCKERFILE)

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess(
            "-p", "pybuild.pytest_plugin", f"--pybuild-root={root}", "--strict-markers", *options
        )

    return run


def test_the_example_of_the_page(tested, root: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    tested(example).assert_outcomes(passed=5)
    with api.Engine(str(root)) as engine:
        assert engine.containers(everything=True) == []


def test_what_failures_look_like(tested) -> None:
    result = tested(
        """
        import pytest

        def test_build(built_image):
            built_image("app", text="FROM busybox\\nRUN echo no compiler; exit 3\\n")

        @pytest.mark.pybuild("app")
        def test_logs(container):
            made = container(None, "echo", "words of the container")
            made.wait()
            assert made.exit_code == 1

        def test_no_image(container):
            container()
        """
    )
    result.assert_outcomes(failed=3)
    shown = result.stdout.str()
    assert re.search(r"StepFailed: Dockerfile:2: .*exit code: 3", shown)
    assert re.search(r"^E +no compiler$", shown, re.MULTILINE)
    assert re.search(r"-+ container \w+ -+\nwords of the container", shown)
    assert "name an image, or mark the test with @pytest.mark.pybuild(context)" in shown


def test_the_mark_of_a_class_and_the_nearest_one(tested) -> None:
    tested(
        """
        import pytest

        @pytest.mark.pybuild("app", build_args={"VERSION": "class"})
        class TestApp:
            def test_class(self, built_image):
                assert built_image.run("cat", "/version").text == "class\\n"

            @pytest.mark.pybuild("app")
            def test_own(self, built_image):
                assert built_image.run("cat", "/version").text == "1.2\\n"
        """
    ).assert_outcomes(passed=2)


def test_pytest_starts_without_the_rest_of_pybuild(tmp_path: Path) -> None:
    code = "import sys, pytest, pybuild.pytest_plugin; print(*sys.modules)"
    bare = "import sys, pytest; print(*sys.modules)"
    environment = {"PYTHONPATH": str(PAGE.parents[1]), "PATH": "/usr/bin:/bin"}
    loaded = [
        set(
            subprocess.run(
                [sys.executable, "-c", text],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
        )
        for text in (bare, code)
    ]
    assert loaded[1] - loaded[0] == {"pybuild", "pybuild.pytest_plugin"}


def test_no_module_of_ours_is_rewritten(pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = pytester.mkdir("site") / "pybuild-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: pybuild\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("[pytest11]\npybuild = pybuild.pytest_plugin\n")
    (installed / "RECORD").write_text("builder/__init__.py,,\npybuild/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", f"{installed.parent}:{PAGE.parents[1]}")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    pytester.makepyfile(
        """
        def test_loaders():
            import builder.request, pybuild.errors
            for module in (builder, builder.request, pybuild.errors):
                assert type(module.__loader__).__name__ == "SourceFileLoader"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
