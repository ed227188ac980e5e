"""A pytest plugin for testing images: fixtures that build them and run containers of them.

pytest loads it at every start, so it imports nothing of ours but names. See docs/python.md,
"Testing images".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

import pybuild

if TYPE_CHECKING:
    from pybuild.buildoptions import BuildOptions
    from pybuild.holding import ContainerOptions

MARK = "pybuild"
PACKAGES = frozenset(
    ("values", "grammar", "store", "registry_client", "runtime", "builder", "pybuild")
)
_CONTAINERS: pytest.StashKey[list[pybuild.Container]] = pytest.StashKey()


class BuildImage(Protocol):
    """What `build_image` is, and `built_image` in a test without the mark."""

    def __call__(
        self, context: str | os.PathLike[str] = ".", **options: Unpack[BuildOptions]
    ) -> pybuild.Build:
        """Build; a relative context is below pytest's root directory."""


class StartContainer(Protocol):
    """What `container` is."""

    def __call__(
        self,
        image: str | pybuild.Build | None = None,
        *command: str,
        start: bool = True,
        **options: Unpack[ContainerOptions],
    ) -> pybuild.Container:
        """Return a container of an image, by default of the one that the mark builds."""


class _AsWritten:
    """Finds this program's modules as Python does, before pytest's own finder is asked.

    That one rewrites the asserts of everything that comes with a plugin, when it is imported first.
    The steps of a build import in threads, and two threads may not make trees of source code at
    once before Python 3.11.8: SystemError (python/cpython issue 106905).
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None, /
    ) -> ModuleSpec | None:
        """Return where the module is, or None if it is not ours."""
        return PathFinder.find_spec(name, path) if name.partition(".")[0] in PACKAGES else None


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Leave this program's modules as they are written, from here on."""
    sys.meta_path.insert(0, _AsWritten)
    early_config.add_cleanup(lambda: sys.meta_path.remove(_AsWritten))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --pybuild-root."""
    parser.getgroup("pybuild", "images").addoption(
        "--pybuild-root",
        metavar="DIR",
        help="the folder of the store that images are built in (PYBUILD_ROOT)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    line = f"{MARK}(context='.', **options): build the image of `built_image` and `container`"
    config.addinivalue_line("markers", line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the containers of a test that failed wrote."""
    report = yield
    if report.when == "call" and report.failed:
        for made in item.stash.get(_CONTAINERS, []):
            report.sections.append((f"container {made.name}", made.logs))
    return report


@pytest.fixture(scope="session")
def pybuild_root(request: pytest.FixtureRequest) -> str | None:
    """The folder of the store: --pybuild-root, or None for the usual one."""
    root = request.config.getoption("--pybuild-root")
    return os.path.abspath(root) if root else None


@pytest.fixture(scope="session")
def build_image(pytestconfig: pytest.Config, pybuild_root: str | None) -> BuildImage:
    """A function that builds: `build_image("app", target="test")` is a pybuild.Build."""

    def build(
        context: str | os.PathLike[str] = ".", **options: Unpack[BuildOptions]
    ) -> pybuild.Build:
        where = os.fspath(context)
        if "://" not in where:
            where = os.path.join(pytestconfig.rootpath, where)
        return pybuild.build(where, root=pybuild_root, **options)

    return build


@pytest.fixture
def built_image(
    request: pytest.FixtureRequest, build_image: BuildImage
) -> pybuild.Build | BuildImage:
    """The image of `@pytest.mark.pybuild(context, **options)`; without it what `build_image` is."""
    mark = request.node.get_closest_marker(MARK)
    return build_image if mark is None else build_image(*mark.args, **mark.kwargs)


@pytest.fixture
def container(request: pytest.FixtureRequest, pybuild_root: str | None) -> Iterator[StartContainer]:
    """A function that starts containers, which are killed and removed after the test.

    `container(image, *command, start=True, **options)` is a pybuild.Container; without an image it
    is one of `built_image`.
    """
    made = request.node.stash.setdefault(_CONTAINERS, [])
    with ExitStack() as stack:

        def start(
            image: str | pybuild.Build | None = None,
            *command: str,
            start: bool = True,
            **options: Unpack[ContainerOptions],
        ) -> pybuild.Container:
            if image is None:
                image = _marked(request)
            name = image if isinstance(image, str) else image.image_id
            if name is None:
                raise pybuild.PybuildError("the build made no image to run")
            found = pybuild.container(name, *command, start=start, root=pybuild_root, **options)
            made.append(stack.enter_context(found))
            return found

        yield start


def _marked(request: pytest.FixtureRequest) -> pybuild.Build:
    found = request.getfixturevalue("built_image")
    if not isinstance(found, pybuild.Build):
        raise pytest.UsageError(
            f"container(): name an image, or mark the test with @pytest.mark.{MARK}(context)"
        )
    return found
